"""What sessions report of themselves, and how long a prepared one waits to be opened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from beamhub_catalogue.models import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIMES = ("reported_at", "active_at", "idle_stop_at", "prepared_until")


def upgrade() -> None:
    """Add the columns; sessions that run have reported nothing so far."""
    with op.batch_alter_table("sessions") as batch:
        for name in TIMES:
            batch.add_column(sa.Column(name, UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("idle_told", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("sessions") as batch:
        batch.drop_column("idle_told")
        for name in reversed(TIMES):
            batch.drop_column(name)
