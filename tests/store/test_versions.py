"""Migrations: from nothing to what the code expects, once, and never backwards."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, inspect, text

from ownlm.errors import DamagedError, StorageError, UserError
from ownlm.store import Store
from ownlm.store.database import Database
from ownlm.store.tables import METADATA, USAGE
from ownlm.store.versions import VERSION_TABLE, migrations, version


def tables(database: Database) -> dict[str, Any]:
    """Everything the database itself says of its tables."""
    look = inspect(database.engine)
    names = sorted(set(look.get_table_names()) - {VERSION_TABLE})
    return {
        name: {
            "columns": [{**column, "type": repr(column["type"])} for column in look.get_columns(name)],
            "key": look.get_pk_constraint(name),
            "foreign": look.get_foreign_keys(name),
            "indexes": look.get_indexes(name),
            "checks": look.get_check_constraints(name),
            "unique": look.get_unique_constraints(name),
        }
        for name in names
    }


def test_the_migrations_make_what_the_code_says(url: str):
    with Store.open(url) as store:
        database = store._database
        migrated = tables(database)
        with database.writing() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            assert compare_metadata(context, METADATA) == []
        with database.writing() as connection:
            METADATA.drop_all(connection)
            METADATA.create_all(connection)
        assert migrated == tables(database)
        assert set(migrated) == set(METADATA.tables)


def test_each_migration_can_be_the_last_for_a_while(url: str):
    config = migrations()
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    database = Database(url)
    for revision in revisions:
        with database.writing() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        with database.reading() as connection:
            assert version(connection) == revision
    database.close()
    with Store.open(url) as store:
        store.keys.create("after every step")


def test_a_newer_store_is_refused_in_one_sentence_and_left_as_it_is(url: str):
    with Store.open(url) as store:
        store.keys.create("Anna")
        with store._database.writing() as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(UserError) as error:
        Store.open(url)
    assert "newer ownlm" in error.value.message and "9999" in error.value.message
    assert "." not in error.value.message.rstrip(".")
    assert "pa ss" not in str(error.value)
    database = Database(url)
    with database.reading() as connection:
        assert version(connection) == "9999"
        assert connection.execute(text("SELECT count(*) FROM keys")).scalar() == 1
    database.close()


def test_another_programs_tables_are_not_touched(url: str):
    database = Database(url)
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE messages (said text)"))
    with pytest.raises(UserError, match="'messages' that ownlm has not made"):
        Store.open(url)
    with database.reading() as connection:
        assert inspect(connection).get_table_names() == ["messages"]
    database.close()


def test_processes_that_open_an_empty_store_at_once_make_it_once(url: str):
    program = "import sys\nfrom ownlm.store import Store\nsys.stdin.readline()\n"
    program += "with Store.open(sys.argv[1]) as store:\n    store.keys.create('mine')"
    children = [subprocess.Popen([sys.executable, "-c", program, url], stdin=subprocess.PIPE) for _ in range(4)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.close()
    assert [child.wait() for child in children] == [0] * 4
    with Store.open(url) as store:
        assert len(store.keys.all()) == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://u:secret@host/db", "of the kind 'mysql'"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("://", "no database's URL"),
        ("postgresql://u:secret@host:port/db", "no database's URL"),
    ],
)
def test_what_is_no_store_is_refused(given: str, said: str):
    with pytest.raises(UserError, match=said) as error:
        Store.open(given)
    assert "secret" not in str(error.value)


def test_a_file_that_is_no_database_a_folder_and_a_locked_folder(tmp_path: Path):
    (tmp_path / "text.db").write_text("This is a letter and no database at all. " * 50)
    with pytest.raises(DamagedError, match="not a database"):
        Store.open(str(tmp_path / "text.db"))
    with pytest.raises(UserError, match="folder"):
        Store.open(str(tmp_path))
    with pytest.raises(StorageError):
        Store.open(str(tmp_path / "text.db" / "store.db"))
    assert (tmp_path / "text.db").read_text().startswith("This is a letter")


def test_only_its_owner_may_read_the_file(tmp_path: Path):
    old = os.umask(0)
    try:
        with Store.open(str(tmp_path / "deep" / "store.db")) as store:
            store.keys.create("Anna")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    finally:
        os.umask(old)
    assert set(modes.values()) == {0o600}
    assert {"store.db", "store.db-wal"} <= set(modes)


def test_a_server_that_is_not_there_and_a_wrong_password(postgres: Any):
    for wrong in (
        postgres.url.replace(f":{postgres.port}", ":1"),
        postgres.url.replace(postgres.quoted, "other%2Fone"),
    ):
        with pytest.raises(StorageError, match="does not answer") as error:
            Store.open(wrong)
        assert "other/one" not in str(error.value) and postgres.password not in str(error.value)
        assert "\n" not in str(error.value)


def test_sqlite_waits_for_the_disk_and_postgresql_too(url: str):
    with Store.open(url) as store:
        with store._database.writing() as connection:
            if url.startswith("sqlite"):
                asked = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
                found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in asked}
                assert found == asked
            else:
                assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_a_postgresql_set_to_promise_too_early_is_asked_to_wait(postgres: Any):
    url = f"{postgres.url}?options=-c%20synchronous_commit%3Doff"
    database = Database(url)
    with database.reading() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
    database.close()


def test_a_transaction_that_fails_leaves_nothing(url: str, talk: Callable[..., Any]):
    with Store.open(url) as store:
        with pytest.raises(ZeroDivisionError), store._database.writing() as connection:
            row = {"key_id": "k", "day": __import__("datetime").date(2031, 5, 4)}
            connection.execute(insert(USAGE).values(**row, requests=1, prompt_tokens=1, completion_tokens=1))
            raise ZeroDivisionError
        with store._database.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM usage")).scalar() == 0
        # The connection is good again.
        store.conversations.add(talk("a"))


def test_another_program_may_look_into_the_file_meanwhile(tmp_path: Path):
    path = tmp_path / "store.db"
    with Store.open(str(path)) as store:
        with sqlite3.connect(path) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM keys").fetchone()
            store.keys.create("while the other reads")
        engine = create_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            assert connection.execute(text("SELECT name FROM keys")).scalars().all() == ["while the other reads"]
        engine.dispose()
