"""What other catalogues tell: how long they keep data closed, and a digest to see that nothing changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No other catalogue has told anything yet."""
    with op.batch_alter_table("datasets") as batch:
        batch.add_column(sa.Column("told_digest", sa.String(64), nullable=True))
        batch.add_column(sa.Column("embargo_until", sa.Date(), nullable=True))
    with op.batch_alter_table("proposals") as batch:
        batch.add_column(sa.Column("not_before", sa.Date(), nullable=True))


def downgrade() -> None:
    """Forget how long other catalogues keep data closed: harvest them again before anybody looks."""
    with op.batch_alter_table("proposals") as batch:
        batch.drop_column("not_before")
    with op.batch_alter_table("datasets") as batch:
        batch.drop_column("embargo_until")
        batch.drop_column("told_digest")
