"""Room in places, and the queue for it: laws of the order, and many starts at once on the real database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import QueueTicketRow, SessionRow
from beamhub_catalogue.rooms import Room, seat
from beamhub_catalogue.ticket_queue import turn_of_next, usual_wait_s
from beamhub_core.identity import Principal
from beamhub_core.queue import wait_in_words
from beamhub_core.session import LIVE_STATES, SessionPlan
from catalogue.catalogue_api_parts import Api, open_api
from catalogue.catalogue_parts import NOW, TOKENS, Facility, person, session_plan

PLACES = ("a", "b")


@dataclass(frozen=True)
class Ticket:
    """Somebody who waits."""

    account: str
    turn: int
    places: tuple[str, ...] = PLACES
    memory_gib: float = 1.0
    gpus: int = 0


arrivals = st.lists(st.sampled_from("ABCDE"), max_size=25)
tickets = st.lists(
    st.builds(
        Ticket,
        account=st.sampled_from("ABC"),
        turn=st.just(0),
        places=st.sampled_from([("a",), ("b",), PLACES]),
        memory_gib=st.sampled_from([1.0, 8.0]),
        gpus=st.integers(0, 1),
    ),
    max_size=12,
)
some_rooms = st.builds(Room, st.integers(0, 3), st.sampled_from([2.0, 8.0, 64.0]), st.integers(0, 1))
rooms = st.fixed_dictionaries(dict.fromkeys(PLACES, some_rooms))


def join(queue: list[Ticket], account: str) -> list[Ticket]:
    """The queue in its order after somebody joined."""
    return sorted([*queue, Ticket(account, turn_of_next(queue, account))], key=lambda one: one.turn)


@given(steps=st.lists(st.one_of(st.sampled_from("ABCDE"), st.none()), max_size=40))
def test_nobody_passes_a_persons_only_ticket_whoever_comes_and_goes(steps: list[str | None]) -> None:
    queue: list[Ticket] = join([], "me")
    position = 0
    for step in steps:
        queue = join(queue, step) if step is not None else queue[1:]
        now = next((i for i, one in enumerate(queue) if one.account == "me"), None)
        if now is None:
            return
        assert now <= position
        position = now


@given(arrivals=arrivals)
def test_a_persons_next_ticket_comes_after_everybodys_first_and_own_ones_keep_their_order(
    arrivals: list[str],
) -> None:
    queue: list[Ticket] = []
    for account in arrivals:
        queue = join(queue, account)
    nth = [sum(1 for earlier in queue[:i] if earlier.account == one.account) for i, one in enumerate(queue)]
    assert nth == sorted(nth)


@given(waiting=tickets, rooms=rooms)
def test_no_room_is_given_twice_and_none_who_fits_is_left_behind_for_no_reason(
    waiting: list[Ticket], rooms: dict[str, Room]
) -> None:
    seats, left = seat(waiting, rooms)
    for name, room in rooms.items():
        seated = [one for one, place in zip(waiting, seats, strict=True) if place == name]
        assert len(seated) <= room.slots
        assert sum(one.memory_gib for one in seated) <= room.memory_gib
        assert sum(one.gpus for one in seated) <= room.gpus
    for one, place in zip(waiting, seats, strict=True):
        assert place is None or place in one.places
        if place is None:
            assert all(left[name].lacks(one) is not None for name in one.places)


@given(waiting=tickets, rooms=rooms, later=tickets)
def test_who_comes_later_takes_nobodys_room(
    waiting: list[Ticket], rooms: dict[str, Room], later: list[Ticket]
) -> None:
    assert seat([*waiting, *later], rooms)[0][: len(waiting)] == seat(waiting, rooms)[0]


def test_the_usual_wait_grows_with_the_position_and_is_unknown_without_history() -> None:
    assert usual_wait_s([600.0] * 4, 1, 2) is None
    assert [usual_wait_s([600.0] * 5, n, 2) for n in (1, 2, 4)] == [300.0, 600.0, 1200.0]
    said = {None: "not known yet", 20: "less than a minute", 70: "about 1 minute", 5400: "about 2 hours"}
    assert {s: wait_in_words(s) for s in said} == said
    assert wait_in_words(1290) == "about 20 minutes"


# -- on the real database, through the real API ------------------------------------------------------


@dataclass
class Stage:
    """A service with one place of ten slots, and its API."""

    facility: Facility
    service: CatalogueService
    api: Api

    def push(self, people: list[Principal]) -> None:
        """Tell web who they are."""
        for one in people:
            assert self.api.ask("PUT", f"/principals/{one.account}", one).status_code == 204

    def plan(self, who: Principal, number: int, **changes: Any) -> SessionPlan:
        """A plan of somebody in that place."""
        return session_plan(self.facility, who, processed=None, number=number, **changes)

    def take(self, who: Principal, server: str, **changes: Any) -> Any:
        """A ticket for that place."""
        wanted = {
            "account": who.account,
            "server_name": server,
            "request": {"datasets": []},
            "places": ["here"],
            "limits": {"cpu": 1, "memory_gib": 1},
        }
        return self.api.ask("PUT", "/tickets", wanted | changes)

    def live(self) -> int:
        """How many sessions live."""
        with self.service.database.reading() as session:
            query = select(func.count()).select_from(SessionRow).where(SessionRow.state.in_(LIVE_STATES))
            return session.scalar(query) or 0

    def waiting(self) -> list[str]:
        """The servers that are waited for, in order."""
        with self.service.database.reading() as session:
            query = select(QueueTicketRow.server_name).order_by(QueueTicketRow.turn, QueueTicketRow.id)
            return list(session.scalars(query))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    facility = Facility(tmp_path)
    facility.prepare()
    config = facility.config()
    place = config.sessions.places[0].model_copy(update={"capacity": 10})
    sessions = config.sessions.model_copy(update={"places": (place,)})
    service = CatalogueService(
        config.model_copy(update={"sessions": sessions}), facility.clock, facility.wall_clock
    )
    with open_api(service) as api:
        yield Stage(facility, service, api)
    service.stop()


def code_of(answer: Any) -> str:
    return str(answer.json()["refusal"]["code"])


def test_of_thirty_starts_at_once_ten_get_the_ten_slots_and_twenty_wait_in_order(stage: Stage) -> None:
    people = [person(f"p{i}") for i in range(30)]
    stage.push(people)
    plans = [stage.plan(who, i + 1) for i, who in enumerate(people)]
    gate = threading.Barrier(6, timeout=60)

    def start(part: int) -> list[int]:
        gate.wait()
        return [stage.api.store(plan).status_code for plan in plans[part::6]]

    with ThreadPoolExecutor(6) as pool:
        answers = [status for part in pool.map(start, range(6)) for status in part]
    assert (answers.count(201), answers.count(403), stage.live()) == (10, 20, 10)
    outside = [
        i for i, plan in enumerate(plans) if stage.api.ask("GET", f"/sessions/{plan.id}").status_code == 404
    ]
    positions = [stage.take(people[i], plans[i].server_name).json()["position"] for i in outside]
    assert positions == list(range(1, 21))
    assert stage.service.queue.claim_turns() == ()  # nothing is free
    running = [plan for i, plan in enumerate(plans) if i not in outside]
    for i_round in range(20):
        ended = running.pop(0)
        stage.api.update(ended, state="ended")
        turns = stage.service.queue.claim_turns()
        assert [turn.server_name for turn in turns] == [plans[outside[i_round]].server_name]
        assert stage.service.queue.claim_turns() == ()  # claimed once
        last = plans[outside[-1]]
        if last.server_name != turns[0].server_name:
            assert code_of(stage.api.store(last)) == "full"  # out of turn
        started = plans[outside[i_round]]
        assert stage.api.store(started).status_code == 201
        running.append(started)
        assert stage.live() == 10
    assert stage.waiting() == []


def test_who_has_no_ticket_does_not_pass_who_has_one(stage: Stage) -> None:
    people = [person(f"p{i}") for i in range(12)]
    stage.push(people)
    plans = [stage.plan(who, i + 1) for i, who in enumerate(people)]
    assert [stage.api.store(plan).status_code for plan in plans[:10]] == [201] * 10
    stage.take(people[10], plans[10].server_name)
    stage.api.update(plans[0], state="ended")
    refused = stage.api.store(plans[11])
    assert code_of(refused) == "full"
    assert "Others wait" in refused.json()["refusal"]["reason"]
    assert stage.api.store(plans[10]).status_code == 201


def test_a_ticket_is_one_per_server_survives_a_restart_and_ends(stage: Stage, tmp_path: Path) -> None:
    ines, oscar = person("ines"), person("oscar")
    stage.push([ines, oscar])
    assert stage.take(ines, "d-1").json()["position"] == 1
    assert stage.take(oscar, "d-1").json()["position"] == 2
    assert stage.take(ines, "d-1").json()["position"] == 1
    assert [stage.take(ines, f"d-{i}").status_code for i in (2, 3, 4)] == [200] * 3
    assert code_of(stage.take(ines, "d-5")) == "over_quota"
    again = CatalogueService(stage.service.config, stage.facility.clock, stage.facility.wall_clock)
    try:
        view = again.queue.ticket(oscar.account, "d-1")
        assert view is not None
        assert view.position == 2
        assert [one.server_name for one in again.queue.tickets_of(ines.account)] == [
            "d-1",
            "d-2",
            "d-3",
            "d-4",
        ]
    finally:
        again.stop()
    stage.facility.clock.now = NOW + timedelta(hours=13)
    assert stage.service.queue.ticket(oscar.account, "d-1") is None
    assert stage.service.queue.claim_turns() == ()
    assert stage.waiting() == []


def test_leaving_logging_out_and_the_end_of_an_account_drop_tickets(stage: Stage) -> None:
    people = [person(name) for name in ("ines", "oscar", "colin")]
    stage.push(people)
    for who in people:
        stage.take(who, "d-1")
        stage.take(who, "d-2")
    stage.service.queue.leave(people[0].account, "d-1")
    assert stage.api.ask("DELETE", f"/tickets/{people[1].account}").status_code == 204
    assert stage.api.ask("DELETE", f"/principals/{people[2].account}").status_code == 204
    assert stage.waiting() == ["d-2"]
    assert stage.api.ask("PUT", "/tickets", {"account": "x"}).status_code == 422
    assert stage.take(people[2], "d-3").status_code == 403  # an account without rights waits for nothing


def test_a_refused_turn_says_why_and_one_that_never_comes_about_ends(stage: Stage) -> None:
    ines, oscar = person("ines"), person("oscar")
    stage.push([ines, oscar])
    stage.take(ines, "d-1")
    stage.take(oscar, "d-1")
    queue = stage.service.queue
    first, second = queue.claim_turns()
    queue.refused(first, "Your right ended.")
    view = queue.ticket(ines.account, "d-1")
    assert view is not None
    assert view.reason == "Your right ended."
    assert stage.take(ines, "d-1").json()["position"] == 2  # a new wish, a new ticket
    for _ in range(5):
        stage.facility.clock.now += timedelta(minutes=2)
        queue.claim_turns()
    gone = queue.ticket(second.account, "d-1")
    assert gone is not None
    assert "several tries" in str(gone.reason)


def test_the_tokens_that_may_not_write_plans_may_not_queue(stage: Stage) -> None:
    stage.push([person("ines")])
    answer = stage.api.ask("DELETE", f"/tickets/{person('ines').account}", token=TOKENS["reader"])
    assert answer.status_code == 403
