"""The audit as a chain of hashes with pseudonyms; identities with what their providers assert."""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from alembic import op

from beamhub_catalogue.models import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
GENESIS = "0" * 64


def upgrade() -> None:
    """Make the chain and put the entries that were there at its beginning, each with its time and account."""
    earlier = _earlier_entries()
    op.drop_table("audit")
    _create_audit()
    _create_side_tables()
    _chain(earlier)
    with op.batch_alter_table("identities") as batch:
        batch.add_column(sa.Column("orcid", sa.String(19), nullable=True))
        batch.add_column(sa.Column("facility_account", sa.String(64), nullable=True))
        batch.add_column(sa.Column("conflict", sa.String(40), nullable=True))
        batch.create_index(op.f("ix_identities_orcid"), ["orcid"])
        batch.create_index(op.f("ix_identities_facility_account"), ["facility_account"])


def downgrade() -> None:
    """Back to the table without a chain, which starts empty: its form cannot hold what the chain says."""
    with op.batch_alter_table("identities") as batch:
        batch.drop_index(op.f("ix_identities_facility_account"))
        batch.drop_index(op.f("ix_identities_orcid"))
        for name in ("conflict", "facility_account", "orcid"):
            batch.drop_column(name)
    for table in ("audit_checkpoints", "audit_head", "audit_actors", "audit_proposals", "audit"):
        op.drop_table(table)
    op.create_table(
        "audit",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("account", sa.String(length=80), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_account"), "audit", ["account"], unique=False)
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", ROW_ID, nullable=False, autoincrement=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("actor_kind", sa.String(length=10), nullable=False),
        sa.Column("actor", sa.String(length=32), nullable=True),
        sa.Column("about", sa.String(length=32), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("proposals", sa.JSON(), nullable=False),
        sa.Column("reference", sa.String(length=140), nullable=True),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
        sa.UniqueConstraint("reference", name=op.f("uq_audit_reference")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    for column in ("actor", "about", "kind"):
        op.create_index(op.f(f"ix_audit_{column}_seq"), "audit", [column, "seq"], unique=False)


def _create_side_tables() -> None:
    op.create_table(
        "audit_proposals",
        sa.Column("proposal", sa.String(length=200), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("proposal", "seq", name=op.f("pk_audit_proposals")),
    )
    op.create_index(op.f("ix_audit_proposals_seq"), "audit_proposals", ["seq"], unique=False)
    op.create_table(
        "audit_actors",
        sa.Column("actor", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("salt", sa.String(length=64), nullable=True),
        sa.Column("erased_by", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("actor", name=op.f("pk_audit_actors")),
    )
    op.create_index(op.f("ix_audit_actors_kind_name"), "audit_actors", ["kind", "name"], unique=True)
    op.create_table(
        "audit_head",
        sa.Column("id", ROW_ID, nullable=False, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("seq", ROW_ID, nullable=False, autoincrement=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("n_entries", sa.Integer(), nullable=False),
        sa.Column("removed_at", UtcDateTime(), nullable=False),
        sa.Column("told_in", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_checkpoints")),
    )


def _earlier_entries() -> list[dict[str, Any]]:
    old = sa.table(
        "audit",
        sa.column("id"),
        sa.column("at", UtcDateTime()),
        sa.column("kind", sa.String()),
        sa.column("account", sa.String()),
        sa.column("detail", sa.JSON()),
        sa.column("subject", sa.String()),
    )
    rows = op.get_bind().execute(sa.select(old).order_by(old.c.id)).mappings()
    return [dict(row) for row in rows]


def _chain(earlier: list[dict[str, Any]]) -> None:
    """The old entries, whose free texts stay behind: they held accounts and what strangers had typed."""
    actors: dict[str, dict[str, Any]] = {}
    seq, previous, chained = 0, GENESIS, []
    for old in earlier:
        seq += 1
        actor = _actor(actors, old["account"]) if old["account"] else None
        kept = {name: old["detail"].get(name) for name in ("decision", "state", "plan_hash", "plan_id")}
        entry = {
            "seq": seq,
            "at": old["at"],
            "kind": old["kind"],
            "actor_kind": "person" if actor else "platform",
            "actor": actor,
            "about": None,
            "subject": old["subject"] if old["kind"] in ("plan", "state", "recheck", "product") else "",
            "detail": {"parts": []} | {name: value for name, value in kept.items() if value is not None},
            "proposals": [],
            "reference": None,
            "previous": previous,
        }
        at = old["at"].astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        previous = _sha256(entry | {"v": 1, "at": at})
        chained.append(entry | {"digest": previous})
    if chained:
        op.bulk_insert(_AUDIT, chained)
    if actors:
        op.bulk_insert(_ACTORS, list(actors.values()))
    last = chained[-1]["at"] if chained else None
    op.bulk_insert(_HEAD, [{"id": 1, "seq": seq, "digest": previous, "at": last}])


def _actor(actors: dict[str, dict[str, Any]], account: str) -> str:
    if account not in actors:
        salt = secrets.token_hex(32)
        actor = _sha256(["beamhub audit actor", salt, "person", account])[:32]
        actors[account] = {"actor": actor, "kind": "person", "name": account, "salt": salt}
    return str(actors[account]["actor"])


def _sha256(told: Any) -> str:
    """As the application of this revision hashed; later ones may not."""
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


_AUDIT = sa.table(
    "audit",
    sa.column("seq", sa.BigInteger()),
    sa.column("at", UtcDateTime()),
    sa.column("detail", sa.JSON()),
    sa.column("proposals", sa.JSON()),
    *(
        sa.column(name, sa.String())
        for name in ("kind", "actor_kind", "actor", "about", "subject", "reference", "previous", "digest")
    ),
)
_ACTORS = sa.table(
    "audit_actors", *(sa.column(name, sa.String()) for name in ("actor", "kind", "name", "salt"))
)
_HEAD = sa.table(
    "audit_head",
    sa.column("id", sa.BigInteger()),
    sa.column("seq", sa.BigInteger()),
    sa.column("digest", sa.String()),
    sa.column("at", UtcDateTime()),
)
