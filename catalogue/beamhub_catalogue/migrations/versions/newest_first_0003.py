"""An index for what people look at most: the newest datasets. Text order of PostgreSQL is set by env.py."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index(
        op.f("ix_datasets_start_pid"),
        "datasets",
        ["start", "pid"],
        unique=False,
        postgresql_ops={"start": "DESC NULLS LAST"},
    )
    op.drop_index(op.f("ix_datasets_start"), table_name="datasets")


def downgrade() -> None:
    """Take it back."""
    op.create_index(op.f("ix_datasets_start"), "datasets", ["start"], unique=False)
    op.drop_index(op.f("ix_datasets_start_pid"), table_name="datasets")
