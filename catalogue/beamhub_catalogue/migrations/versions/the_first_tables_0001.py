"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from beamhub_catalogue.models import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "audit",
    "datasets",
    "lost_entitlements",
    "members",
    "principals",
    "proposals",
    "seen_files",
    "sessions",
    "sources",
    "dataset_files",
    "dataset_parameters",
    "product_governors",
    "product_inputs",
)


def upgrade() -> None:
    """Make the tables."""
    _create_audit()
    _create_datasets()
    _create_lost_entitlements()
    _create_members()
    _create_principals()
    _create_proposals()
    _create_seen_files()
    _create_sessions()
    _create_sources()
    _create_dataset_files()
    _create_dataset_parameters()
    _create_product_governors()
    _create_product_inputs()


def downgrade() -> None:
    """Drop the tables with all that is in them."""
    for table in reversed(TABLES):
        op.drop_table(table)


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("account", sa.String(length=80), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_account"), "audit", ["account"], unique=False)
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)


def _create_datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("pid", sa.String(length=300), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("proposal", sa.String(length=200), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("technique", sa.String(length=200), nullable=False),
        sa.Column("technique_label", sa.String(length=200), nullable=False),
        sa.Column("instrument", sa.String(length=200), nullable=False),
        sa.Column("sample", sa.Text(), nullable=True),
        sa.Column("start", UtcDateTime(), nullable=True),
        sa.Column("end", UtcDateTime(), nullable=True),
        sa.Column("pool", sa.String(length=80), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("link_closure", sa.JSON(), nullable=False),
        sa.Column("missing_links", sa.JSON(), nullable=False),
        sa.Column("has_preview", sa.Boolean(), nullable=False),
        sa.Column("private_to", sa.String(length=40), nullable=True),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("product", sa.JSON(), nullable=True),
        sa.Column("harvested_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("pid", name=op.f("uq_datasets_pid")),
    )
    op.create_index(op.f("ix_datasets_instrument"), "datasets", ["instrument"], unique=False)
    op.create_index(op.f("ix_datasets_kind"), "datasets", ["kind"], unique=False)
    op.create_index(op.f("ix_datasets_pool_file"), "datasets", ["pool", "file"], unique=False)
    op.create_index(op.f("ix_datasets_proposal"), "datasets", ["proposal"], unique=False)
    op.create_index(op.f("ix_datasets_start"), "datasets", ["start"], unique=False)
    op.create_index(op.f("ix_datasets_technique"), "datasets", ["technique"], unique=False)


def _create_lost_entitlements() -> None:
    op.create_table(
        "lost_entitlements",
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("proposal", sa.String(length=200), nullable=False),
        sa.Column("lost_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("account", "proposal", name=op.f("pk_lost_entitlements")),
    )


def _create_members() -> None:
    op.create_table(
        "members",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("proposal", sa.String(length=200), nullable=False),
        sa.Column("issuer", sa.String(length=512), nullable=True),
        sa.Column("subject", sa.String(length=512), nullable=True),
        sa.Column("orcid", sa.String(length=19), nullable=True),
        sa.Column("facility_account", sa.String(length=64), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=True),
        sa.Column("until", UtcDateTime(), nullable=True),
        sa.Column("removed_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_facility_account"), "members", ["facility_account"], unique=False)
    op.create_index(op.f("ix_members_issuer_subject"), "members", ["issuer", "subject"], unique=False)
    op.create_index(op.f("ix_members_orcid"), "members", ["orcid"], unique=False)
    op.create_index(op.f("ix_members_proposal"), "members", ["proposal"], unique=False)


def _create_principals() -> None:
    op.create_table(
        "principals",
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("checked_at", UtcDateTime(), nullable=False),
        sa.Column("removed_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_principals")),
    )


def _create_proposals() -> None:
    op.create_table(
        "proposals",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("policy_class", sa.String(length=80), nullable=True),
        sa.Column("instrument", sa.String(length=200), nullable=False),
        sa.Column("start", sa.Date(), nullable=True),
        sa.Column("end", sa.Date(), nullable=True),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("opens_at", UtcDateTime(), nullable=True),
        sa.Column("metadata_public", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposals")),
    )


def _create_seen_files() -> None:
    op.create_table(
        "seen_files",
        sa.Column("pool", sa.String(length=80), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("modified_ns", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("pid", sa.String(length=300), nullable=True),
        sa.Column("waits_for", sa.JSON(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("pool", "path", name=op.f("pk_seen_files")),
    )
    op.create_index(op.f("ix_seen_files_outcome"), "seen_files", ["outcome"], unique=False)


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("plan_id", sa.String(length=32), nullable=False),
        sa.Column("plan_hash", sa.String(length=64), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("account", sa.String(length=80), nullable=False),
        sa.Column("server_name", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("token_digest", sa.String(length=64), nullable=True),
        sa.Column("backend_id", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("plan_id", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_account"), "sessions", ["account"], unique=False)
    op.create_index(op.f("ix_sessions_state"), "sessions", ["state"], unique=False)
    op.create_index(op.f("ix_sessions_token_digest"), "sessions", ["token_digest"], unique=False)


def _create_sources() -> None:
    op.create_table(
        "sources",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("good", sa.JSON(), nullable=True),
        sa.Column("read_at", UtcDateTime(), nullable=True),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sources")),
    )


def _create_dataset_files() -> None:
    op.create_table(
        "dataset_files",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("dataset_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("pool", sa.String(length=80), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_dataset_files_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_files")),
    )
    op.create_index(op.f("ix_dataset_files_dataset_id"), "dataset_files", ["dataset_id"], unique=False)
    op.create_index(op.f("ix_dataset_files_pool_path"), "dataset_files", ["pool", "path"], unique=False)


def _create_dataset_parameters() -> None:
    op.create_table(
        "dataset_parameters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("dataset_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("word", sa.Text(), nullable=True),
        sa.Column("unit", sa.String(length=60), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_dataset_parameters_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_parameters")),
    )
    op.create_index(
        op.f("ix_dataset_parameters_dataset_id"), "dataset_parameters", ["dataset_id"], unique=False
    )
    op.create_index(op.f("ix_dataset_parameters_name"), "dataset_parameters", ["name"], unique=False)


def _create_product_governors() -> None:
    op.create_table(
        "product_governors",
        sa.Column("product_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("governor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["governor_id"], ["datasets.id"], name=op.f("fk_product_governors_governor_id_datasets")
        ),
        sa.ForeignKeyConstraint(
            ["product_id"],
            ["datasets.id"],
            name=op.f("fk_product_governors_product_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("product_id", "governor_id", name=op.f("pk_product_governors")),
    )
    op.create_index(
        op.f("ix_product_governors_governor_id"), "product_governors", ["governor_id"], unique=False
    )


def _create_product_inputs() -> None:
    op.create_table(
        "product_inputs",
        sa.Column("product_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("input_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["input_id"], ["datasets.id"], name=op.f("fk_product_inputs_input_id_datasets")
        ),
        sa.ForeignKeyConstraint(
            ["product_id"],
            ["datasets.id"],
            name=op.f("fk_product_inputs_product_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("product_id", "input_id", name=op.f("pk_product_inputs")),
    )
    op.create_index(op.f("ix_product_inputs_input_id"), "product_inputs", ["input_id"], unique=False)
