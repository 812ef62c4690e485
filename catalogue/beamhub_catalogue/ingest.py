"""`beamhub catalogue ingest`: NeXus files and folders of the pools, and JSON in the API's own shape."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from beamhub_catalogue.api_shape import read_items
from beamhub_catalogue.audit import record_command
from beamhub_catalogue.keeping import is_about_values
from beamhub_catalogue.rules import apply_policy
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.shown import opened_service, show
from beamhub_catalogue.told import ToldDataset
from beamhub_catalogue.told_store import (
    StoreReport,
    Teller,
    store_datasets,
    store_documents,
    store_instruments,
)

MAX_JSON_BYTES = 2**31
BATCH = 500
UNKEPT = "holds what the catalogue cannot keep, or a DOI that another record has"
Told = TypeVar("Told")


@dataclass(slots=True)
class IngestReport:
    """What became of all paths; `problems` are (place, reason)."""

    stored: list[str] = field(default_factory=list)
    n_unchanged: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, report: StoreReport, where: str) -> None:
        """Count what became of some records."""
        self.stored += report.stored
        self.n_unchanged += report.n_unchanged
        self.problems += [(f"{where}: {name}", reason) for name, reason in report.refused]


def run_ingest(arguments: argparse.Namespace) -> int:
    """Load what the paths hold; 1 when something of it was refused."""
    report = IngestReport()
    with opened_service(arguments) as service:
        record_command(service.database, "catalogue ingest", service.clock())
        service.rules.refresh()
        for path in arguments.paths:
            if path.suffix.lower() == ".json":
                ingest_json(service, path, report)
            else:
                _ingest_files(service, path, report)
    show(
        arguments,
        {
            "stored": len(report.stored),
            "unchanged": report.n_unchanged,
            "problems": [{"where": where, "reason": reason} for where, reason in report.problems],
        },
        [
            f"{len(report.stored)} stored, {report.n_unchanged} unchanged, {len(report.problems)} problem(s)",
            *(f"{where}: {reason}" for where, reason in report.problems),
        ],
    )
    return 1 if report.problems else 0


def ingest_json(service: CatalogueService, path: Path, report: IngestReport) -> None:
    """Load one JSON file; each record is stored whole or not at all."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            report.problems.append((str(path), "is longer than 2 GiB; cut it into several files"))
            return
        told: Any = json.loads(path.read_bytes())
    except OSError as error:
        report.problems.append((str(path), f"cannot be read: {error.strerror}"))
        return
    except (ValueError, RecursionError) as error:
        report.problems.append((str(path), f"is no JSON: {str(error)[:200]}"))
        return
    items = read_items(told)
    report.problems += [(f"{path}: {place}", reason) for place, reason in items.problems]
    teller, now = Teller(service.config), service.clock()
    where = str(path)
    report.add(_kept(service, items.instruments, lambda s, part: store_instruments(s, part, now)), where)
    report.add(store_told(service, teller, items.datasets), where)
    # Documents last: a publication names datasets.
    report.add(_kept(service, items.documents, lambda s, part: store_documents(s, part, teller, now)), where)


def store_told(service: CatalogueService, teller: Teller, records: Sequence[ToldDataset]) -> StoreReport:
    """Store datasets that were told, in batches; then the embargoes that they bring hold."""
    now = service.clock()
    report = _kept(service, records, lambda session, part: store_datasets(session, teller, part, now))
    if report.proposals:
        with service.database.writing() as session:
            apply_policy(session, service.rules.policy, now)
    return report


def _kept(
    service: CatalogueService,
    records: Sequence[Told],
    store: Callable[[Session, Sequence[Told]], StoreReport],
) -> StoreReport:
    """Store in batches, each in one transaction; one record by one where a batch fails on what it holds."""
    whole = StoreReport()
    for start in range(0, len(records), BATCH):
        batch = records[start : start + BATCH]
        try:
            _add(whole, _in_one(service, batch, store))
        except (StatementError, ValueError) as error:
            _check_own_fault(error)
            for record in batch:
                try:
                    _add(whole, _in_one(service, [record], store))
                except (StatementError, ValueError) as mine:
                    _check_own_fault(mine)
                    whole.refused.append((_name(record), UNKEPT))
    return whole


def _in_one(
    service: CatalogueService, part: Sequence[Told], store: Callable[[Session, Sequence[Told]], StoreReport]
) -> StoreReport:
    with service.database.writing() as session:
        return store(session, part)


def _check_own_fault(error: Exception) -> None:
    """Raise again what is no fault of the record: a database that is full or away."""
    about_record = isinstance(error, IntegrityError | ValueError)
    if not about_record and not (isinstance(error, StatementError) and is_about_values(error)):
        raise error


def _name(record: Any) -> str:
    return str(getattr(record, "pid", None) or getattr(record, "source_id", None) or record.name)[:300]


def _add(whole: StoreReport, part: StoreReport) -> None:
    whole.stored += part.stored
    whole.n_unchanged += part.n_unchanged
    whole.refused += part.refused
    whole.proposals |= part.proposals


def _ingest_files(service: CatalogueService, path: Path, report: IngestReport) -> None:
    """Harvest one file or folder of a pool."""
    absolute = path.resolve()
    for pool in service.config.pools:
        root = pool.root.resolve()
        if absolute.is_relative_to(root):
            inside = absolute.relative_to(root).as_posix()
            found = service.harvester.scan(pool.name, None if inside == "." else inside)
            report.stored += found.harvested
            report.n_unchanged += found.n_unchanged
            report.problems += [(problem.file, problem.reason) for problem in found.all_problems]
            return
    report.problems.append(
        (str(path), "lies in no pool: only files of a proposal's folder can be catalogued")
    )
