"""A database by its URL: how it is reached, read and written, and its errors in one sentence.

SQLite is a file in WAL mode with full synchronisation, PostgreSQL commits synchronously: a transaction that ended is on
the disk. The URL may hold a password, so no error says more of it than the kind and the database's name.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from ..errors import DamagedError, MissingExtra, OwnlmError, StorageError, UserError
from ..files import storage_errors

HINT = "write sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/NAME"
# How long SQLite waits for another process's write, in seconds.
PATIENCE = 60.0
_Turn = type(threading.Lock())
# How a transaction on SQLite begins.
_BEGIN = "ownlm_begin"


class Database:
    """Transactions on one database, from any thread.

    Args:
        url: ``sqlite:///FILE``, ``postgresql://...``, or the path of a file.

    Attributes:
        name: what may be said of the URL.

    Raises:
        UserError: the URL is wrong, or names another kind of database.
        MissingExtra: the driver is not installed.
        StorageError: the folder or the file cannot be made.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        database = self.url.database or ""
        self.name = database if self.is_sqlite else f"postgresql {database}".strip()
        if self.is_sqlite:
            _make_file(Path(database))
        self.engine = _engine(self.url, self.is_sqlite)
        # SQLite has one writer at a time; threads queue here in order, where its own lock is polled for.
        self._turn: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if self.is_sqlite else contextlib.nullcontext()
        )

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        level: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._errors(), self.engine.connect() as connection:
            with connection.execution_options(**level).begin():
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is durable once the block has ended, and undone where it raises."""
        with self._errors(), self._turn, self.engine.connect() as connection:
            with connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin():
                yield connection

    @contextlib.contextmanager
    def writing_now(self) -> Iterator[Connection]:
        """As ``writing``, for what is not worth waiting for.

        Raises:
            StorageError: somebody else writes just now.
        """
        busy = StorageError("the store is busy", where=self.name, hint="try again in a moment")
        if isinstance(self._turn, _Turn):
            if not self._turn.acquire(blocking=False):
                raise busy
            self._turn.release()
        with self._errors(), self._turn, self.engine.connect() as connection:
            with self._impatient(connection), connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin():
                if not self.is_sqlite:
                    connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
                yield connection

    @contextlib.contextmanager
    def _impatient(self, connection: Connection) -> Iterator[None]:
        """On this connection SQLite does not wait for other processes."""
        driver: Any = connection.connection.driver_connection
        if self.is_sqlite:
            driver.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            if self.is_sqlite:
                driver.execute(f"PRAGMA busy_timeout = {int(1000 * PATIENCE)}")

    def empty_log(self) -> None:
        """Brings SQLite's log into its file and cuts it to nothing, as far as readers let it; nothing elsewhere."""
        if self.is_sqlite:
            with self._errors(), self._turn, self.engine.connect() as connection:
                # A checkpoint is no part of any transaction.
                connection.execution_options(**{_BEGIN: ""}).exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError:
            # What that means, only the caller can say.
            raise
        except exc.TimeoutError:
            raise StorageError(
                "the store is busy: no connection became free", where=self.name, hint="try again in a moment"
            ) from None
        except exc.SQLAlchemyError as error:
            raise self._told(error) from None

    def _told(self, error: exc.SQLAlchemyError) -> OwnlmError:
        said = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        for secret in (self.url.password, quote(self.url.password or "", safe="")):
            said = said.replace(secret, "***") if secret else said
        said = " ".join(said.split()).rstrip(".")
        if "malformed" in said or "not a database" in said:
            return DamagedError(
                f"the store cannot be read: {said}",
                where=self.name,
                hint="move the file away, or bring it back from a backup",
            )
        hints = {
            "locked": "another program holds the store; close it, or try again",
            "full": "free some space; nothing that was written before is lost",
            "readonly": "choose a store that you may write to, with --store",
        }
        hint = next((text for sign, text in hints.items() if sign in said), None)
        hint = hint or ("is the database running?" if not self.is_sqlite else None)
        return StorageError(f"the store does not answer: {said}", where=self.name, hint=hint)


def _parse(text: str) -> URL:
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        raise UserError("this is no database's URL", where="--store", hint=HINT) from None
    backend = {"postgres": "postgresql"}.get(url.get_backend_name(), url.get_backend_name())
    if backend not in ("sqlite", "postgresql"):
        raise UserError(f"a store cannot be a database of the kind '{backend}'", where="--store", hint=HINT)
    if backend == "sqlite" and (not url.database or url.database == ":memory:" or url.query):
        raise UserError("a store needs a file", where="--store", hint=HINT)
    return url.set(drivername="postgresql+psycopg" if backend == "postgresql" else "sqlite")


def _make_file(path: Path) -> None:
    """An empty file that only its owner may read, since conversations are private; SQLite makes one for everybody."""
    if path.is_dir():
        raise UserError("this is a folder, a store is a file", where=str(path), hint=HINT)
    with storage_errors(path), contextlib.suppress(FileExistsError):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _engine(url: URL, is_sqlite: bool) -> Engine:
    # A server's threads may all be at the store at once, and each holds a connection for milliseconds.
    pool: dict[str, Any] = {"pool_size": 8, "max_overflow": 56, "pool_timeout": PATIENCE}
    if is_sqlite:
        engine = create_engine(url, connect_args={"timeout": PATIENCE}, **pool)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        # The server may have been started again since a connection was last used.
        engine = create_engine(url, connect_args={"connect_timeout": 10}, pool_pre_ping=True, **pool)
    except ModuleNotFoundError:
        raise MissingExtra("a store in PostgreSQL", "serve") from None
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # Transactions are begun below, where it is known whether they write.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Readers and a writer do not wait for each other with a write-ahead log. The file keeps that setting.
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
    # FULL: the log is synchronised at each commit; WAL's usual NORMAL may lose the last ones when the power fails.
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later could find that another has written in between.
    if begin := connection.get_execution_options().get(_BEGIN, "BEGIN"):
        connection.exec_driver_sql(begin)


def _prepare_postgresql(connection: Any, record: Any) -> None:
    # A server may be set to say that it has written before it has.
    with connection.cursor() as cursor:
        if cursor.execute("SHOW synchronous_commit").fetchone()[0] == "off":
            cursor.execute("SET synchronous_commit = on")
    connection.commit()
