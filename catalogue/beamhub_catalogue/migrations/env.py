"""Run by Alembic: migrates over the connection that `beamhub_catalogue.database` hands in."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, inspect, text

from beamhub_catalogue.models import Base


def _keep_order_of_code_points(connection: Connection) -> None:
    """On PostgreSQL, give every text column of ours the order of code points, which SQLite has.

    Else a database would compare and sort by the language that it was made for, and two facilities would get
    two orders. Done here for the columns of all migrations, so that none can forget it.
    """
    quote = connection.dialect.identifier_preparer.quote
    found = connection.execute(
        text(
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
            " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_collation o ON o.oid = a.attcollation"
            " WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace"
            " AND a.attnum > 0 AND NOT a.attisdropped AND o.collname <> 'C'"
        )
    ).all()
    ours = set(Base.metadata.tables) & set(inspect(connection).get_table_names())
    for table, column, kind in found:
        if table in ours:
            name = f"{quote(table)} ALTER COLUMN {quote(column)}"
            connection.exec_driver_sql(f'ALTER TABLE {name} TYPE {kind} COLLATE "C"')


connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
if connection.dialect.name == "postgresql":
    _keep_order_of_code_points(connection)
