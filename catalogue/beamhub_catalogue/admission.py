"""Whether a plan may become a session: limits of the person, hours of its proposals, room in its place.

Called in the transaction that stores the plan, and there is one place for writers (`Database.writing`): so
what is counted here cannot change before the plan is in, and two starts at once never take one slot.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.grants import refusal
from beamhub_catalogue.models import SessionProposalRow, SessionRow
from beamhub_catalogue.people import find_principal
from beamhub_catalogue.rooms import NO_ROOM, Room, empty_rooms, seat
from beamhub_catalogue.ticket_queue import find_ticket, waiting_tickets
from beamhub_core.config.limits import EVERYONE, PersonLimitsConfig
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.rights import Refused
from beamhub_core.session import LIVE_STATES, SessionPlan

PREPARING_IS_OFF = "Preparing sessions is not offered here. Open the dataset when you need it."


class Live(NamedTuple):
    """What a live session takes."""

    account: str
    server_name: str
    place: str
    cpu: float
    memory_gib: float
    gpus: int


def live_use(session: Session) -> list[Live]:
    """Every live session by what it takes."""
    columns = (getattr(SessionRow, name) for name in Live._fields)
    return [Live(*row) for row in session.execute(select(*columns).where(SessionRow.state.in_(LIVE_STATES)))]


def rooms_now(live: list[Live], config: SessionsConfig) -> dict[str, Room]:
    """What is free in every configured place."""
    rooms = empty_rooms(config.places)
    for one in live:
        if one.place in rooms:
            rooms[one.place] = rooms[one.place].less(one)
    return rooms


def check_admitted(session: Session, plan: SessionPlan, config: SessionsConfig, now: datetime) -> None:
    """Raise `Refused` unless a plan may be stored: `over_quota` for what is the person's, else `full`.

    A session of the same server is not counted: the plan takes its place. People with a ticket come before
    those without one, in the order of the queue.
    """
    server = (plan.account, plan.server_name)
    live = [one for one in live_use(session) if (one.account, one.server_name) != server]
    _check_person(session, plan, live, config)
    if plan.is_prepared:
        _check_prepared(session, plan, config, now)
    check_hours(session, plan, config, now)
    ticket = find_ticket(session, *server)
    ahead = []
    for waiting in waiting_tickets(session, now):
        if ticket is not None and waiting.id == ticket.id:
            break
        ahead.append(waiting)
    rooms = rooms_now(live, config)
    _, left = seat(ahead, rooms)
    lack = left.get(plan.place.name, NO_ROOM).lacks(plan.limits)
    if lack is not None:
        is_waiting = rooms.get(plan.place.name, NO_ROOM).lacks(plan.limits) is None
        why = "Others wait for it already" if is_waiting else f"There: {_LACKING[lack]}"
        said = f"Everything in place {plan.place.name} is in use. {why}."
        raise Refused(refusal("full", plan.place.name, said))


_LACKING = {"slots": "no session is free", "memory": "too little memory", "gpus": "too few GPUs"}


def limits_of(config: SessionsConfig, roles: tuple[str, ...]) -> PersonLimitsConfig:
    """The most generous of the limits that stand for a person's roles; None where nothing limits."""
    standing = [one for one in config.limits.people if one.role in {EVERYONE, *roles}]
    if not standing:
        return PersonLimitsConfig(role=EVERYONE, max_servers=config.max_servers_per_person)
    servers = [
        config.max_servers_per_person if one.max_servers is None else one.max_servers for one in standing
    ]
    numbers: dict[str, float | None] = {}
    for name in ("max_cpu", "max_memory_gib", "max_gpus"):
        values = [getattr(one, name) for one in standing]
        numbers[name] = None if None in values else max(values)
    return PersonLimitsConfig.model_validate({"role": EVERYONE, "max_servers": max(servers)} | numbers)


def _check_person(session: Session, plan: SessionPlan, live: list[Live], config: SessionsConfig) -> None:
    person = find_principal(session, plan.account)
    limits = limits_of(config, person.roles if person is not None else ())
    mine = [one for one in live if one.account == plan.account]
    used = {
        "sessions": (len(mine), 1, limits.max_servers),
        "processor cores": (sum(one.cpu for one in mine), plan.limits.cpu, limits.max_cpu),
        "GiB of memory": (sum(one.memory_gib for one in mine), plan.limits.memory_gib, limits.max_memory_gib),
        "GPUs": (sum(one.gpus for one in mine), plan.limits.gpus, limits.max_gpus),
    }
    for what, (now_used, wanted, allowed) in used.items():
        if allowed is not None and wanted and now_used + wanted > allowed:
            rest = max(0, allowed - now_used)
            said = (
                f"You use {now_used:g} of {allowed:g} {what}; this needs {wanted:g} and {rest:g} "
                f"{'is' if rest == 1 else 'are'} left. Stop a session first, or choose a smaller profile."
            )
            raise Refused(refusal("over_quota", what, said))


def _check_prepared(session: Session, plan: SessionPlan, config: SessionsConfig, now: datetime) -> None:
    """Raise `Refused` unless a session may be prepared before anybody opens it; it comes after all others."""
    if config.pre_start is None:
        raise Refused(refusal("bad_request", "prepare", PREPARING_IS_OFF))
    query = select(SessionRow.server_name).where(
        SessionRow.account == plan.account,
        SessionRow.state.in_(LIVE_STATES),
        SessionRow.prepared_until.is_not(None),
        SessionRow.server_name != plan.server_name,
    )
    n_mine, allowed = len(session.scalars(query).all()), config.pre_start.max_per_person
    if n_mine >= allowed:
        said = f"You have {n_mine} of {allowed} prepared sessions. Open or stop one first."
        raise Refused(refusal("over_quota", "prepared sessions", said))
    if waiting_tickets(session, now):
        said = "People wait for room, so nothing is prepared now. Open the dataset to join the queue."
        raise Refused(refusal("full", plan.place.name, said))


def hours_committed(session: Session, proposal: str, *, but: tuple[str, str] | None = None) -> float:
    """Processor hours of a proposal: those its ended sessions used, and live ones until their end."""
    columns = (SessionRow.account, SessionRow.server_name, SessionRow.cpu, SessionProposalRow.share)
    times = (SessionRow.created_at, SessionRow.expires_at, SessionRow.ended_at)
    query = (
        select(*columns, *times)
        .join(SessionProposalRow, SessionProposalRow.plan_id == SessionRow.plan_id)
        .where(SessionProposalRow.proposal == proposal)
    )
    total = 0.0
    for account, server_name, cpu, share, begun, expires, ended in session.execute(query):
        if ended is None and (account, server_name) == but:
            continue
        until = expires if ended is None else min(ended, expires)
        total += share * cpu * max(0.0, (until - begun).total_seconds()) / 3600
    return total


def check_hours(session: Session, plan: SessionPlan, config: SessionsConfig, now: datetime) -> None:
    """Raise `Refused` where a proposal has too few processor hours left for a plan until its end."""
    shares = proposal_shares(plan)
    hours = max(0.0, (plan.expires_at - now).total_seconds()) / 3600 * plan.limits.cpu
    for proposal, share in shares.items():
        check_budget(session, proposal, share * hours, config, but=(plan.account, plan.server_name))


def check_budget(
    session: Session,
    proposal: str,
    hours: float,
    config: SessionsConfig,
    *,
    but: tuple[str, str] | None = None,
) -> None:
    """Raise `Refused` with `over_quota` where a proposal has not these processor hours left."""
    budget = config.limits.cpu_hours_of.get(proposal, config.limits.proposal_cpu_hours)
    if budget is None:
        return
    rest = budget - hours_committed(session, proposal, but=but)
    if hours > rest:
        said = (
            f"Proposal {proposal} has {max(0.0, rest):.1f} of {budget:g} processor hours left; this session "
            f"may use {hours:.1f}. Choose a smaller profile, stop a session, or ask your local contact."
        )
        raise Refused(refusal("over_quota", proposal, said))


def proposal_shares(plan: SessionPlan) -> dict[str, float]:
    """The proposals that a session's hours count for, in equal parts; empty for one without datasets."""
    named = sorted({dataset.proposal for dataset in plan.datasets})
    return {name: 1 / len(named) for name in named}
