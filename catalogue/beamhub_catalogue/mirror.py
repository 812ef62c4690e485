"""Another catalogue mirrored here: its changes page by page, each page kept before the next is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import select

from beamhub_catalogue.ingest import store_told
from beamhub_catalogue.models import AdapterCursorRow, DatasetRow
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.sources.catalogue import CatalogueSource, Cursor, Page
from beamhub_catalogue.sources.open_source import open_source
from beamhub_catalogue.told import Gone
from beamhub_catalogue.told_store import StoreReport, Teller, n_of_source, remove_datasets
from beamhub_catalogue.write_back import write_back
from beamhub_core.config.catalogue_sources import CatalogueSourceConfig

MAX_KEPT_PROBLEMS = 500
MAX_IDS = 20_000_000
FEW = 10
"""So many datasets may vanish at once without a second look, even if they were all."""


@dataclass(slots=True)
class MirrorReport:
    """What one pass did; `problems` are (record, reason)."""

    stored: list[str] = field(default_factory=list)
    n_unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def mirror(service: CatalogueService, config: CatalogueSourceConfig, *, full: bool = False) -> MirrorReport:
    """Bring what is here of a source up to date; it goes on where an earlier pass ended or broke off.

    Raises
    ------
    CatalogueBroken
        If the source does not answer; what came before is kept.
    """
    service.rules.refresh()
    report = MirrorReport()
    teller = Teller(service.config, config.name, config.authority)
    with open_source(config) as source:
        cursor = {} if full else _cursor(service, config.name)
        for page in source.changes(cursor):
            _keep(service, teller, page, report)
        _find_gone(service, teller, source, report)
        if config.write_back:
            report.written = write_back(service, source)
    return report


def dry_mirror(service: CatalogueService, config: CatalogueSourceConfig) -> Page | None:
    """The next page of a source, of which nothing is kept; None where there is none."""
    with open_source(config) as source:
        return next(iter(source.changes(_cursor(service, config.name))), None)


def _keep(service: CatalogueService, teller: Teller, page: Page, report: MirrorReport) -> None:
    stored = store_told(service, teller, page.records)
    problems = [*page.problems, *stored.refused]
    now = service.clock()
    with service.database.writing() as session:
        report.removed += remove_datasets(session, teller, page.gone, now)
        row = session.get(AdapterCursorRow, teller.name)
        if row is None:
            row = AdapterCursorRow(source=teller.name, problems=[])
            session.add(row)
        row.cursor, row.read_at = page.cursor, now
        told = [{"record": name, "reason": reason} for name, reason in problems]
        named = {problem["record"] for problem in told} | set(stored.stored)
        kept = [problem for problem in row.problems if problem["record"] not in named]
        row.problems = (kept + told)[-MAX_KEPT_PROBLEMS:]
    _count(report, stored, problems)


def _count(report: MirrorReport, stored: StoreReport, problems: list[tuple[str, str]]) -> None:
    report.stored += stored.stored
    report.n_unchanged += stored.n_unchanged
    report.problems += problems


def _cursor(service: CatalogueService, name: str) -> Cursor:
    with service.database.reading() as session:
        row = session.get(AdapterCursorRow, name)
        return dict(row.cursor) if row is not None else {}


def _find_gone(
    service: CatalogueService, teller: Teller, source: CatalogueSource, report: MirrorReport
) -> None:
    """Make tombstones of what the source no longer lists, unless that is more than half of all."""
    there = set(islice(source.ids(), MAX_IDS))
    with service.database.reading() as session:
        mine = select(DatasetRow.source_id).where(DatasetRow.source == teller.name)
        held = set(session.scalars(mine.where(DatasetRow.tombstone.is_(None))))
        n_held = n_of_source(session, teller.name)
    gone = sorted(one for one in held - there if one is not None)
    if len(gone) > max(FEW, n_held // 2):
        reason = f"no longer lists {len(gone)} of {n_held} datasets; they are kept, for it may be in trouble"
        report.problems.append((teller.name, reason))
        return
    report.removed += _remove(service, teller, gone)


def _remove(service: CatalogueService, teller: Teller, gone: Iterable[str]) -> list[str]:
    with service.database.writing() as session:
        return remove_datasets(session, teller, [Gone(source_id=one) for one in gone], service.clock())
