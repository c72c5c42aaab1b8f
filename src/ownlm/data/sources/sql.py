"""The rows of a query against SQLite or PostgreSQL, brought into a JSON Lines file to be read like any other.

JSON Lines and not a typed table, since SQLite's columns hold values of any type, and since its lines can be read in
pieces. The URL may hold a password, so no error and no file says more of it than the kind and the database's name.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...errors import DataError, FetchError, MissingExtra
from .options import SourceOptions
from .rows import plain

ROWS = "rows.jsonl"
# Rows that the server sends at a time.
_BATCH = 1000


def fetch_query(source: SourceOptions, folder: Path) -> None:
    """Runs a source's query and writes its rows to ``rows.jsonl`` in a folder, a batch at a time.

    Only the query runs, in a transaction that may only read; a SQLite file is opened for reading only.

    Raises:
        DataError: the URL, the file or the query is wrong, or two columns have one name.
        FetchError: the database cannot be reached.
        MissingExtra: a library that it needs is not installed.
    """
    try:
        import sqlalchemy
        from sqlalchemy import exc
    except ImportError:
        raise MissingExtra("reading a database", "data") from None
    url = _url(source)
    where = database_name(url)
    try:
        engine = _engine(url)
    except ImportError:
        raise MissingExtra(f"reading {url.get_backend_name()}", "data") from None
    reached = False
    try:
        with engine.connect() as connection:
            reached = True
            options: dict[str, Any] = {"stream_results": True, "yield_per": _BATCH, "no_parameters": True}
            if url.get_backend_name() == "postgresql":
                options["postgresql_readonly"] = True
            result = connection.execution_options(**options).exec_driver_sql((source.query or "").strip().rstrip(";"))
            with (folder / ROWS).open("w", encoding="utf-8") as file:
                for row in _rows(result, where):
                    # ASCII, so that text that is not UTF-8 shows as half characters when it is read.
                    file.write(json.dumps(row) + "\n")
    except exc.OperationalError as error:
        if "connect" in str(error.orig).lower() or not reached:
            raise FetchError(f"the database cannot be reached: {_said(error, url)}", where=where) from None
        raise DataError(f"the query fails: {_said(error, url)}", where=where) from None
    except (exc.SQLAlchemyError, sqlalchemy.exc.DBAPIError) as error:
        raise DataError(f"the query fails: {_said(error, url)}", where=where) from None
    finally:
        engine.dispose()


def address(source: SourceOptions) -> str:
    """The URL of a source's database, from the environment where the recipe names a variable.

    Raises:
        DataError: there is no such variable.
    """
    assert source.sql is not None
    given = source.sql.get_secret_value()
    if not given.startswith("$"):
        return given
    name = given.removeprefix("$").strip("{}")
    if not os.environ.get(name):
        raise DataError(f"the environment has no variable {name}", where=source.name)
    return os.environ[name]


def without_password(url: str) -> str:
    """A URL as it may be told apart from others, and written into a name by its hash."""
    url = re.sub(r"(://[^/@:]*):[^@]*@", r"\1@", url)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1", url)


def database_name(url: Any) -> str:
    """What may be said of a URL: its kind and its database's name."""
    name = Path(url.database).name if url.database else ""
    return f"{url.get_backend_name()} {name}".strip()


def _url(source: SourceOptions) -> Any:
    from sqlalchemy import exc, make_url

    hint = "write sqlite:///file.db or postgresql://user@host/name"
    try:
        url = make_url(address(source))
    except (exc.ArgumentError, ValueError):
        raise DataError("this is no database's URL", where=source.name, hint=hint) from None
    backend = {"postgres": "postgresql"}.get(url.get_backend_name(), url.get_backend_name())
    if backend not in ("sqlite", "postgresql"):
        raise DataError(f"databases of the kind '{backend}' are not read", where=source.name, hint=hint)
    if backend == "sqlite" and (not url.database or not Path(url.database).is_file()):
        raise DataError("there is no such database file", where=f"{source.name}: {url.database or 'no file'}")
    return url.set(drivername="postgresql+psycopg" if backend == "postgresql" else "sqlite")


def _engine(url: Any) -> Any:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if url.get_backend_name() == "postgresql":
        return create_engine(url, poolclass=NullPool)

    def connect() -> sqlite3.Connection:
        path = quote(str(Path(url.database).resolve()))
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        # Text in another encoding must not stop the whole query.
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        return connection

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _rows(result: Any, where: str) -> Iterator[dict[str, Any]]:
    names = list(result.keys())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"two columns are called '{twice}'", where=where, hint="give one another name with AS")
    for row in result:
        yield {name: plain(value) for name, value in zip(names, row, strict=True)}


def _said(error: Any, url: Any) -> str:
    """The database's own words, without the query and without the password."""
    said = str(getattr(error, "orig", None) or error).strip()
    said = " ".join(said.split("\n")[0].split())
    for secret in (url.password, *url.query.values()):
        for part in (secret,) if isinstance(secret, str) else secret or ():
            said = said.replace(part, "***").replace(quote(part), "***")
    return said
