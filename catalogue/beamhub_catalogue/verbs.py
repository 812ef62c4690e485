"""What `beamhub catalogue` and `beamhub dataset` do; `beamhub_catalogue.command` has their words."""

from __future__ import annotations

import argparse
import dataclasses

from beamhub_catalogue.named_people import named_person
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.shown import described, opened_service, show
from beamhub_catalogue.views import SearchFilters
from beamhub_core.identity import Principal
from beamhub_core.rights import Refusal, Refused


def run_list(arguments: argparse.Namespace) -> int:
    """A page of datasets."""
    with opened_service(arguments) as service:
        reader = person_named(service, arguments.reader)
        filters = SearchFilters(proposal=arguments.proposal, readable_only=arguments.readable)
        page = service.search(reader, " ".join(arguments.text), filters, arguments.page, arguments.limit)
    lines = [f"{hit.pid}\t{hit.embargo.state}\t{hit.title}" for hit in page.hits]
    rest = f", page {page.page} of {page.n_pages}" if page.n_pages > 1 else ""
    show(arguments, dataclasses.asdict(page), [*lines, f"{page.total} dataset(s){rest}"])
    return 0


def run_get(arguments: argparse.Namespace) -> int:
    """One dataset."""
    with opened_service(arguments) as service:
        view = service.dataset_page(person_named(service, arguments.reader), arguments.pid)
    if isinstance(view, Refusal):
        raise Refused(view)
    facts = dataclasses.asdict(view)
    show(arguments, facts, described(facts))
    return 0


def person_named(service: CatalogueService, name: str | None) -> Principal | None:
    """The reader that an operator names, None for an anonymous one."""
    if name is None:
        return None
    service.rules.refresh()
    with service.database.reading() as session:
        return named_person(session, service.config.login, [name])
