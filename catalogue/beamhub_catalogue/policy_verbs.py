"""What `beamhub policy` does: is a policy file valid, and what may a person do and why."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.named_people import named_person
from beamhub_catalogue.people import as_of_now
from beamhub_catalogue.queries import Catalogue, equals
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.shown import described, opened_service, show, table
from beamhub_core.errors import BeamhubError
from beamhub_core.identity import Principal
from beamhub_core.policy import Decision
from beamhub_core.policy_document import EmbargoClass, PolicyDocument
from beamhub_core.policy_file import read_policy
from beamhub_core.policy_rules import PolicyRule

MAX_WORDS_SHOWN = 6


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


def read_time(text: str | None) -> datetime | None:
    """A time with its zone, between the years 1 and 9999 in UTC.

    Raises
    ------
    BadTime
        For anything else.
    """
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


def run_check(arguments: argparse.Namespace) -> int:
    """Whether a policy file is valid; its problems are a ConfigInvalid."""
    policy = read_policy(arguments.file)
    facts = {
        "ok": True,
        "version": policy.version,
        "label": policy.label,
        "timezone": policy.timezone,
        "classes": {name: rules.model_dump(mode="json") for name, rules in policy.classes.items()},
        "rules": [rule.model_dump(mode="json", exclude_none=True) for rule in policy.rules or ()],
    }
    head = f"{arguments.file} is valid: version {policy.version}, label {policy.label}"
    lines = [f"{head}, days end in {policy.timezone}", "", *_class_table(policy), "", *_rule_table(policy)]
    show(arguments, facts, lines)
    return 0


def _class_table(policy: PolicyDocument) -> list[str]:
    head = ("CLASS", "EMBARGO", "EXTENSIONS", "METADATA", "ROLES", "NEEDS", "GUESTS", "LICENCE")
    return table(head, [(name, *_class_cells(rules)) for name, rules in policy.classes.items()])


def _class_cells(rules: EmbargoClass) -> tuple[str, ...]:
    embargo = "never opens" if rules.embargo_months == "never" else f"{rules.embargo_months} months"
    roles = rules.roles
    insiders = f"scientist {roles.instrument_scientist}, support {roles.support}, service {roles.service}"
    needs = ", ".join((*rules.required_assurance, " or ".join(rules.required_acr))).strip(", ")
    steps = ", ".join(f"+{months}" for months in rules.extension_months)
    return (
        embargo,
        steps or "none",
        rules.metadata,
        insiders,
        needs or "-",
        rules.guests,
        rules.license or "-",
    )


def _rule_table(policy: PolicyDocument) -> list[str]:
    if policy.rules is None:
        return ["No rules: a proposal stands under the class that has the name of its own class."]
    head = ("RULE", "INSTRUMENTS", "PROPOSAL CLASSES", "ACCESS ROUTES", "BEGINNING", "CLASS")
    return table(head, [_rule_cells(rule) for rule in policy.rules])


def _rule_cells(rule: PolicyRule) -> tuple[str, ...]:
    first, last = rule.first_day, rule.last_day
    days = f"{first} to {last}" if first and last else f"from {first}" if first else f"until {last}"
    return (
        rule.name,
        _words(rule.instruments),
        _words(rule.proposal_classes),
        _words(rule.access_routes),
        days if first or last else "any day",
        rule.embargo_class,
    )


def _words(words: tuple[str, ...] | None) -> str:
    if words is None:
        return "all"
    more = len(words) - MAX_WORDS_SHOWN
    told = ", ".join(word or "(none)" for word in words[:MAX_WORDS_SHOWN])
    return told + (f" and {more} more" if more > 0 else "")


def run_explain(arguments: argparse.Namespace) -> int:
    """The decision on a dataset or proposal, by the code that decides; exit code 3 or 4 for a no."""
    at = read_time(arguments.at)
    with opened_service(arguments) as service:
        service.rules.refresh()
        reader = None
        if arguments.reader:
            with service.database.reading() as session:
                reader = named_person(session, service.config.login, arguments.reader)
        with _desk_at(service, at).reading(reader) as catalogue:
            decision, kind = _decision_on(catalogue, arguments.name)
            facts = {kind: arguments.name} | _explained(decision)
            facts |= _reader_facts(service, reader)
            facts["at"], facts["policy"] = catalogue.now.isoformat(), catalogue.policy.label
    show(arguments, facts, described(facts))
    if decision is None or decision.visibility == "hidden":
        return 3
    return 0 if decision.may_read else 4


def _reader_facts(service: CatalogueService, reader: Principal | None) -> dict[str, str | None]:
    """Who was decided about, and what the login is worth: entitlements and roles end with the grace time."""
    if reader is None:
        return {"reader": None, "login": None}
    if service.principal(reader.account) is None:
        return {"reader": reader.account, "login": "never: only rows of user offices count"}
    login = f"last checked {reader.checked_at.isoformat()}"
    if as_of_now(reader, service.config.login, service.desk.wall_clock()) is not reader:
        login += ", too long ago: only rows of user offices count"
    return {"reader": reader.account, "login": login}


def _decision_on(catalogue: Catalogue, name: str) -> tuple[Decision | None, str]:
    """The judge's decision on a pid or else on a proposal; None for what there is not."""
    row = catalogue.session.scalar(select(DatasetRow).where(equals(DatasetRow.pid, name)))
    if row is not None:
        return catalogue.judge.on_dataset(row), "pid"
    in_use = select(DatasetRow.id).where(equals(DatasetRow.proposal, name)).limit(1)
    known = "\0" not in name and catalogue.judge.proposal_row(name) is not None
    if known or catalogue.session.scalar(in_use) is not None:
        return catalogue.judge.on_proposal(name), "proposal"
    return None, "pid"


def _explained(decision: Decision | None) -> dict[str, Any]:
    if decision is None:
        return {"decision": "unknown", "rule": None, "until": None, "reason": "There is no such dataset."}
    until = decision.until if decision.may_read else decision.opens_at
    clause = decision.because if decision.may_read else decision.refusal
    return {
        "decision": "read" if decision.may_read else decision.visibility,
        "rule": f"{decision.rule}: {clause}",
        "until": until.isoformat() if until else None,
        "reason": decision.detail or decision.reason,
        "because": decision.because,
        "refusal": decision.refusal,
        "state": decision.state,
        "opens_at": decision.opens_at.isoformat() if decision.opens_at else None,
        "may_write": decision.may_write,
        "may_mount": decision.may_mount,
        "required_assurance": list(decision.required_assurance),
        "required_acr": list(decision.required_acr),
    }


def _desk_at(service: CatalogueService, at: datetime | None) -> Desk:
    """The desk at another time. The rules keep the true clock: what they write is for all processes."""
    if at is None:
        return service.desk
    return Desk(service.database, service.config, service.rules, lambda: at, service.desk.wall_clock)
