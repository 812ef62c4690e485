"""Rights and what stands behind them: policy documents, acts, staff, people; plans by their mounts."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from beamhub_catalogue.models import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEW_PROPOSAL_COLUMNS = (
    "access_route",
    "extension_months",
    "released_on",
    "support_until",
    "embargo_class",
    "rule",
    "ends_at",
)
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = (
    "clock_marks",
    "instrument_staff",
    "instruments",
    "logbook_events",
    "people",
    "policy_documents",
    "proposal_acts",
    "shares",
    "storage_pools",
    "identities",
    "session_mounts",
)


def upgrade() -> None:
    """Make the new tables, and fill the new columns from what is there."""
    _create_clock_marks()
    _create_instrument_staff()
    _create_instruments()
    _create_logbook_events()
    _create_people()
    _create_policy_documents()
    _create_proposal_acts()
    _create_shares()
    _create_storage_pools()
    _create_identities()
    _extend_proposals_and_sources()
    _extend_sessions()
    _create_session_mounts()
    _fill_session_mounts()


def downgrade() -> None:
    """Drop the new tables and columns with all that is in them."""
    with op.batch_alter_table("sources") as batch:
        batch.drop_column("checked_at")
    with op.batch_alter_table("sessions") as batch:
        batch.drop_column("expires_at")
        batch.alter_column("server_name", existing_type=sa.String(255), type_=sa.String(80))
    with op.batch_alter_table("proposals") as batch:
        for name in _NEW_PROPOSAL_COLUMNS:
            batch.drop_column(name)
    op.drop_index("ix_datasets_withdrawn", "datasets")
    for table in reversed(TABLES):
        op.drop_table(table)


def _extend_proposals_and_sources() -> None:
    op.create_index(
        "ix_datasets_withdrawn",
        "datasets",
        ["proposal", "pool", "folder"],
        sqlite_where=sa.text("withdrawn = 1"),
        postgresql_where=sa.text("withdrawn"),
    )
    with op.batch_alter_table("proposals") as batch:
        batch.add_column(sa.Column("access_route", sa.String(80), nullable=False, server_default=""))
        batch.add_column(sa.Column("extension_months", sa.JSON(), nullable=False, server_default="[]"))
        batch.add_column(sa.Column("released_on", sa.Date(), nullable=True))
        batch.add_column(sa.Column("support_until", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("embargo_class", sa.String(80), nullable=True))
        batch.add_column(sa.Column("rule", sa.String(80), nullable=True))
        batch.add_column(sa.Column("ends_at", UtcDateTime(), nullable=True))
    with op.batch_alter_table("sources") as batch:
        batch.add_column(sa.Column("checked_at", UtcDateTime(), nullable=True))


def _extend_sessions() -> None:
    with op.batch_alter_table("sessions") as batch:
        batch.add_column(sa.Column("expires_at", UtcDateTime(), nullable=True))
        batch.alter_column("server_name", existing_type=sa.String(80), type_=sa.String(255))
    sessions = sa.table("sessions", sa.column("plan_id"), sa.column("expires_at", UtcDateTime()))
    for plan_id, plan in _stored_plans():
        ends = datetime.fromisoformat(plan["expires_at"])
        op.execute(sa.update(sessions).where(sessions.c.plan_id == plan_id).values(expires_at=ends))
    with op.batch_alter_table("sessions") as batch:
        batch.alter_column("expires_at", existing_type=UtcDateTime(), nullable=False)


def _fill_session_mounts() -> None:
    """After all changes of `sessions`: SQLite makes that table anew, which would delete what refers to it."""
    names = ("pool", "path", "mode", "pid")
    mounts = sa.table("session_mounts", *(sa.column(name) for name in ("plan_id", *names)))
    kept = [
        {"plan_id": plan_id} | {name: mount.get(name) for name in names}
        for plan_id, plan in _stored_plans()
        for mount in plan["mounts"]
        if mount["purpose"] in ("raw", "processed")
    ]
    if kept:
        op.bulk_insert(mounts, kept)


def _stored_plans() -> list[tuple[str, dict[str, Any]]]:
    rows = op.get_bind().execute(sa.text("SELECT plan_id, plan FROM sessions")).all()
    return [(plan_id, json.loads(plan) if isinstance(plan, str) else plan) for plan_id, plan in rows]


def _create_clock_marks() -> None:
    op.create_table(
        "clock_marks",
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("elapsed_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("boot", name=op.f("pk_clock_marks")),
    )


def _create_instrument_staff() -> None:
    op.create_table(
        "instrument_staff",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("instrument", sa.String(length=200), nullable=False),
        sa.Column("issuer", sa.String(length=512), nullable=True),
        sa.Column("subject", sa.String(length=512), nullable=True),
        sa.Column("orcid", sa.String(length=19), nullable=True),
        sa.Column("facility_account", sa.String(length=64), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=True),
        sa.Column("until", UtcDateTime(), nullable=True),
        sa.Column("removed_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instrument_staff")),
    )
    op.create_index(
        op.f("ix_instrument_staff_facility_account"), "instrument_staff", ["facility_account"], unique=False
    )
    op.create_index(op.f("ix_instrument_staff_instrument"), "instrument_staff", ["instrument"], unique=False)
    op.create_index(
        op.f("ix_instrument_staff_issuer_subject"), "instrument_staff", ["issuer", "subject"], unique=False
    )
    op.create_index(op.f("ix_instrument_staff_orcid"), "instrument_staff", ["orcid"], unique=False)


def _create_instruments() -> None:
    op.create_table(
        "instruments",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("first_seen", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instruments")),
    )


def _create_logbook_events() -> None:
    op.create_table(
        "logbook_events",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("proposal", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.String(length=300), nullable=True),
        sa.Column("replaces", ROW_ID, nullable=True),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("account", sa.String(length=40), nullable=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["replaces"], ["logbook_events.id"], name=op.f("fk_logbook_events_replaces_logbook_events")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logbook_events")),
        sa.UniqueConstraint("replaces", name=op.f("uq_logbook_events_replaces")),
    )
    op.create_index(op.f("ix_logbook_events_account"), "logbook_events", ["account"], unique=False)
    op.create_index(op.f("ix_logbook_events_pid"), "logbook_events", ["pid"], unique=False)
    op.create_index(op.f("ix_logbook_events_proposal_at"), "logbook_events", ["proposal", "at"], unique=False)


def _create_people() -> None:
    op.create_table(
        "people",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("orcid", sa.String(length=19), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_seen", UtcDateTime(), nullable=False),
        sa.Column("erased_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("orcid", name=op.f("uq_people_orcid")),
    )


def _create_policy_documents() -> None:
    op.create_table(
        "policy_documents",
        sa.Column("label", sa.String(length=80), nullable=False),
        sa.Column("version", sa.String(length=60), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("in_force_since", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("label", name=op.f("pk_policy_documents")),
    )
    op.create_index(
        op.f("ix_policy_documents_in_force_since"), "policy_documents", ["in_force_since"], unique=False
    )


def _create_proposal_acts() -> None:
    op.create_table(
        "proposal_acts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("proposal", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.String(length=300), nullable=True),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("months", sa.Integer(), nullable=True),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("until", UtcDateTime(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_by", sa.String(length=80), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_by", sa.String(length=80), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal_acts")),
    )
    op.create_index(op.f("ix_proposal_acts_kind"), "proposal_acts", ["kind"], unique=False)
    op.create_index(op.f("ix_proposal_acts_pid"), "proposal_acts", ["pid"], unique=False)
    op.create_index(op.f("ix_proposal_acts_proposal"), "proposal_acts", ["proposal"], unique=False)


def _create_shares() -> None:
    op.create_table(
        "shares",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("key_digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("proposal", sa.String(length=200), nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("ends_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shares")),
        sa.UniqueConstraint("key_digest", name=op.f("uq_shares_key_digest")),
    )
    op.create_index(op.f("ix_shares_account"), "shares", ["account"], unique=False)
    op.create_index(op.f("ix_shares_proposal"), "shares", ["proposal"], unique=False)


def _create_storage_pools() -> None:
    op.create_table(
        "storage_pools",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("group_mode", sa.String(length=20), nullable=False),
        sa.Column("configured_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_storage_pools")),
    )


def _create_identities() -> None:
    op.create_table(
        "identities",
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("person_id", ROW_ID, nullable=False),
        sa.Column("issuer", sa.String(length=512), nullable=False),
        sa.Column("subject", sa.String(length=512), nullable=False),
        sa.Column("linked_by", sa.String(length=20), nullable=False),
        sa.Column("linked_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_identities_person_id_people")),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_identities")),
    )
    op.create_index(op.f("ix_identities_person_id"), "identities", ["person_id"], unique=False)


def _create_session_mounts() -> None:
    op.create_table(
        "session_mounts",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("plan_id", sa.String(length=32), nullable=False),
        sa.Column("pool", sa.String(length=80), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(length=2), nullable=False),
        sa.Column("pid", sa.String(length=300), nullable=True),
        sa.ForeignKeyConstraint(
            ["plan_id"],
            ["sessions.plan_id"],
            name=op.f("fk_session_mounts_plan_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_mounts")),
    )
    op.create_index(op.f("ix_session_mounts_plan_id"), "session_mounts", ["plan_id"], unique=False)
