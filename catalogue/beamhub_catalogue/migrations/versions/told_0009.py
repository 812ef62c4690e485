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
    op.add_column("datasets", sa.Column("told_digest", sa.String(64), nullable=True))
    op.add_column("datasets", sa.Column("embargo_until", sa.Date(), nullable=True))
    op.add_column("proposals", sa.Column("not_before", sa.Date(), nullable=True))


def downgrade() -> None:
    """Forget how long other catalogues keep data closed: harvest them again before anybody looks."""
    op.drop_column("proposals", "not_before")
    op.drop_column("datasets", "embargo_until")
    op.drop_column("datasets", "told_digest")
