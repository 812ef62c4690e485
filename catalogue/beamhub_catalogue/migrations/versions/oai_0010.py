"""What harvesters were told: records with their datestamps, and deletions that stay."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from beamhub_catalogue.models import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INDEXES = (
    ("kind", "pid"),
    ("datestamp", "id"),
    ("kind", "datestamp", "id"),
    ("instrument", "datestamp", "id"),
    ("technique", "datestamp", "id"),
    ("year", "datestamp", "id"),
)


def upgrade() -> None:
    """Create the tables; the first look of the provider fills them."""
    op.create_table(
        "oai_records",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("pid", sa.String(300), nullable=False),
        sa.Column("datestamp", UtcDateTime(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("instrument", sa.String(200), nullable=False),
        sa.Column("technique", sa.String(200), nullable=False),
        sa.Column("year", sa.Integer(), nullable=True),
        sa.Column("seen", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("doi", sa.String(300), nullable=True),
        sa.Column("registered", sa.String(32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oai_records")),
    )
    for names in INDEXES:
        name = op.f(f"ix_oai_records_{'_'.join(names)}")
        op.create_index(name, "oai_records", list(names), unique=names == ("kind", "pid"))
    op.create_table(
        "oai_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("publishing_since", UtcDateTime(), nullable=True),
        sa.Column("holder", sa.String(32), nullable=True),
        sa.Column("held_until", UtcDateTime(), nullable=True),
        sa.Column("summary", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oai_state")),
    )


def downgrade() -> None:
    """Drop them: harvesters are then told everything anew, and of no deletion."""
    op.drop_table("oai_state")
    op.drop_table("oai_records")
