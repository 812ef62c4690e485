"""What `beamhub catalogue` and `beamhub dataset` do; `beamhub_catalogue.command` has their words."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from beamhub_catalogue.audit import record_command
from beamhub_catalogue.named_people import named_person
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.shown import described, opened_service, show
from beamhub_catalogue.views import SearchFilters
from beamhub_core.identity import Principal
from beamhub_core.rights import Refusal, Refused


def run_harvest(arguments: argparse.Namespace) -> int:
    """Scan once, in this process."""
    with opened_service(arguments) as service:
        if arguments.pool is not None and arguments.pool not in {p.name for p in service.config.pools}:
            sys.stderr.write(f"beamhub: there is no pool {arguments.pool!r}\n")
            return 2
        record_command(service.database, "catalogue harvest", service.clock())
        report = service.harvester.scan(arguments.pool, arguments.path)
    problems = [{"source": p.source, "file": p.file, "reason": p.reason} for p in report.all_problems]
    show(
        arguments,
        {
            "harvested": len(report.harvested),
            "unchanged": report.n_unchanged,
            "datasets": report.n_datasets,
            "problems": problems,
        },
        [
            f"{len(report.harvested)} harvested, {report.n_unchanged} unchanged, "
            f"{report.n_datasets} dataset(s), {len(problems)} problem(s)",
            *(f"{p['file']}: {p['reason']}" for p in problems),
        ],
    )
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """A page of datasets."""
    with opened_service(arguments) as service:
        reader = _person(service, arguments.reader)
        filters = SearchFilters(proposal=arguments.proposal, readable_only=arguments.readable)
        page = service.search(reader, " ".join(arguments.text), filters, arguments.page, arguments.limit)
    lines = [f"{hit.pid}\t{hit.embargo.state}\t{hit.title}" for hit in page.hits]
    rest = f", page {page.page} of {page.n_pages}" if page.n_pages > 1 else ""
    show(arguments, dataclasses.asdict(page), [*lines, f"{page.total} dataset(s){rest}"])
    return 0


def run_get(arguments: argparse.Namespace) -> int:
    """One dataset."""
    with opened_service(arguments) as service:
        view = service.dataset_page(_person(service, arguments.reader), arguments.pid)
    if isinstance(view, Refusal):
        raise Refused(view)
    facts = dataclasses.asdict(view)
    show(arguments, facts, described(facts))
    return 0


def _person(service: CatalogueService, name: str | None) -> Principal | None:
    """The reader that an operator names, None for an anonymous one."""
    if name is None:
        return None
    service.rules.refresh()
    with service.database.reading() as session:
        return named_person(session, service.config.login, [name])
