"""What `beamhub proposal` does: shows a proposal, and makes and revokes acts upon it as an operator."""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select

from beamhub_catalogue.act_making import acts_upon, make_act, take_back
from beamhub_catalogue.audit import Context, operator_name
from beamhub_catalogue.audit_acts import record_act
from beamhub_catalogue.models import ActRow, DatasetRow
from beamhub_catalogue.policy_verbs import read_time
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.rules import proposal_facts
from beamhub_catalogue.shown import described, opened_service, show
from beamhub_catalogue.texts import is_storable
from beamhub_core.acts import ProposalAct
from beamhub_core.errors import BeamhubError
from beamhub_core.policy import allowed_extensions, rules_for


class UnknownProposal(BeamhubError):
    """No user office knows a proposal of this name."""

    exit_code = 3

    def __init__(self, proposal: str) -> None:
        super().__init__(proposal)
        self.proposal = proposal

    def __str__(self) -> str:
        return f"No user office knows a proposal {self.proposal[:200]!r}."


class UnknownAct(BeamhubError):
    """Nobody made an act under this id."""

    exit_code = 3

    def __init__(self, act: str) -> None:
        super().__init__(act)
        self.act = act

    def __str__(self) -> str:
        return f"There is no act {self.act[:80]!r}; `beamhub proposal show ID` names those upon a proposal."


class BadAct(BeamhubError):
    """The words of an act are out of bounds."""

    exit_code = 2

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return f"This is no act: {'; '.join(self.problems)}."


def run_show(arguments: argparse.Namespace) -> int:
    """A proposal, what the policy makes of it, and the acts upon it."""
    with opened_service(arguments) as service, service.desk.reading(None) as catalogue:
        facts = _facts(catalogue, arguments.proposal)
    acts = facts["acts"]
    lines = described({name: value for name, value in facts.items() if name != "acts"})
    show(arguments, facts, [*lines, *(_line(act) for act in acts)])
    return 0


def run_extend(arguments: argparse.Namespace) -> int:
    """Extend the embargo."""
    return _make(arguments, "extension", months=arguments.months)


def run_release(arguments: argparse.Namespace) -> int:
    """Open the data on a day before the embargo's end."""
    return _make(arguments, "early_release", day=arguments.on)


def run_withdraw(arguments: argparse.Namespace) -> int:
    """Let nobody read a proposal's data, or one dataset of it."""
    return _make(arguments, "withdrawal", pid=arguments.dataset)


def run_consent(arguments: argparse.Namespace) -> int:
    """Note that the team lets user support read its data."""
    return _make(arguments, "support_consent", until=read_time(arguments.until))


def run_revoke(arguments: argparse.Namespace) -> int:
    """Take an act back."""
    with opened_service(arguments) as service:
        service.rules.refresh()
        with service.database.writing() as session:
            catalogue = service.desk.catalogue(session, None)
            found = take_back(catalogue, arguments.act) if is_storable(arguments.act) else None
            if found is None:
                raise UnknownAct(arguments.act)
            row, stood = found
            if stood:
                record_act(session, "act_revoked", row, catalogue.now, by=Context(operator=operator_name()))
            facts = _shown_act(row) | _outcome(catalogue, row.proposal)
    head = f"{row.kind} of {row.proposal} is revoked" + ("" if stood else ", and was before")
    show(arguments, facts, [head, *_outcome_lines(facts)])
    return 0


def _make(arguments: argparse.Namespace, kind: str, **said: Any) -> int:
    words = {"id": secrets.token_hex(16), "proposal": arguments.proposal, "kind": kind}
    try:
        act = ProposalAct.model_validate(words | said | {"reason": arguments.reason})
    except ValidationError as error:
        raise BadAct(tuple(_problem(each) for each in error.errors(include_url=False))) from None
    with opened_service(arguments) as service:
        service.rules.refresh()
        with service.database.writing() as session:
            catalogue = service.desk.catalogue(session, None)
            if catalogue.judge.proposal_row(act.proposal) is None:
                raise UnknownProposal(act.proposal)
            make_act(catalogue, act)
            row = session.get_one(ActRow, act.id)
            record_act(session, "act", row, catalogue.now, by=Context(operator=operator_name()))
            facts = _shown_act(row) | _outcome(catalogue, act.proposal)
    show(arguments, facts, [f"{kind} of {act.proposal} stands as act {act.id}", *_outcome_lines(facts)])
    return 0


def _problem(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _outcome(catalogue: Catalogue, proposal: str) -> dict[str, Any]:
    """What a proposal came to by an act."""
    facts = _facts(catalogue, proposal)
    return {name: facts[name] for name in ("opens_at", "withdrawn", "support_until")}


def _outcome_lines(facts: dict[str, Any]) -> list[str]:
    return described({name: facts[name] for name in ("opens_at", "withdrawn", "support_until")})


def _facts(catalogue: Catalogue, proposal: str) -> dict[str, Any]:
    session = catalogue.session
    row = catalogue.judge.proposal_row(proposal) if is_storable(proposal) else None
    if row is None:
        raise UnknownProposal(proposal)
    told = proposal_facts(row.id, row)
    rules = rules_for(told, catalogue.policy)
    n_granted = len(allowed_extensions(told.extension_months, rules))
    n_datasets = select(func.count()).select_from(DatasetRow).where(DatasetRow.proposal == proposal)
    return {
        "proposal": row.id,
        "title": row.title,
        "source": row.source,
        "class": row.policy_class,
        "access_route": row.access_route or None,
        "instrument": row.instrument,
        "start": row.start,
        "end": row.end,
        "rule": row.rule or "no rule applies",
        "embargo_class": row.embargo_class,
        "metadata": "public" if row.metadata_public else "team",
        "opens_at": row.opens_at.astimezone(catalogue.policy.zone).isoformat() if row.opens_at else None,
        "extensions": list(told.extension_months),
        "extensions_left": list(rules.extension_months[n_granted:]),
        "released_on": row.released_on,
        "support_until": row.support_until,
        "withdrawn": row.withdrawn,
        "datasets": session.scalar(n_datasets) or 0,
        "policy": catalogue.policy.label,
        "acts": [_shown_act(act) for act in acts_upon(session, proposal)],
    }


def _shown_act(row: ActRow) -> dict[str, Any]:
    names = ("pid", "months", "day", "until", "reason", "made_by", "made_at", "revoked_by", "revoked_at")
    said = {name: getattr(row, name) for name in names}
    return {"act": row.id, "kind": row.kind, "proposal": row.proposal} | {
        name: value for name, value in said.items() if value is not None
    }


def _line(act: dict[str, Any]) -> str:
    """One act in words."""
    said = [f"{name} {act[name]}" for name in ("pid", "months", "day", "until") if name in act]
    revoked = f", revoked by {act['revoked_by']} at {act['revoked_at']}" if "revoked_at" in act else ""
    what = " ".join([act["kind"], *said])
    return f"act {act['act']}: {what} by {act['made_by']} at {act['made_at']}: {act['reason']}{revoked}"
