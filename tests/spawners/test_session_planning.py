"""From a wish to a stored plan or a ticket; web is the stand-in, everything between is real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.rights import Refused
from beamhub_core.session import SessionPlan, SessionRequest
from beamhub_spawners.platform import Platform
from beamhub_spawners.refusal import refuse
from beamhub_spawners.session_planning import Queued, Start, plan_and_store
from beamhub_spawners.web_client import WebClient
from contracts.spawner_parts import ACCOUNT, TOKEN, facility_fields, principal
from contracts.web_stand_in import StandIn

FULL = refuse("full", "hall-a", "Somebody was faster.").refusal


@pytest.fixture
def platform(tmp_path: Path, stand_in: StandIn, run: Any) -> Iterator[Platform]:
    """Two places of four sessions each, which both see every pool."""
    fields = facility_fields(tmp_path, hub_url="http://127.0.0.1:1", web_url=stand_in.url)
    for pool in fields["pools"]:
        Path(pool["root"]).mkdir(parents=True, exist_ok=True)
    names = [pool["name"] for pool in fields["pools"]]
    for place in fields["sessions"]["places"]:
        place["pools"] = names
    fields["sessions"]["templates"] = []
    config = FacilityConfig.model_validate(fields)
    web = WebClient(stand_in.url, TOKEN)
    yield Platform(config=config, clock=utc_now, web=web)
    run(web.close())


def start(server_name: str = "d-1", **wish: Any) -> Start:
    return Start(principal(), server_name, "A title", SessionRequest(**wish), "ab" * 16)


def said_nothing(percent: int, message: str) -> None:
    """Nobody watches."""


def store(platform: Platform, run: Any, one: Start) -> SessionPlan:
    plan: SessionPlan = run(plan_and_store(platform, one, said_nothing))
    return plan


def test_a_plan_is_stored_under_the_trace_of_its_start(
    platform: Platform, stand_in: StandIn, run: Any
) -> None:
    plan = store(platform, run, start())
    assert plan.trace_id == "ab" * 16
    assert stand_in.sessions[plan.id].plan == plan
    assert stand_in.tickets == []


def test_where_web_says_that_a_place_is_taken_another_is_chosen(
    platform: Platform, stand_in: StandIn, run: Any
) -> None:
    first = store(platform, run, start()).place.name
    stand_in.sessions.clear()
    stand_in.refusals.append(FULL)
    second = store(platform, run, start())
    assert second.place.name != first
    assert second.explain.chosen == second.place.name


def test_where_every_place_is_taken_there_is_a_ticket_for_all_of_them(
    platform: Platform, stand_in: StandIn, run: Any
) -> None:
    stand_in.refusals += [FULL, FULL]
    with pytest.raises(Queued, match="at place 1 of the queue; the usual wait is about 10 minutes"):
        store(platform, run, start(profile="small"))
    assert stand_in.sessions == {}
    (ticket,) = stand_in.tickets
    assert (ticket["account"], ticket["server_name"]) == (ACCOUNT, "d-1")
    assert ticket["request"]["profile"] == "small"
    assert ticket["places"] == ["hall-a", "hall-b"]
    assert ticket["limits"]["memory_gib"] == 4


def test_what_is_no_lack_of_room_is_refused_without_a_ticket(
    platform: Platform, stand_in: StandIn, run: Any
) -> None:
    stand_in.refusals.append(refuse("over_quota", "sessions", "You use 4 of 4 sessions.").refusal)
    with pytest.raises(Refused) as caught:
        store(platform, run, start())
    assert caught.value.refusal.code == "over_quota"
    assert stand_in.tickets == []


def test_the_own_server_that_is_replaced_takes_no_room(
    platform: Platform, stand_in: StandIn, run: Any
) -> None:
    for i in range(8):
        store(platform, run, start(f"s-{i}"))
    with pytest.raises(Queued):
        store(platform, run, start("s-8"))
    assert store(platform, run, start("s-3")).server_name == "s-3"
