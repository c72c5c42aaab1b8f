"""What Alembic runs before a migration: on the connection it is given, in the transaction that is open there."""

from alembic import context

from ownlm.store.tables import METADATA
from ownlm.store.versions import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    compare_server_default=True,
    # SQLite can change a table only by making a new one.
    render_as_batch=True,
)
context.run_migrations()
