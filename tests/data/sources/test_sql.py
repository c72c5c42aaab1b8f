"""Rows of real databases: SQLite and PostgreSQL."""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ownlm.data.sources import Failure, ReadLimits, SourceOptions, fetch_source, list_units, read_unit
from ownlm.errors import DataError, FetchError, OwnlmError

if TYPE_CHECKING:
    from ...conftest import Postgres

pytest.importorskip("sqlalchemy")

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SCHEMA = """
CREATE TABLE messages (ticket integer, sent timestamp, who text, said text);
INSERT INTO messages VALUES (2, '2024-01-01 10:00', 'customer', 'Ünd?'), (1, '2024-01-01 11:01', 'agent', 'Hello');
INSERT INTO messages VALUES (1, '2024-01-01 11:00', 'customer', 'Hi'), (2, '2024-01-01 10:01', 'agent', '50% : done');
CREATE TABLE texts (id integer, body text, price numeric(8, 2));
INSERT INTO texts VALUES (1, 'One', 1.5), (2, 'Two', NULL);
"""
QUERY = "SELECT ticket, who, said FROM messages ORDER BY ticket, sent"
FOLD = {"conversation": "ticket", "role": "who", "content": "said"}


def read(source: SourceOptions, folder: Path) -> tuple[list, list[Failure]]:
    fetched = fetch_source(source, folder)
    units, failures = list_units(fetched, ReadLimits())
    found = [record for unit in units for record in read_unit(unit, fetched, ReadLimits())]
    failures += [record for record in found if isinstance(record, Failure)]
    return [record for record in found if not isinstance(record, Failure)], failures


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.executescript(SCHEMA)
    connection.close()
    return f"sqlite:///{tmp_path / 'shop.db'}"


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        connection.execute(SCHEMA)
        body = "LANGUAGE sql AS 'DELETE FROM texts RETURNING body'"
        connection.execute(f"CREATE FUNCTION emptied() RETURNS text {body}")
    yield postgres


@pytest.mark.parametrize("database", ["sqlite", "server"])
def test_conversations_and_texts(tmp_path: Path, request: pytest.FixtureRequest, database: str) -> None:
    given = request.getfixturevalue(database)
    url = given if database == "sqlite" else given.url
    chats = SourceOptions(name="chats", sql=url, query=QUERY + ";", columns=FOLD)
    documents, failures = read(chats, tmp_path / "fetched")
    assert failures == []
    assert [document.messages for document in documents] == [
        CHAT,
        [{"role": "user", "content": "Ünd?"}, {"role": "assistant", "content": "50% : done"}],
    ]
    assert [(document.source, document.group, document.line) for document in documents] == [
        ("chats", "1", 1),
        ("chats", "2", 3),
    ]
    query = "SELECT id, body, price FROM texts WHERE body NOT LIKE '%x:y%' ORDER BY id"
    texts = SourceOptions(name="texts", sql=url, query=query, columns={"id": "id", "metadata": ["price"]})
    documents, failures = read(texts, tmp_path / "fetched")
    assert [(document.content, document.metadata["id"]) for document in documents] == [("One", 1), ("Two", 2)]
    assert [float(document.metadata["price"] or 0) for document in documents] == [1.5, 0]


def test_types_of_postgresql(tmp_path: Path, server: Postgres) -> None:
    query = f"""SELECT '{json.dumps(CHAT)}'::jsonb AS messages,
        '2024-01-02 03:04:05+00'::timestamptz AS sent, ARRAY[1, 2] AS numbers, NULL AS nothing, 1.50::numeric AS price,
        '\\x6869'::bytea AS raw, 'Infinity'::float8 AS endless, true AS yes, gen_random_uuid() IS NOT NULL AS made"""
    names = ["sent", "numbers", "nothing", "price", "raw", "endless", "yes", "made"]
    ([document], _) = read(SourceOptions(name="x", sql=server.url, query=query, columns={"metadata": names}), tmp_path)
    assert document.messages == CHAT
    sent = document.metadata.pop("sent")
    assert datetime.datetime.fromisoformat(sent).timestamp() == 1704164645
    assert list(document.metadata.values()) == [[1, 2], None, "1.50", "hi", "inf", True, True]


def test_rows_come_through_a_cursor_of_the_servers(tmp_path: Path, server: Postgres) -> None:
    """The server keeps the result and sends a batch at a time, which its own list of cursors shows."""
    source = SourceOptions(name="x", sql=server.url, query="SELECT statement AS text FROM pg_cursors")
    ([document], _) = read(source, tmp_path)
    assert "pg_cursors" in document.content
    many = "SELECT repeat(i::text, 3) AS text FROM generate_series(1, 4001) i ORDER BY i"
    documents, _ = read(SourceOptions(name="x", sql=server.url, query=many), tmp_path)
    assert [document.content for document in documents] == [str(i) * 3 for i in range(1, 4002)]


def test_nothing_can_be_written(tmp_path: Path, sqlite: str, server: Postgres) -> None:
    for url in (sqlite, server.url):
        for query in (
            "DELETE FROM texts",
            "DROP TABLE texts",
            "DELETE FROM texts RETURNING body",
            "SELECT 1; DELETE FROM texts",
        ):
            with pytest.raises(DataError, match="the query fails"):
                fetch_source(SourceOptions(name="x", sql=url, query=query), tmp_path / "out")
        documents, _ = read(SourceOptions(name="x", sql=url, query="SELECT body FROM texts"), tmp_path / "out")
        assert len(documents) == 2
    with pytest.raises(DataError, match="read-only transaction"):
        fetch_source(SourceOptions(name="x", sql=server.url, query="SELECT emptied()"), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*partial*"))


def test_what_was_fetched_is_used_again(tmp_path: Path, sqlite: str) -> None:
    source = SourceOptions(name="x", sql=sqlite, query="SELECT body FROM texts ORDER BY id")
    first = fetch_source(source, tmp_path / "out")
    content = (Path(str(first.path)) / "rows.jsonl").read_bytes()
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("UPDATE texts SET body = 'new'")
    connection.close()
    assert fetch_source(source, tmp_path / "out") == first
    assert (Path(str(first.path)) / "rows.jsonl").read_bytes() == content
    fetch_source(source, tmp_path / "out", refresh=True)
    assert b"new" in (Path(str(first.path)) / "rows.jsonl").read_bytes()
    other = SourceOptions(name="x", sql=sqlite, query="SELECT id AS text FROM texts")
    assert fetch_source(other, tmp_path / "out").path != first.path


def test_a_query_without_rows(tmp_path: Path, sqlite: str) -> None:
    source = SourceOptions(name="x", sql=sqlite, query="SELECT body FROM texts WHERE id > 5")
    for _ in range(2):
        documents, [failure] = read(source, tmp_path / "out")
        assert documents == []
        assert (failure.reason, failure.message) == ("empty", "the query gives no row")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE t (text)")
        connection.executemany("INSERT INTO t VALUES (?)", [("good",), (b"as bytes",), (b"\xff\xfe",)])
        connection.execute("INSERT INTO t VALUES (CAST(x'e4' AS TEXT))")
    connection.close()
    documents, failures = read(
        SourceOptions(name="x", sql=f"sqlite:///{tmp_path / 'x.db'}", query="SELECT * FROM t"), tmp_path / "out"
    )
    assert [document.content for document in documents] == ["good", "as bytes"]
    assert [(failure.line, failure.reason) for failure in failures] == [(3, "not-utf8"), (4, "not-utf8")]


def failing(url: str, query: str, folder: Path) -> OwnlmError:
    with pytest.raises(OwnlmError) as caught:
        fetch_source(SourceOptions(name="shop", sql=url, query=query), folder)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in str(caught.value)
    return caught.value


def test_errors_say_what_is_wrong(tmp_path: Path, sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = "SELECT body FROM texts"
    assert "no such table: absent" in failing(sqlite, "SELECT * FROM absent", tmp_path).message
    assert "syntax error" in failing(sqlite, "SELEKT", tmp_path).message
    assert "two columns are called 'id'" in failing(sqlite, "SELECT id, id FROM texts", tmp_path).message
    missing = failing(f"sqlite:///{tmp_path}/none.db", good, tmp_path)
    assert "no such database file" in missing.message
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("this is a text and no database at all" * 100)
    assert "file is not a database" in failing(f"sqlite:///{tmp_path}/text.db", good, tmp_path).message
    assert "no database's URL" in failing("shop.db", good, tmp_path).message
    assert "'mysql' are not read" in failing("mysql://user:secret@host/db", good, tmp_path).message
    assert "no variable SHOP_URL" in failing("$SHOP_URL", good, tmp_path).message
    monkeypatch.setenv("SHOP_URL", sqlite)
    documents, _ = read(SourceOptions(name="shop", sql="$SHOP_URL", query=good), tmp_path)
    assert len(documents) == 2


def test_no_password_anywhere(tmp_path: Path, server: Postgres, capfd: pytest.CaptureFixture[str]) -> None:
    secrets = ("secret", "se%63ret", "se:cret", server.password, server.quoted)
    urls = [
        f"postgresql://reader:secret@127.0.0.1:{server.port}/postgres",
        f"postgres://reader:se%63ret@127.0.0.1:{server.port}/postgres",
        f"postgresql://reader@127.0.0.1:{server.port}/postgres?password=secret",
        "postgresql://reader:secret@127.0.0.1:1/postgres",
        "postgresql://reader:secret@127.0.0.1:port/postgres",
        "oracle://reader:secret@127.0.0.1/postgres",
        "reader:secret@127.0.0.1/postgres",
        "postgresql+nothing://reader:secret@127.0.0.1/postgres",
        server.url,
    ]
    for url in urls:
        error = failing(url, "SELECT * FROM nothing_there", tmp_path / "out")
        assert not any(secret in f"{error} {error!r} {error.__cause__!r}" for secret in secrets)
    source = SourceOptions(name="shop", sql=server.url, query="SELECT body AS text FROM texts")
    fetched = fetch_source(source, tmp_path / "out")
    shown = f"{source!r} {source} {source.model_dump_json()} {fetched!r} {list_units(fetched, ReadLimits())}"
    written = "".join(f"{path} {path.read_text()}" for path in (tmp_path / "out").rglob("*") if path.is_file())
    printed = "".join(capfd.readouterr())
    assert not any(secret in text for secret in secrets for text in (shown, written, printed))
    # Two passwords for one database are one source.
    moved = source.model_copy(update={"sql": SourceOptions(name="x", sql=urls[0], query="x").sql})
    assert fetch_source(moved, tmp_path / "out").path == fetched.path


def test_a_wrong_password_and_a_server_that_is_not_there(tmp_path: Path, server: Postgres) -> None:
    wrong = failing(f"postgresql://reader:secret@127.0.0.1:{server.port}/postgres", "SELECT 1", tmp_path)
    gone = failing("postgresql://reader:secret@127.0.0.1:1/postgres", "SELECT 1", tmp_path)
    assert isinstance(wrong, FetchError) and isinstance(gone, FetchError)
    assert "password authentication failed" in wrong.message
    assert wrong.where == "postgresql postgres"
    assert not list(tmp_path.iterdir())


def test_a_file_in_write_ahead_mode_is_not_touched(tmp_path: Path, sqlite: str) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.glob("shop.db*")}
    (tmp_path / "shop.db").chmod(0o444)
    documents, _ = read(SourceOptions(name="x", sql=sqlite, query="SELECT body FROM texts"), tmp_path / "out")
    assert len(documents) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.glob("shop.db*")} == before
    assert json.loads((next((tmp_path / "out").rglob("rows.jsonl"))).read_text().splitlines()[0]) == {"body": "One"}
