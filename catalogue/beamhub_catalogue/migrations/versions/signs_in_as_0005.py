"""Identities that sign in as another account of the same person."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every identity signs in as its own account until it is linked."""
    with op.batch_alter_table("identities") as batch:
        batch.add_column(sa.Column("signs_in_as", sa.String(40), nullable=True))
        batch.create_index(op.f("ix_identities_signs_in_as"), ["signs_in_as"])


def downgrade() -> None:
    """Every identity signs in as its own account again; what was linked stays one person."""
    with op.batch_alter_table("identities") as batch:
        batch.drop_index(op.f("ix_identities_signs_in_as"))
        batch.drop_column("signs_in_as")
