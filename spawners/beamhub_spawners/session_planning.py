"""From a wish to a stored plan: rights, place, plan, room in that place; or a ticket in the queue.

The plan is made anew at every start, of whoever asks, from the owner's rights.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from beamhub_core.errors import Unavailable
from beamhub_core.identity import Principal
from beamhub_core.queue import TicketWanted, wait_in_words
from beamhub_core.rights import GrantAnswer, Refused
from beamhub_core.session import ExplainRecord, Place, SessionPlan, SessionRequest, StoredSession
from beamhub_spawners.facts_reader import read_start_facts
from beamhub_spawners.host_homes import HomeOnHost
from beamhub_spawners.inventory import AskHost, read_places, read_template_digests
from beamhub_spawners.mode_needed import choose_in_mode, pools_to_write
from beamhub_spawners.placement import PlacesFull, Wanted
from beamhub_spawners.plan import Choice, Occasion, bytes_per_pool, choose_profile, limits_of, session_plan
from beamhub_spawners.platform import Platform
from beamhub_spawners.refusal import refuse
from beamhub_spawners.start_facts import StartFacts
from beamhub_spawners.web_refusals import Conflict, NotKnown, NotTaken

Say = Callable[[int, str], None]
AskPlaceForHome = Callable[[str, str], Awaitable[HomeOnHost | None]]
"""Asks the host of a place, by the place's name, for an account's home; None and errors as `AskHome`."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: whose, which server, what was asked for, and the id that traces it."""

    principal: Principal
    server_name: str
    display_name: str
    request: SessionRequest
    trace_id: str


async def plan_and_store(
    platform: Platform,
    start: Start,
    say: Say,
    ask: AskHost | None = None,
    ask_home: AskPlaceForHome | None = None,
) -> SessionPlan:
    """The plan of a start, stored by web together with its room in the place.

    Parameters
    ----------
    say:
        Told the phases: percent and words.
    ask:
        Asks the hosts of places how they are; without it this host is looked at.
    ask_home:
        Asks the host of the chosen place for the person's home; the same.

    Raises
    ------
    Refused
        For what the policy, limits or places do not give; `Queued` where there is a ticket for it.
    Unavailable
        If web gives no answer.
    """
    config, principal = platform.config, start.principal
    if start.request.prepare and config.sessions.pre_start is None:
        raise refuse("bad_request", "prepare", "Preparing sessions is not offered here.")
    n_datasets = len(start.request.datasets)
    say(5, f"Asking for your rights on {n_datasets} dataset{'' if n_datasets == 1 else 's'}")
    chosen = choose_profile(start.request, config, roles=principal.roles)
    answer, live = await asyncio.gather(
        platform.web.grants(principal.account, start.request.datasets), platform.web.live_sessions()
    )
    say(20, "Choosing a place beside the data")
    taken: dict[str, Refused] = {}
    while True:
        try:
            places = _but(await read_places(platform.config, _others(start, live), ask), frozenset(taken))
            placed = _placed(start, (chosen, answer), places)
        except PlacesFull as full:
            if start.request.prepare:
                raise  # nobody waits for what may never be opened
            raise await _queued(platform, start, chosen, full) from full
        home = partial(ask_home, placed[0].name) if ask_home is not None else None
        facts = await read_start_facts(answer, config, principal, placed[0], platform.clock, home)
        occasion = _occasion(platform, start, facts)
        plan = session_plan(answer, start.request, config, principal, placed, occasion)
        try:
            await platform.web.store_plan(plan)
        except Refused as refused:
            if refused.refusal.code != "full" or plan.place.name in taken:
                raise
            # Somebody was faster, or waits for this place: another may do.
            taken[plan.place.name] = refused
            continue
        return plan


class Queued(Refused):
    """There is no room now, and a ticket in the queue; the session starts by itself when its turn comes."""


def _others(start: Start, live: tuple[StoredSession, ...]) -> tuple[StoredSession, ...]:
    """The live sessions but this server's own, which this start replaces."""
    mine = (start.principal.account, start.server_name)
    return tuple(one for one in live if (one.plan.account, one.plan.server_name) != mine)


def _but(places: tuple[Place, ...], taken: frozenset[str]) -> list[Place]:
    """The places, those full that web refused already."""
    return [
        place.model_copy(update={"running": place.capacity}) if place.name in taken else place
        for place in places
    ]


def _placed(
    start: Start, wish: tuple[Choice, GrantAnswer], places: list[Place]
) -> tuple[Place, ExplainRecord]:
    chosen, answer = wish
    limits = limits_of(chosen.profile)
    wanted = Wanted(
        bytes_per_pool(answer),
        chosen.environment.image,
        gpus=limits.gpus,
        key=f"{start.principal.account}/{start.server_name}",
        memory_gib=limits.memory_gib,
    )
    return choose_in_mode(wanted, places, pools_to_write(answer))


def _occasion(platform: Platform, start: Start, facts: StartFacts) -> Occasion:
    digests = read_template_digests(platform.config)
    plan_id = secrets.token_hex(16)
    return Occasion(plan_id, platform.clock(), start.server_name, digests, start.trace_id, facts=facts)


async def _queued(platform: Platform, start: Start, chosen: Choice, full: PlacesFull) -> Refused:
    """The refusal with a ticket; the plain one where web gives none."""
    wanted = TicketWanted(
        account=start.principal.account,
        server_name=start.server_name,
        display_name=start.display_name[:255],
        request=start.request,
        places=full.places,
        limits=limits_of(chosen.profile),
    )
    try:
        ticket = await platform.web.take_ticket(wanted)
    except (Unavailable, NotKnown, Conflict, NotTaken):
        return full
    except Refused as refused:
        return refused
    said = (
        f"Everything beside this data is in use. You wait at place {ticket.position} of the queue; the usual "
        f"wait is {wait_in_words(ticket.usual_wait_s)}. The session starts by itself when it is your turn. "
        "Under My sessions you can look, and leave the queue."
    )
    return Queued(refuse("full", ", ".join(full.places), said).refusal)
