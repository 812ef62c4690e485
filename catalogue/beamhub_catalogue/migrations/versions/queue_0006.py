"""What sessions use and for whom, and the queue of those who wait for room."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from beamhub_catalogue.models import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BATCH = 500


def upgrade() -> None:
    """Make the columns and tables, and fill them from the plans that are stored."""
    with op.batch_alter_table("sessions") as batch:
        batch.add_column(sa.Column("place", sa.String(80), server_default="", nullable=False))
        batch.add_column(sa.Column("cpu", sa.Double(), server_default="0", nullable=False))
        batch.add_column(sa.Column("memory_gib", sa.Double(), server_default="0", nullable=False))
        batch.add_column(sa.Column("gpus", sa.Integer(), server_default="0", nullable=False))
        batch.add_column(sa.Column("ended_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("phases", sa.JSON(), nullable=True))
        batch.create_index(op.f("ix_sessions_place"), ["place"])
        batch.create_index(op.f("ix_sessions_ended_at"), ["ended_at"])
    op.create_table(
        "session_proposals",
        sa.Column("plan_id", sa.String(32), nullable=False),
        sa.Column("proposal", sa.String(200), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_id"],
            ["sessions.plan_id"],
            name=op.f("fk_session_proposals_plan_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("plan_id", "proposal", name=op.f("pk_session_proposals")),
    )
    op.create_index(op.f("ix_session_proposals_proposal"), "session_proposals", ["proposal"])
    _create_queue()
    _fill()


def downgrade() -> None:
    """Nobody waits any more, and what sessions used stands in their plans alone."""
    op.drop_table("queue_tickets")
    op.drop_table("session_proposals")
    with op.batch_alter_table("sessions") as batch:
        batch.drop_index(op.f("ix_sessions_ended_at"))
        batch.drop_index(op.f("ix_sessions_place"))
        for name in ("phases", "ended_at", "gpus", "memory_gib", "cpu", "place"):
            batch.drop_column(name)


def _create_queue() -> None:
    op.create_table(
        "queue_tickets",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("account", sa.String(40), nullable=False),
        sa.Column("server_name", sa.String(255), nullable=False),
        sa.Column("display_name", sa.String(255), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("places", sa.JSON(), nullable=False),
        sa.Column("memory_gib", sa.Double(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("joined_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("claimed_at", UtcDateTime(), nullable=True),
        sa.Column("n_claims", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queue_tickets")),
    )
    op.create_index(
        op.f("ix_queue_tickets_account_server_name"), "queue_tickets", ["account", "server_name"], unique=True
    )


def _fill() -> None:
    connection = op.get_bind()
    names = ("plan_id", "plan", "state", "last_seen", "place", "cpu", "memory_gib", "gpus", "ended_at")
    sessions = sa.table("sessions", *(sa.column(name) for name in names))
    proposals = sa.table("session_proposals", *(sa.column(name) for name in ("plan_id", "proposal", "share")))
    shown = (sessions.c.plan_id, sessions.c.plan, sessions.c.state, sessions.c.last_seen)
    last = ""
    while rows := connection.execute(
        sa.select(*shown).where(sessions.c.plan_id > last).order_by(sessions.c.plan_id).limit(BATCH)
    ).all():
        for plan_id, stored, state, last_seen in rows:
            plan = json.loads(stored) if isinstance(stored, str) else stored
            ended = last_seen if state in ("ended", "failed") else None
            connection.execute(
                sessions.update()
                .where(sessions.c.plan_id == plan_id)
                .values(_use(plan) | {"ended_at": ended})
            )
            if shares := _shares(plan, plan_id):
                connection.execute(proposals.insert(), shares)
        last = rows[-1].plan_id


def _use(plan: dict[str, Any]) -> dict[str, Any]:
    limits = plan["limits"]
    return {
        "place": plan["place"]["name"],
        "cpu": limits["cpu"],
        "memory_gib": limits["memory_gib"],
        "gpus": limits.get("gpus", 0),
    }


def _shares(plan: dict[str, Any], plan_id: str) -> list[dict[str, Any]]:
    named = sorted({dataset["proposal"] for dataset in plan["datasets"]})
    return [{"plan_id": plan_id, "proposal": name[:200], "share": 1 / len(named)} for name in named]
