"""What the verbs of the catalogue do; `beamhub_catalogue.command` has their words."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from datetime import UTC, datetime
from typing import Any

from beamhub_catalogue.audit import record_command
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.people import find_principal
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.views import SearchFilters
from beamhub_core.config import read_config
from beamhub_core.errors import BeamhubError
from beamhub_core.identity import Principal, account_name
from beamhub_core.policy import Decision
from beamhub_core.policy_file import read_policy
from beamhub_core.rights import Refusal, Refused


class UnknownPerson(BeamhubError):
    """The catalogue has no person of this name."""

    exit_code = 3

    def __init__(self, subject: str) -> None:
        super().__init__(subject)
        self.subject = subject

    def __str__(self) -> str:
        return (
            f"Nobody called {self.subject!r} has logged in through a configured provider. "
            "Name the subject as the provider does, or leave --as away for an anonymous reader."
        )


class BadTime(BeamhubError):
    """A time on the command line is none."""

    exit_code = 2

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return (
            f"{self.text!r} is no time with a zone, e.g. 2026-03-31T12:00:00+02:00 or 2026-03-31T10:00:00Z."
        )


def run_harvest(arguments: argparse.Namespace) -> int:
    """Scan once, in this process."""
    service = _service(arguments)
    try:
        if arguments.pool is not None and arguments.pool not in {p.name for p in service.config.pools}:
            sys.stderr.write(f"beamhub: there is no pool {arguments.pool!r}\n")
            return 2
        record_command(service.database, "catalogue harvest", service.clock())
        report = service.harvester.scan(arguments.pool, arguments.path)
    finally:
        service.stop()
    problems = [{"source": p.source, "file": p.file, "reason": p.reason} for p in report.all_problems]
    _show(
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
    service = _service(arguments)
    try:
        reader = _person(service, arguments.reader)
        page = service.search(reader, " ".join(arguments.text), SearchFilters(), arguments.page)
    finally:
        service.stop()
    lines = [f"{hit.pid}\t{hit.embargo.state}\t{hit.title}" for hit in page.hits]
    _show(arguments, dataclasses.asdict(page), [*lines, f"{page.total} dataset(s)"])
    return 0


def run_get(arguments: argparse.Namespace) -> int:
    """One dataset."""
    service = _service(arguments)
    try:
        view = service.dataset_page(_person(service, arguments.reader), arguments.pid)
    finally:
        service.stop()
    if isinstance(view, Refusal):
        raise Refused(view)
    facts = dataclasses.asdict(view)
    _show(arguments, facts, [f"{name}: {value}" for name, value in facts.items()])
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Whether a policy file is valid; its problems are a ConfigInvalid."""
    policy = read_policy(arguments.file)
    classes = ", ".join(policy.classes)
    facts = {"ok": True, "version": policy.version, "classes": list(policy.classes)}
    _show(arguments, facts, [f"{arguments.file} is valid: version {policy.version}, classes {classes}"])
    return 0


def run_explain(arguments: argparse.Namespace) -> int:
    """The decision on one dataset, by the code that decides; exit code 3 or 4 when the answer is no."""
    at = _time(arguments.at)
    service = _service(arguments)
    try:
        reader = _account(service, arguments.reader) if arguments.reader else None
        with _desk_at(service, at).reading(reader) as catalogue:
            row = catalogue.row(arguments.pid)
            decision = catalogue.judge.on_dataset(row) if row is not None else None
            when = catalogue.now
    finally:
        service.stop()
    facts = _explained(decision) | {"pid": arguments.pid, "at": when.isoformat()}
    _show(arguments, facts, [f"{name}: {value}" for name, value in facts.items() if value is not None])
    if decision is None:
        return 3
    return 0 if decision.may_read else 4


def _explained(decision: Decision | None) -> dict[str, Any]:
    if decision is None:
        return {"decision": "hidden", "rule": "not_found", "until": None, "reason": "No such dataset."}
    until = decision.until if decision.may_read else decision.opens_at
    return {
        "decision": "read" if decision.may_read else decision.visibility,
        "rule": decision.because or decision.refusal,
        "until": until.isoformat() if until else None,
        "reason": decision.detail or decision.reason,
        "state": decision.state,
        "opens_at": decision.opens_at.isoformat() if decision.opens_at else None,
        "may_write": decision.may_write,
    }


def _service(arguments: argparse.Namespace) -> CatalogueService:
    return CatalogueService(read_config(arguments.config))


def _desk_at(service: CatalogueService, at: datetime | None) -> Desk:
    """The desk at another time. The rules keep the true clock: what they write is for all processes."""
    if at is None:
        return service.desk
    return Desk(service.database, service.config, service.rules, lambda: at, service.desk.wall_clock)


def _person(service: CatalogueService, subject: str | None) -> Principal | None:
    """The one known person with a subject, at any configured provider."""
    if subject is None:
        return None
    issuers = [provider.issuer for provider in service.config.login.providers]
    found = [service.principal(account_name(issuer, subject)) for issuer in issuers]
    people = [person for person in found if person is not None]
    if len(people) != 1:
        raise UnknownPerson(subject)
    return people[0]


def _account(service: CatalogueService, reader: list[str]) -> Principal:
    """A person by issuer and subject; one who never logged in is explained by the user office alone."""
    issuer, subject = reader
    account = account_name(issuer, subject)
    with service.database.reading() as session:
        stored = find_principal(session, account)
    return stored or Principal(
        issuer=issuer,
        subject=subject,
        account=account,
        display_name=subject[:200],
        checked_at=datetime.now(UTC),
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:
            raise BadTime(text)
        when.astimezone(UTC)  # the database compares in UTC
    except (ValueError, OverflowError):
        raise BadTime(text) from None
    return when


def _show(arguments: argparse.Namespace, facts: dict[str, Any], lines: list[str]) -> None:
    if arguments.json:
        sys.stdout.write(json.dumps(facts, default=str) + "\n")
    else:
        # A title is a stranger's text: no control character of it reaches the terminal.
        sys.stdout.writelines(
            "".join(c if c.isprintable() or c == "\t" else "?" for c in line) + "\n" for line in lines
        )
