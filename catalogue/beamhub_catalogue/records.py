"""From a file's report to the catalogue's rows: raw datasets and products."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from beamhub_catalogue.acts import is_withdrawn
from beamhub_catalogue.authors import Author, set_authors
from beamhub_catalogue.file_report import FileReport
from beamhub_catalogue.models import DatasetRow, FileRow, GovernorRow, InputRow, ParameterRow, SampleRow
from beamhub_catalogue.units import in_si
from beamhub_catalogue.walk import FoundFile
from beamhub_core.config.facility import FacilityConfig
from beamhub_core.errors import BeamhubError
from beamhub_core.product import Product
from beamhub_core.techniques import LABELS, technique_label

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_PANET = re.compile(r"http://purl\.org/pan-science/PaNET/PaNET\d{5}")
MAX_STEM = 120
MAX_PARAMETERS = 200
MAX_INSTRUMENT = 200


class NotCatalogued(BeamhubError):
    """A file that is well-formed but has no place in the catalogue, or not before a dataset is there."""

    def __init__(self, reason: str, waits_for_pid: str | None = None) -> None:
        super().__init__(reason, waits_for_pid)
        self.reason, self.waits_for_pid = reason, waits_for_pid

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Location:
    """Where a product was found: in a pool, or in its maker's home."""

    file: FoundFile
    private_to: str | None = None


def store_raw(
    session: Session, config: FacilityConfig, file: FoundFile, report: FileReport, now: datetime
) -> DatasetRow:
    """Make or renew the dataset of a master file.

    Raises
    ------
    NotCatalogued
        If the file says that it belongs to another proposal than its folder.
    """
    claimed = report.experiment_identifier
    if claimed is not None and claimed != file.proposal:
        raise NotCatalogued(
            f"says that it belongs to {claimed[:80]!r}, but lies in the folder of {file.proposal}"
        )
    row = session.scalar(
        select(DatasetRow).where(
            DatasetRow.pool == file.pool, DatasetRow.file == file.path, DatasetRow.kind == "raw"
        )
    )
    if row is None:
        pid = _raw_pid(session, config, file)
        row = DatasetRow(pid=pid, kind="raw", has_preview=False, withdrawn=is_withdrawn(session, pid))
        session.add(row)
    folder = _folder_of(file.path)
    linked = [(found, size) for path, size in report.linked_files if (found := _in_pools(config, path))]
    technique = report.technique_pid if _PANET.fullmatch(report.technique_pid or "") else ""
    row.proposal, row.pool, row.file, row.folder = file.proposal, file.pool, file.path, folder
    row.title = report.title or Path(file.path).stem
    row.set_techniques((technique or "", _label(technique or "", report)))
    row.instrument = (report.instrument or "")[:MAX_INSTRUMENT]
    row.set_samples(*(SampleRow(name=s.name, description=s.description or "") for s in report.samples))
    row.start, row.end = (_instant(text, config) for text in (report.start_time, report.end_time))
    row.size_bytes = file.size_bytes + sum(size for _, size in linked)
    row.link_closure = _closure(file.pool, folder, [found for found, _ in linked])
    missing = (f"{link.target}: {link.reason}"[:500] for link in report.missing_links)
    row.missing_links = list(dict.fromkeys(missing))
    row.private_to, row.product = None, None
    row.harvested_at = row.changed_at = now
    row.files = [_file_row(file.pool, file.path, file.size_bytes)]
    row.files += [_file_row(pool, path, size) for (pool, path), size in linked]
    row.parameters = [parameter_row(p.name, p.value, p.unit) for p in report.parameters]
    row.description = report.description or ""
    session.flush()
    set_authors(session, row, [Author(p.name, p.orcid, p.role, p.affiliation) for p in report.people])
    return row


def parameter_row(name: str, value: float | str, unit: str | None) -> ParameterRow:
    """A parameter as it was told, and its number in SI where we know the unit."""
    if isinstance(value, str):
        return ParameterRow(name=name, number=None, word=value, unit=unit)
    si_number, dimension = in_si(value, unit) or (None, None)
    return ParameterRow(
        name=name, number=value, word=None, unit=unit, si_number=si_number, dimension=dimension
    )


def read_product(config: FacilityConfig, where: Location, report: FileReport) -> Product:
    """The product that a file says it is.

    Raises
    ------
    NotCatalogued
        If its provenance is missing or malformed, or names another proposal than its folder.
    """
    if report.provenance is None or report.sha256 is None:
        raise NotCatalogued("has no /entry/process/provenance, so nobody knows what it was made from")
    try:
        told: Any = json.loads(report.provenance)
        if not isinstance(told, dict):
            raise NotCatalogued("has a provenance that is no JSON object")
        proposal = told.get("proposal") if where.private_to else where.file.proposal
        product = Product.model_validate_json(
            json.dumps(
                told
                | {
                    "pid": f"{config.short_name}:{proposal}:product-{report.sha256[:20]}",
                    "sha256": report.sha256,
                    "size_bytes": where.file.size_bytes,
                    "path": where.file.path,
                    "evidence": report.evidence,
                },
                allow_nan=False,
            )
        )
        if product.made_at.tzinfo is not None:
            product.made_at.astimezone(UTC)  # the table keeps it so; a year 1 east of Greenwich has none
    except (ValueError, ValidationError, RecursionError, OverflowError):
        raise NotCatalogued("has a provenance that does not say what a product must say") from None
    if not where.private_to and product.proposal != where.file.proposal:
        raise NotCatalogued(
            f"says that it belongs to {product.proposal[:80]!r}, but lies in {where.file.proposal}"
        )
    if "\\u0000" in report.provenance:
        raise NotCatalogued("has a provenance with a zero character, which no text of a database may hold")
    if len(product.inputs) > 64 or len(product.pid) > 300:
        raise NotCatalogued("names more than 64 inputs, or a proposal with too long a name")
    return product


def find_inputs(session: Session, product: Product) -> list[DatasetRow]:
    """The datasets that a product was made from.

    Raises
    ------
    NotCatalogued
        If one is unknown; it may be harvested later.
    """
    rows = catalogued_inputs(session, product)
    check_inputs(product, rows)
    return rows


def catalogued_inputs(session: Session, product: Product) -> list[DatasetRow]:
    """Those of the datasets that a product names as its inputs that there are."""
    query = select(DatasetRow).where(DatasetRow.pid.in_(product.inputs)).order_by(DatasetRow.pid)
    return list(session.scalars(query))


def check_inputs(product: Product, rows: list[DatasetRow]) -> None:
    """Raise `NotCatalogued` for the first input, by name, that is not among the rows."""
    unknown = sorted(set(product.inputs) - {row.pid for row in rows})
    if unknown:
        raise NotCatalogued(f"was made from {unknown[0][:120]!r}, which is not catalogued", unknown[0][:300])


def store_product(
    session: Session, product: Product, where: Location, inputs: list[DatasetRow], now: datetime
) -> DatasetRow:
    """Make the dataset of a product under the policies of everything that it was made from.

    The same content found again keeps its record, which moves from a home to a processed folder but never
    back. Other content under an old name withdraws the old record.
    """
    row = session.scalar(select(DatasetRow).where(DatasetRow.pid == product.pid))
    if row is not None and (row.private_to is None or where.private_to == row.private_to):
        return row
    first = next(row for row in inputs if row.pid == product.inputs[0])
    samples = [SampleRow(pid=s.pid, name=s.name, description=s.description) for s in first.samples]
    for old in session.scalars(
        select(DatasetRow).where(
            DatasetRow.pool == where.file.pool,
            DatasetRow.file == where.file.path,
            DatasetRow.pid != product.pid,
        )
    ):
        old.withdrawn, old.has_preview, old.changed_at = True, False, now
    if row is None:
        row = DatasetRow(pid=product.pid, kind="product", has_preview=False)
        row.withdrawn = is_withdrawn(session, product.pid)
        session.add(row)
    row.proposal = first.proposal if where.private_to else product.proposal
    row.pool = where.file.pool
    row.folder = row.file = where.file.path
    row.title = product.title[:1000] or "Product"
    technique = product.technique if _PANET.fullmatch(product.technique) else first.technique
    label = technique_label(technique) if technique in LABELS else first.technique_label
    row.set_techniques((technique, label))
    row.instrument = first.instrument
    row.set_samples(*samples)
    row.start = row.end = product.made_at if product.made_at.tzinfo else now
    row.size_bytes = where.file.size_bytes
    row.link_closure, row.missing_links = [], []
    row.private_to = where.private_to
    row.harvested_at = row.changed_at = now
    row.product = product.model_dump(mode="json")
    row.files = [_file_row(row.pool, row.file, row.size_bytes)]
    row.parameters = _product_parameters(product)
    session.flush()
    _store_ancestry(session, row, inputs)
    return row


def _store_ancestry(session: Session, row: DatasetRow, inputs: list[DatasetRow]) -> None:
    session.execute(delete(InputRow).where(InputRow.product_id == row.id))
    session.execute(delete(GovernorRow).where(GovernorRow.product_id == row.id))
    direct = {source.id for source in inputs}
    earlier = session.scalars(select(GovernorRow.governor_id).where(GovernorRow.product_id.in_(direct)))
    session.add_all(InputRow(product_id=row.id, input_id=i) for i in sorted(direct))
    session.add_all(GovernorRow(product_id=row.id, governor_id=i) for i in sorted(direct | set(earlier)))
    session.flush()


def _raw_pid(session: Session, config: FacilityConfig, file: FoundFile) -> str:
    stem = Path(file.path).stem
    plain = _UNSAFE.sub("-", stem)[:MAX_STEM].strip("-") or "dataset"
    short_hash = hashlib.sha256(f"{file.pool}/{file.path}".encode()).hexdigest()[:8]
    pid = f"{config.short_name}:{file.proposal}:{plain if plain == stem else f'{plain}-{short_hash}'}"
    taken = session.scalar(select(DatasetRow.id).where(DatasetRow.pid == pid))
    # A name such as product-... is for products, whose pids say what the file holds.
    if taken is not None or plain.startswith("product-"):
        pid = f"{config.short_name}:{file.proposal}:{plain}-{short_hash}"
    return pid


def _file_row(pool: str, path: str, size_bytes: int) -> FileRow:
    return FileRow(pool=pool, path=path, name=PurePosixPath(path).name, size_bytes=size_bytes)


def _folder_of(path: str) -> str:
    """The folder of a dataset, or the file alone where its folder is the whole proposal's."""
    parent = PurePosixPath(path).parent
    return path if len(parent.parts) < 2 else str(parent)


def _in_pools(config: FacilityConfig, real: str) -> tuple[str, str] | None:
    for pool in config.pools:
        root = pool.root.resolve()
        if Path(real).is_relative_to(root):
            return pool.name, Path(real).relative_to(root).as_posix()
    return None


def _closure(pool: str, folder: str, linked: list[tuple[str, str]]) -> list[dict[str, str]]:
    """The folders outside the dataset's own that its links lead to, none inside another."""
    folders = sorted({(p, PurePosixPath(_folder_of(path))) for p, path in linked})
    kept: list[tuple[str, PurePosixPath]] = [(pool, PurePosixPath(folder))]
    for candidate_pool, candidate in folders:
        if not any(p == candidate_pool and candidate.is_relative_to(k) for p, k in kept):
            kept.append((candidate_pool, candidate))
    return [{"pool": p, "path": str(path)} for p, path in kept[1:]]


def _label(technique: str, report: FileReport) -> str:
    if technique in LABELS:
        return LABELS[technique]
    return (report.technique_name or report.definition or "unknown technique")[:200]


def _instant(text: str | None, config: FacilityConfig) -> datetime | None:
    """A NeXus time; one without a zone is in the facility's. None for what is no time."""
    try:
        when = datetime.fromisoformat((text or "").strip())
        return (when if when.tzinfo else when.replace(tzinfo=ZoneInfo(config.timezone))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _product_parameters(product: Product) -> list[ParameterRow]:
    rows: list[ParameterRow] = []
    for name, value in sorted(product.parameters.items())[:MAX_PARAMETERS]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        told = float(value) if is_number and abs(value) < 1e300 else str(value)[:1000]
        rows.append(parameter_row(name[:120], told, None))
    return rows
