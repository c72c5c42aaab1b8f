"""The version of a store's tables, and the way from an older one to this one.

The version stands in a table of its own, named apart from that of other programs that use the same library. A store of
an older version is brought up when it is opened, in one transaction, by one process at a time.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from ..errors import UserError
from .database import Database
from .tables import METADATA

VERSION_TABLE = "ownlm_version"
# Any number will do, as long as nobody else locks by it: "ownlm" in ASCII.
_LOCK = 0x6F776E6C6D


def bring_up(database: Database) -> None:
    """Makes the tables of an empty database, and brings older ones to this version.

    Raises:
        UserError: the database was written by a newer ownlm, or holds another program's tables of the same names.
    """
    config = migrations()
    scripts = ScriptDirectory.from_config(config)
    newest = scripts.get_current_head()
    with database.reading() as connection:
        if version(connection) == newest:
            return
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Another process may have been here in between.
        found = version(connection)
        if found is None:
            taken = sorted(set(METADATA.tables) & set(inspect(connection).get_table_names()))
            if taken:
                raise UserError(
                    f"this database has a table '{taken[0]}' that ownlm has not made",
                    where=database.name,
                    hint="name an empty database with --store",
                )
        elif found not in {script.revision for script in scripts.walk_revisions()}:
            raise UserError(
                f"this store was written by a newer ownlm (its version is '{found}', the newest known here '{newest}')",
                where=database.name,
                hint="install the newer ownlm, or name another store with --store",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def version(connection: Connection) -> str | None:
    """The version of a database's tables; None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def migrations() -> Config:
    """Where the migrations are; with ``attributes["connection"]`` set, ``alembic.command`` works on that database."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
