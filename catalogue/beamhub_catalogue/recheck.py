"""Rights while sessions run: what of its plan an owner may no longer touch, and what to do about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.decisions import Judge, ProposalShelf
from beamhub_catalogue.grants import DatasetPlaces, Folder, Yard, find_places, proposal_of
from beamhub_catalogue.idle_time import IdleState, may_stop
from beamhub_catalogue.models import PrincipalRow, SessionMountRow, SessionRow
from beamhub_catalogue.people import Reader, as_of_now, readers_of
from beamhub_catalogue.texts import among
from beamhub_catalogue.ticket_queue import waiting_tickets
from beamhub_core.config.login import LoginConfig
from beamhub_core.identity import Principal
from beamhub_core.policy import Decision
from beamhub_core.policy_document import PolicyDocument
from beamhub_core.session import LIVE_STATES, SessionVerdict

Action = Literal["none", "notify", "warn", "stop"]
WARN_BEFORE = timedelta(hours=1)
"""Of an end that is nearer, the person is warned in the session."""
NOTIFY_BEFORE = timedelta(hours=24)
"""Of the end of a right that is nearer, the person is told."""


@dataclass(frozen=True, slots=True)
class Present:
    """By what rights are judged: the policy in force, its instant, and the machine's own clock."""

    policy: PolicyDocument
    now: datetime
    wall_now: datetime


class _Live(NamedTuple):
    """A live session, without its plan."""

    plan_id: str
    account: str
    server_name: str
    expires_at: datetime
    state: str
    place: str
    reported_at: datetime | None
    active_at: datetime | None
    idle_stop_at: datetime | None
    idle_told: bool
    prepared_until: datetime | None


class _Mounted(NamedTuple):
    """A mount of raw data or of a processed folder."""

    plan_id: str
    pool: str
    path: str
    mode: str
    pid: str | None


def recheck_sessions(session: Session, login: LoginConfig, present: Present) -> list[SessionVerdict]:
    """What the hub should do with every live session, the oldest first; few queries for thousands.

    An account whose rights the hub ended, or that it never told, has none.
    """
    wanted = {place for ticket in waiting_tickets(session, present.now) for place in ticket.places}
    return [_verdict(*each, present, wanted) for each in _with_rights(session, login, present)]


def end_of_rights(
    session: Session, login: LoginConfig, present: Present, plan_id: str
) -> tuple[bool, datetime | None]:
    """Whether all rights of a live session hold, and when the first of them ends, None for never."""
    for one, rights, mounts in _with_rights(session, login, present, plan_id):
        lost, first = _ends(one, rights, mounts, present)
        return lost is None, first
    return False, None


def _with_rights(
    session: Session, login: LoginConfig, present: Present, plan_id: str | None = None
) -> list[tuple[_Live, _Rights, Sequence[_Mounted]]]:
    """Live sessions, or one, each with its mounts and what its owner may mount now."""
    query = select(*(getattr(SessionRow, name) for name in _Live._fields)).where(
        SessionRow.state.in_(LIVE_STATES)
    )
    if plan_id is not None:
        query = query.where(SessionRow.plan_id == plan_id)
    ordered = query.order_by(SessionRow.created_at, SessionRow.plan_id)
    live = [_Live(*row) for row in session.execute(ordered)]
    mounts = _mounts(session, plan_id)
    shelf = ProposalShelf(session)
    proposals = {proposal_of(mount.path) for each in mounts.values() for mount in each}
    shelf.load(proposals)
    judges = _judges(session, login, present, {one.account for one in live}, shelf)
    places = find_places(session, {mount.pid for each in mounts.values() for mount in each if mount.pid})
    yard = Yard(session, proposals)
    return [
        (one, _Rights(judges.get(one.account), places, yard), mounts.get(one.plan_id, ())) for one in live
    ]


def _mounts(session: Session, plan_id: str | None) -> dict[str, list[_Mounted]]:
    query = (
        select(*(getattr(SessionMountRow, name) for name in _Mounted._fields))
        .join(SessionRow, SessionRow.plan_id == SessionMountRow.plan_id)
        .where(SessionRow.state.in_(LIVE_STATES))
        .order_by(SessionMountRow.id)
    )
    if plan_id is not None:
        query = query.where(SessionMountRow.plan_id == plan_id)
    found: dict[str, list[_Mounted]] = defaultdict(list)
    for row in session.execute(query):
        found[row[0]].append(_Mounted(*row))
    return found


def _judges(
    session: Session, login: LoginConfig, present: Present, accounts: Iterable[str], shelf: ProposalShelf
) -> dict[str, Judge]:
    """A judge for every account that has rights."""
    people: list[Principal] = []
    standing = select(PrincipalRow.body).where(PrincipalRow.removed_at.is_(None))
    for body in session.scalars(standing.where(among(session, PrincipalRow.account, sorted(accounts)))):
        person = as_of_now(Principal.model_validate(body), login, present.wall_now)
        people += [person] if person is not None else []
    readers: dict[str, Reader] = readers_of(session, people, login, present.now)
    return {
        account: Judge(session, reader, present.policy, present.now, shelf)
        for account, reader in readers.items()
    }


@dataclass(frozen=True, slots=True)
class _Rights:
    """What the owner of one session may mount now; `judge` is None for an account without rights."""

    judge: Judge | None
    places: dict[str, DatasetPlaces]
    yard: Yard

    def on(self, mount: _Mounted) -> Decision | None:
        """The decision that a mount stands on, None where it no longer holds.

        The path, not what the plan says of it, names the proposal.
        """
        if self.judge is None:
            return None
        if mount.mode == "rw":
            decision = self.judge.on_proposal(proposal_of(mount.path))
            return decision if decision.may_write else None
        row = self.places.get(mount.pid) if mount.pid else None
        if row is not None and (row.pool, row.folder) == (mount.pool, mount.path):
            decision = self.judge.on_dataset(row)
            return decision if decision.may_mount and not self.yard.holds_withdrawn(row) else None
        return self.yard.decision_on(self.judge, Folder(mount.pool, mount.path))


def _verdict(
    one: _Live, rights: _Rights, mounts: Sequence[_Mounted], present: Present, wanted: Collection[str]
) -> SessionVerdict:
    """`wanted` are the places for which somebody waits: what nobody opened yet gives way to them."""
    lost, first = _ends(one, rights, mounts, present)
    if lost is not None:
        return lost
    if present.wall_now >= one.expires_at:
        return _say(one, "stop", "The session reached its lifetime.", one.expires_at)
    if (unused := _unused(one, present, wanted)) is not None:
        return unused
    if first is not None and first - present.now <= WARN_BEFORE:
        return _say(one, "warn", "A right that this session needs ends soon.", first)
    if one.expires_at - present.wall_now <= WARN_BEFORE:
        return _say(one, "warn", "The session's lifetime ends soon.", one.expires_at)
    if first is not None and first - present.now <= NOTIFY_BEFORE:
        return _say(one, "notify", "A right that this session needs ends within a day.", first)
    return _say(one, "none", "All rights hold.", None)


def _unused(one: _Live, present: Present, wanted: Collection[str]) -> SessionVerdict | None:
    """The verdict on a session that nobody uses; None for one that is in use, or may be."""
    now = present.wall_now
    if one.prepared_until is not None and present.now >= one.prepared_until:
        return _say(one, "stop", "It was prepared, and nobody opened it.", one.prepared_until)
    if one.prepared_until is not None and one.place in wanted:
        return _say(one, "stop", "It was prepared and not opened, and others wait for its room.", now)
    state = IdleState(one.reported_at, one.active_at, one.idle_stop_at, one.idle_told)
    if may_stop(state, now, is_running=one.state == "running"):
        return _say(one, "stop", "Nothing happened in it for a long time.", one.idle_stop_at)
    if one.idle_stop_at is not None and one.expires_at - now > WARN_BEFORE:
        return _say(one, "warn", "Nothing happens in it; it is stopped soon.", one.idle_stop_at)
    return None


def _ends(
    one: _Live, rights: _Rights, mounts: Sequence[_Mounted], present: Present
) -> tuple[SessionVerdict | None, datetime | None]:
    """The verdict where a right is lost already; else the instant at which the first one ends, if any."""
    if rights.judge is None:
        return _say(one, "stop", "The account's rights were ended.", present.now), None
    ends: list[datetime] = []
    for mount in mounts:
        decision = rights.on(mount)
        if decision is None:
            return _say(one, "stop", f"The right to {mount.pid or mount.path} ended.", present.now), None
        if decision.until is not None:
            ends.append(decision.until)
    return None, min(ends, default=None)


def _say(one: _Live, action: Action, reason: str, deadline: datetime | None) -> SessionVerdict:
    return SessionVerdict(
        plan_id=one.plan_id,
        account=one.account,
        server_name=one.server_name,
        action=action,
        reason=reason,
        deadline=deadline,
    )
