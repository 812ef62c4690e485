"""Who may read which entries, and what of them: a person their own, an investigator those of the proposal.

An entry may touch several proposals, and a decision may name data that the person who asked must not know of.
So each reader is shown the parts that are theirs to see; an operator alone sees entries as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from beamhub_catalogue.audit import find_pseudonym
from beamhub_catalogue.grants import refusal
from beamhub_catalogue.linked_people import accounts_of, names_of
from beamhub_catalogue.models import (
    AuditActorRow,
    AuditProposalRow,
    AuditRow,
    LostEntitlementRow,
    MemberRow,
    PrincipalRow,
)
from beamhub_catalogue.people import Reader
from beamhub_core.config.login import LoginConfig
from beamhub_core.entitled_proposals import entitled_roles
from beamhub_core.identity import Principal
from beamhub_core.rights import Refused

PAGE = 50
MAX_PAGE = 500
MAX_ACCOUNTS = 50
YOU, PLATFORM, OPERATOR, SERVICE = "you", "the platform", "an operator", "a service of the platform"
OUTSIDER, ERASED = "somebody outside the team", "a person who was erased"
NO_PROPOSAL = "There is no such proposal, or its record is not for you to read."
_NAMED_TO_OWNER = ("server_access", "impersonation")
_PRIVATE_FIELDS = frozenset({"refusal_reference", "others", "actors"})


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry as one reader sees it; `detail` holds plain values and lists of them."""

    seq: int
    at: datetime
    kind: str
    who: str
    about: str | None
    subject: str
    detail: dict[str, Any] = field(default_factory=dict)
    parts: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries, newest first; `before` leads to the next page, None on the last."""

    entries: tuple[EntryView, ...]
    before: int | None


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page: entries before a number, and how many."""

    before: int | None = None
    limit: int = PAGE

    @property
    def bounded(self) -> int:
        """A number of entries that a page may hold."""
        return max(1, min(self.limit, MAX_PAGE))


FIRST_PAGE = Paging()


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries an operator asks for."""

    account: str | None = None
    proposal: str | None = None
    kind: str | None = None
    since: datetime | None = None


def own_entries(session: Session, account: str, before: int | None = None, limit: int = PAGE) -> EntryPage:
    """What a person did and what happened to them, over all accounts that are linked."""
    limit = max(1, min(limit, MAX_PAGE))
    mine = _pseudonyms(session, accounts_of(session, account))
    rows: dict[int, AuditRow] = {}
    for actor in mine:
        for column in (AuditRow.actor, AuditRow.about):
            query = select(AuditRow).where(column == actor, _older(before))
            found = session.scalars(query.order_by(AuditRow.seq.desc()).limit(limit + 1))
            rows.update({row.seq: row for row in found})
    newest = sorted(rows.values(), key=lambda row: -row.seq)
    people = _People(session, newest[:limit])
    return _page(newest, limit, lambda row: _own_view(row, mine, people))


def proposal_entries(
    session: Session,
    reader: Reader,
    proposal: str,
    now: datetime,
    login: LoginConfig,
    paging: Paging = FIRST_PAGE,
) -> EntryPage:
    """What touched a proposal, for one who is its principal investigator now.

    People are named who belong to the proposal, or did; of others only that there was somebody.

    Raises
    ------
    Refused
        With the same words for a proposal that is none.
    """
    if reader.principal is None or not is_investigator(reader, proposal, now):
        raise Refused(refusal("not_found", proposal, NO_PROPOSAL))
    rows, limit = _of_proposal(session, proposal, paging, []), paging.bounded
    people = _People(session, rows[:limit])
    team = _team(session, proposal, people.accounts, login)
    mine = _pseudonyms(session, accounts_of(session, reader.principal.account))
    return _page(rows, limit, lambda row: _proposal_view(row, proposal, mine, people, team))


def is_investigator(reader: Reader, proposal: str, now: datetime) -> bool:
    """Whether somebody is a proposal's principal investigator by the memberships in force."""
    return "pi" in reader.roles_in(proposal, now)


def all_entries(
    session: Session, which: EntryFilter, before: int | None = None, limit: int = PAGE
) -> EntryPage:
    """Entries as they stand, for an operator; the caller records that they were read."""
    limit = max(1, min(limit, MAX_PAGE))
    wanted = [_older(before)]
    if which.account is not None:
        actor = find_pseudonym(session, "person", which.account)
        wanted.append(or_(AuditRow.actor == actor, AuditRow.about == actor))
    if which.kind is not None:
        wanted.append(AuditRow.kind == which.kind)
    if which.since is not None:
        wanted.append(AuditRow.at >= which.since)
    if which.proposal is not None:
        rows = _of_proposal(session, which.proposal, Paging(before, limit), wanted)
    else:
        query = select(AuditRow).where(*wanted).order_by(AuditRow.seq.desc()).limit(limit + 1)
        rows = list(session.scalars(query))
    people = _People(session, rows[:limit])
    return _page(rows, limit, lambda row: _full_view(row, people))


def _of_proposal(
    session: Session, proposal: str, paging: Paging, wanted: list[ColumnElement[bool]]
) -> list[AuditRow]:
    """A page and one entry more, by the index of proposals alone."""
    query = select(AuditRow).join(AuditProposalRow, AuditProposalRow.seq == AuditRow.seq)
    query = query.where(AuditProposalRow.proposal == proposal, *wanted)
    if paging.before is not None:
        query = query.where(AuditProposalRow.seq < paging.before)
    return list(session.scalars(query.order_by(AuditProposalRow.seq.desc()).limit(paging.bounded + 1)))


def _older(before: int | None) -> ColumnElement[bool]:
    return AuditRow.seq < before if before is not None else AuditRow.seq > 0


def _pseudonyms(session: Session, accounts: tuple[str, ...]) -> frozenset[str]:
    found = (find_pseudonym(session, "person", account) for account in accounts[:MAX_ACCOUNTS])
    return frozenset(actor for actor in found if actor is not None)


def _page(rows: list[AuditRow], limit: int, view: Any) -> EntryPage:
    shown = rows[:limit]
    return EntryPage(tuple(view(row) for row in shown), shown[-1].seq if len(rows) > limit else None)


class _People:
    """Whom the pseudonyms of some entries stand for."""

    def __init__(self, session: Session, rows: list[AuditRow]) -> None:
        actors = {actor for row in rows for actor in (row.actor, row.about) if actor is not None}
        found = session.scalars(select(AuditActorRow).where(AuditActorRow.actor.in_(actors)))
        self._rows = {row.actor: row for row in found}
        self.accounts = {
            row.actor: row.name
            for row in self._rows.values()
            if row.kind == "person" and row.name is not None
        }
        self._names = names_of(session, set(self.accounts.values()))

    def name(self, actor: str | None) -> str:
        """What a person is called; the account's name where nobody knows more."""
        account = self.accounts.get(actor or "")
        return ERASED if account is None else self._names.get(account, account)

    def key(self, actor: str | None) -> str | None:
        """The account, login name or process behind a pseudonym, for an operator."""
        row = self._rows.get(actor or "")
        return row.name if row is not None else None


def _who(row: AuditRow, mine: frozenset[str], person: str) -> str:
    if row.actor in mine:
        return YOU
    return {"person": person, "operator": OPERATOR, "service": SERVICE}.get(row.actor_kind, PLATFORM)


def _own_view(row: AuditRow, mine: frozenset[str], people: _People) -> EntryView:
    """A person's own entry; of a refusal only the number of datasets, or it would say which of them exist."""
    named = row.kind in _NAMED_TO_OWNER
    who = _who(row, mine, people.name(row.actor) if named else "another person")
    parts, detail, subject = list(row.detail.get("parts", ())), _shown(row), row.subject
    if row.kind == "decision" and row.detail.get("decision") != "granted":
        detail = {
            "decision": row.detail.get("decision"),
            "n_datasets": len(parts) + detail.get("n_unknown", 0),
        }
        parts, subject = [], ""
    about = YOU if row.about in mine else "another person" if row.about is not None else None
    return EntryView(row.seq, row.at, row.kind, who, about, subject, detail, tuple(parts))


def _proposal_view(
    row: AuditRow, proposal: str, mine: frozenset[str], people: _People, team: frozenset[str]
) -> EntryView:
    """An entry without what it says of other proposals."""
    parts = [part for part in row.detail.get("parts", ()) if part.get("proposal") == proposal]
    inside = team | {row.actor for part in parts if part.get("because") in ("membership", "role")}

    def person(actor: str | None) -> str:
        if actor in mine:
            return YOU
        return people.name(actor) if actor in inside or actor not in people.accounts else OUTSIDER

    hidden = {"n_unknown", "roles", "assurance_changed", "n_own_mounts"}
    if len(row.proposals) > 1:
        hidden |= {"sha256", "reason"}  # they may tell what of another proposal was made or ended
    detail = {name: value for name, value in _shown(row).items() if name not in hidden}
    for name in ("gained", "lost"):
        if name in detail:
            detail[name] = [one for one in detail[name] if one == proposal]
    pids = {part.get("pid") for part in parts}
    if "datasets" in detail:
        detail["datasets"] = [pid for pid in detail["datasets"] if pid in pids]
    about = person(row.about) if row.about is not None else None
    subject = row.subject if len(row.proposals) == 1 or row.kind in ("plan", "state", "recheck") else ""
    who = _who(row, mine, person(row.actor))
    return EntryView(row.seq, row.at, row.kind, who, about, subject, detail, tuple(parts))


def _full_view(row: AuditRow, people: _People) -> EntryView:
    known = people.key(row.actor)
    who = f"{row.actor_kind} {known or row.actor}" if row.actor else PLATFORM
    about = None if row.about is None else people.key(row.about) or row.about
    detail = {name: value for name, value in row.detail.items() if name != "parts" and value is not None}
    parts = tuple(row.detail.get("parts", ()))
    return EntryView(row.seq, row.at, row.kind, who, about, row.subject, detail, parts)


def _shown(row: AuditRow) -> dict[str, Any]:
    return {
        name: value
        for name, value in row.detail.items()
        if name != "parts" and name not in _PRIVATE_FIELDS and value not in (None, [], "")
    }


def _team(session: Session, proposal: str, accounts: dict[str, str], login: LoginConfig) -> frozenset[str]:
    """Those of some people who belong to a proposal, or did, by user office or entitlement."""
    members = session.scalars(select(MemberRow).where(MemberRow.proposal == proposal)).all()
    lost = set(
        session.scalars(
            select(LostEntitlementRow.account).where(
                LostEntitlementRow.proposal == proposal,
                LostEntitlementRow.account.in_(set(accounts.values())),
            )
        )
    )
    bodies = session.execute(
        select(PrincipalRow.account, PrincipalRow.body).where(
            PrincipalRow.account.in_(set(accounts.values()))
        )
    )
    inside = set(lost)
    for account, body in bodies:
        person = Principal.model_validate(body)
        if proposal in entitled_roles(person, login) or any(_is(member, person) for member in members):
            inside.add(account)
    return frozenset(actor for actor, account in accounts.items() if account in inside)


def _is(member: MemberRow, person: Principal) -> bool:
    same = (member.issuer, member.subject) == (person.issuer, person.subject)
    return (
        same
        or (person.orcid is not None and member.orcid == person.orcid)
        or (person.facility_account is not None and member.facility_account == person.facility_account)
    )
