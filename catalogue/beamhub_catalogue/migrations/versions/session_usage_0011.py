"""What the clusters of sessions used, and how far their long jobs are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

AMOUNTS = ("cluster_core_s", "cluster_memory_gib_s")


def upgrade() -> None:
    """Add the columns; nothing was counted so far."""
    with op.batch_alter_table("sessions") as batch:
        for name in AMOUNTS:
            batch.add_column(sa.Column(name, sa.Double(), server_default="0", nullable=False))
        batch.add_column(sa.Column("jobs", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("sessions") as batch:
        batch.drop_column("jobs")
        for name in reversed(AMOUNTS):
            batch.drop_column(name)
