"""What is told of datasets and documents: authors, techniques, samples, DOIs, SI values, sources, ends."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from beamhub_catalogue.migrations.search_objects import (
    create_counts,
    create_text_indexes,
    drop_counts,
    drop_text_indexes,
)
from beamhub_catalogue.models import UtcDateTime
from beamhub_catalogue.units import find_unit

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EPOCH = "1970-01-01 00:00:00+00:00"
ADDED: dict[str, tuple[tuple[str, Any, str | None], ...]] = {
    "datasets": (
        ("changed_at", UtcDateTime(), EPOCH),
        ("source", sa.String(80), "files"),
        ("source_id", sa.String(300), None),
        ("description", sa.Text(), ""),
        ("keywords", sa.JSON(), "[]"),
        ("lifecycle", sa.String(12), "online"),
        ("doi", sa.String(300), None),
        ("doi_state", sa.String(12), None),
        ("publisher", sa.String(300), None),
        ("publication_year", sa.Integer(), None),
        ("license", sa.String(120), None),
        ("version", sa.String(40), None),
        ("replaced_by", sa.String(300), None),
        ("tombstone", sa.Text(), None),
    ),
    "proposals": (
        ("changed_at", UtcDateTime(), None),
        ("summary", sa.Text(), ""),
        ("doi", sa.String(300), None),
        ("keywords", sa.JSON(), "[]"),
    ),
    "instruments": (("pid", sa.String(300), None), ("facility", sa.String(200), "")),
    "dataset_files": (("checksum", sa.String(160), None),),
    "dataset_parameters": (("si_number", sa.Double(), None), ("dimension", sa.String(40), None)),
}
INDEXES = (
    ("datasets", ("changed_at",), False),
    ("datasets", ("doi",), True),
    ("datasets", ("source", "source_id"), True),
    ("proposals", ("changed_at",), False),
    ("proposals", ("doi",), True),
    ("dataset_parameters", ("name", "dimension", "si_number"), False),
)
TABLES = (
    "dataset_counts",
    "stale_counts",
    "adapter_cursors",
    "document_parameters",
    "publication_datasets",
    "publications",
    "authorships",
    "authors",
    "affiliations",
    "dataset_samples",
    "dataset_techniques",
)


def upgrade() -> None:
    """Add columns and tables, and fill them from what is there."""
    for table, columns in ADDED.items():
        for name, kind, default in columns:
            op.add_column(table, sa.Column(name, kind, server_default=default, nullable=default is None))
    op.drop_index(op.f("ix_dataset_parameters_name"), table_name="dataset_parameters")
    _create_descriptions()
    _create_authors()
    _create_publications()
    _create_records()
    op.execute(sa.text("UPDATE datasets SET changed_at = harvested_at"))
    for table, names, unique in INDEXES:
        op.create_index(op.f(f"ix_{table}_{'_'.join(names)}"), table, list(names), unique=unique)
    op.execute(
        sa.text(
            "INSERT INTO dataset_techniques (dataset_id, position, pid, label)"
            " SELECT id, 0, technique, technique_label FROM datasets"
        )
    )
    op.execute(
        sa.text(
            "INSERT INTO dataset_samples (dataset_id, position, name, description)"
            " SELECT id, 0, sample, '' FROM datasets WHERE sample IS NOT NULL"
        )
    )
    _fill_si()
    create_counts()
    create_text_indexes()


def downgrade() -> None:
    """Drop them with all that is in them."""
    drop_counts()
    drop_text_indexes()
    for table, names, _ in reversed(INDEXES):
        op.drop_index(op.f(f"ix_{table}_{'_'.join(names)}"), table_name=table)
    for table in TABLES:
        op.drop_table(table)
    op.create_index(op.f("ix_dataset_parameters_name"), "dataset_parameters", ["name"], unique=False)
    for table, columns in ADDED.items():
        for name, *_ in reversed(columns):
            op.drop_column(table, name)


def _fill_si() -> None:
    """One statement for each unit that occurs."""
    connection = op.get_bind()
    found = sa.text("SELECT DISTINCT unit FROM dataset_parameters WHERE number IS NOT NULL")
    for told in connection.execute(found).scalars().all():
        unit = find_unit(told or "")
        if unit is None:
            continue
        connection.execute(
            sa.text(
                "UPDATE dataset_parameters SET si_number = number * :factor + :offset, dimension = :dimension"
                " WHERE number IS NOT NULL AND coalesce(unit, '') = :told"
            ),
            {"factor": unit.factor, "offset": unit.offset, "dimension": unit.dimension, "told": told or ""},
        )


def _of_dataset(nullable: bool, table: str) -> tuple[sa.Column[Any], sa.ForeignKeyConstraint]:
    return (
        sa.Column("dataset_id", ROW_ID, nullable=nullable),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f(f"fk_{table}_dataset_id_datasets"), ondelete="CASCADE"
        ),
    )


def _create_descriptions() -> None:
    op.create_table(
        "dataset_techniques",
        *_of_dataset(False, "dataset_techniques"),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pid", sa.String(200), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "position", name=op.f("pk_dataset_techniques")),
    )
    op.create_index(op.f("ix_dataset_techniques_pid_dataset_id"), "dataset_techniques", ["pid", "dataset_id"])
    op.create_table(
        "dataset_samples",
        *_of_dataset(False, "dataset_samples"),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pid", sa.String(300), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "position", name=op.f("pk_dataset_samples")),
    )


def _create_authors() -> None:
    op.create_table(
        "affiliations",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ror", sa.String(40), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("city", sa.String(120), nullable=True),
        sa.Column("country", sa.String(120), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_affiliations")),
        sa.UniqueConstraint("ror", name=op.f("uq_affiliations_ror")),
    )
    op.create_table(
        "authors",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("full_name", sa.Text(), nullable=False),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("orcid", sa.String(19), nullable=True),
        sa.Column("researcher_id", sa.String(80), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authors")),
        sa.UniqueConstraint("orcid", name=op.f("uq_authors_orcid")),
    )
    op.create_table(
        "authorships",
        sa.Column("id", ROW_ID, nullable=False),
        *_of_dataset(True, "authorships"),
        sa.Column("document", sa.String(300), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(60), nullable=False),
        sa.Column("author_id", ROW_ID, nullable=False),
        sa.Column("affiliation_id", ROW_ID, nullable=True),
        sa.ForeignKeyConstraint(["author_id"], ["authors.id"], name=op.f("fk_authorships_author_id_authors")),
        sa.ForeignKeyConstraint(
            ["affiliation_id"], ["affiliations.id"], name=op.f("fk_authorships_affiliation_id_affiliations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorships")),
    )
    for column in ("dataset_id", "document", "author_id", "affiliation_id"):
        op.create_index(op.f(f"ix_authorships_{column}"), "authorships", [column])


def _create_publications() -> None:
    op.create_table(
        "publications",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("pid", sa.String(300), nullable=False),
        sa.Column("type", sa.String(60), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("doi", sa.String(300), nullable=True),
        sa.Column("license", sa.String(120), nullable=True),
        sa.Column("keywords", sa.JSON(), nullable=False),
        sa.Column("publisher", sa.String(300), nullable=True),
        sa.Column("publication_year", sa.Integer(), nullable=True),
        sa.Column("released_at", UtcDateTime(), nullable=True),
        sa.Column("source", sa.String(80), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publications")),
        sa.UniqueConstraint("pid", name=op.f("uq_publications_pid")),
    )
    for column in ("doi", "changed_at"):
        op.create_index(op.f(f"ix_publications_{column}"), "publications", [column])
    op.create_table(
        "publication_datasets",
        sa.Column("publication_id", ROW_ID, nullable=False),
        *_of_dataset(False, "publication_datasets"),
        sa.ForeignKeyConstraint(
            ["publication_id"],
            ["publications.id"],
            name=op.f("fk_publication_datasets_publication_id_publications"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("publication_id", "dataset_id", name=op.f("pk_publication_datasets")),
    )
    op.create_index(op.f("ix_publication_datasets_dataset_id"), "publication_datasets", ["dataset_id"])
    op.create_table(
        "document_parameters",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("document", sa.String(300), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("word", sa.Text(), nullable=True),
        sa.Column("unit", sa.String(60), nullable=True),
        sa.Column("si_number", sa.Double(), nullable=True),
        sa.Column("dimension", sa.String(40), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document_parameters")),
    )
    op.create_index(op.f("ix_document_parameters_document"), "document_parameters", ["document"])
    names = ["name", "dimension", "si_number"]
    op.create_index(op.f("ix_document_parameters_name_dimension_si_number"), "document_parameters", names)


def _create_records() -> None:
    op.create_table(
        "adapter_cursors",
        sa.Column("source", sa.String(80), nullable=False),
        sa.Column("cursor", sa.JSON(), nullable=False),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_adapter_cursors")),
    )
