"""What revision 0008 makes for searching that no table of SQLAlchemy describes: triggers, text indexes."""
# ruff: noqa: S608  # all names in the statements are from the constants below

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

EVENTS = {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}
WATCHED = ("datasets", "dataset_techniques")
TEXT_INDEXES = (
    ("datasets", "title"),
    ("datasets", "technique_label"),
    ("datasets", "instrument"),
    ("proposals", "title"),
)


def create_counts() -> None:
    """The counts of datasets, and triggers that mark what has to be counted again."""
    op.create_table(
        "stale_counts",
        sa.Column("proposal", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("proposal", name=op.f("pk_stale_counts")),
    )
    op.create_table(
        "dataset_counts",
        sa.Column("proposal", sa.String(200), nullable=False),
        sa.Column("facet", sa.String(20), nullable=False),
        sa.Column("value", sa.String(200), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("proposal", "facet", "value", name=op.f("pk_dataset_counts")),
    )
    special = sa.text("kind <> 'raw' OR private_to IS NOT NULL OR withdrawn")
    op.create_index(
        "ix_datasets_special", "datasets", ["proposal"], sqlite_where=special, postgresql_where=special
    )
    op.execute(sa.text("INSERT INTO stale_counts (proposal) SELECT DISTINCT proposal FROM datasets"))
    for table in WATCHED:
        for event in EVENTS:
            for statement in _trigger(table, event):
                op.get_bind().exec_driver_sql(statement)


def drop_counts() -> None:
    """Drop the triggers and the index; the tables go with the others."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in WATCHED:
        for event in EVENTS:
            name = f"count_again_{table}_{event.lower()}"
            op.get_bind().exec_driver_sql(f"DROP TRIGGER {name}" + (f" ON {table}" if postgresql else ""))
            if postgresql:
                op.get_bind().exec_driver_sql(f"DROP FUNCTION {name}()")
    op.drop_index("ix_datasets_special", table_name="datasets")


def create_text_indexes() -> None:
    """Indexes of trigrams on PostgreSQL, where its server has the extension; else it reads all."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except sa.exc.DBAPIError:
        return
    for table, column in TEXT_INDEXES:
        folded = f'(lower({column} COLLATE "und-x-icu")) gin_trgm_ops'
        name = f"ix_text_{table}_{column}"
        connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {table} USING gin ({folded})")


def drop_text_indexes() -> None:
    """Drop them; the extension stays, others may use it."""
    if op.get_bind().dialect.name == "postgresql":
        for table, column in TEXT_INDEXES:
            op.get_bind().exec_driver_sql(f"DROP INDEX IF EXISTS ix_text_{table}_{column}")


def _trigger(table: str, event: str) -> list[str]:
    """Mark the proposals of what changed: a statement's rows together on PostgreSQL, one by one on SQLite."""
    name, rows = f"count_again_{table}_{event.lower()}", EVENTS[event]
    if op.get_bind().dialect.name != "postgresql":
        marks = "".join(f" INSERT OR IGNORE INTO stale_counts {_of_row(table, row)};" for row in rows)
        return [f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW BEGIN{marks} END"]
    marks = "".join(
        f" INSERT INTO stale_counts {_of_rows(table, row.lower())} ON CONFLICT DO NOTHING;" for row in rows
    )
    tables = " ".join(f"{row} TABLE AS {row.lower()}_rows" for row in rows)
    return [
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $body$ BEGIN{marks} RETURN NULL; END $body$",
        f"CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {tables}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
    ]


def _of_row(table: str, row: str) -> str:
    if table == "datasets":
        return f"(proposal) VALUES ({row}.proposal)"
    return f"(proposal) SELECT proposal FROM datasets WHERE id = {row}.dataset_id"


def _of_rows(table: str, row: str) -> str:
    if table == "datasets":
        return f"(proposal) SELECT DISTINCT proposal FROM {row}_rows"
    found = f"SELECT dataset_id FROM {row}_rows"
    return f"(proposal) SELECT DISTINCT proposal FROM datasets WHERE id IN ({found})"
