"""What a sweep decides: laws on rows, places and what their hosts show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.session import LIVE_STATES, SessionRecord, StoredSession
from beamhub_core.word import digest
from beamhub_spawners.sweeper import SETTLE, Found, Inventory, decide
from contracts.spawner_parts import docker_plan

NOW = datetime(2026, 11, 21, 13, tzinfo=UTC)
PLAN = docker_plan(uid=4711, gid=4712)
PLACES = ("hall-a", "hall-b", "hall-c")
LIMIT_S = 60.0


def row(number: int, place: str, state: str) -> StoredSession:
    plan = PLAN.model_copy(
        update={
            "id": f"{number:032x}",
            "place": PLAN.place.model_copy(update={"name": place}),
            "created_at": NOW - 2 * SETTLE,
            "expires_at": NOW + timedelta(hours=1),
        }
    )
    record = SessionRecord.model_validate(
        {
            "plan_id": plan.id,
            "plan_hash": digest(PLAN),
            "account": plan.account,
            "server_name": "",
            "state": state,
            "created_at": plan.created_at,
            "last_seen": plan.created_at,
        }
    )
    return StoredSession(plan=plan, record=record)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[StoredSession], Inventory]:
    """Rows on three places, some of whose containers run, and the places that do not answer."""
    kinds = st.tuples(st.sampled_from(PLACES), st.sampled_from(LIVE_STATES), st.booleans())
    drawn = draw(st.lists(kinds, max_size=8))
    silent = draw(st.dictionaries(st.sampled_from(PLACES), st.floats(0, 200), max_size=3))
    rows = [row(i, place, state) for i, (place, state, _) in enumerate(drawn)]
    found = tuple(
        Found(stored.plan.id, f"container:{i}", True, 600.0, token_digest="0" * 64)
        for i, (stored, (place, _, runs)) in enumerate(zip(rows, drawn, strict=True))
        if runs and place not in silent
    )
    return rows, Inventory(found, silent)


@given(worlds())
def test_no_row_of_a_silent_place_is_lost_and_every_other_without_a_container_is(
    world: tuple[list[StoredSession], Inventory],
) -> None:
    rows, inventory = world
    decision = decide(rows, inventory, now=NOW, unknown_limit_s=LIMIT_S)
    running = {found.plan_id for found in inventory.found}
    for stored in rows:
        is_silent = stored.plan.place.name in inventory.silent
        assert (stored.plan.id in decision.lost) == (not is_silent and stored.plan.id not in running)


@given(worlds())
def test_a_row_is_unknown_exactly_after_the_limit_of_its_places_silence(
    world: tuple[list[StoredSession], Inventory],
) -> None:
    rows, inventory = world
    decision = decide(rows, inventory, now=NOW, unknown_limit_s=LIMIT_S)
    for stored in rows:
        is_over = inventory.silent.get(stored.plan.place.name, 0.0) > LIMIT_S
        could_run = stored.record.state in ("planned", "starting", "running")
        assert (stored.plan.id in decision.unknown) == (is_over and could_run)
    assert not set(decision.unknown) & set(decision.lost)


@given(worlds())
def test_an_unknown_row_whose_container_shows_itself_again_runs_again(
    world: tuple[list[StoredSession], Inventory],
) -> None:
    rows, inventory = world
    decision = decide(rows, inventory, now=NOW, unknown_limit_s=LIMIT_S)
    adopted = {found.plan_id for found in decision.adopted}
    for found in inventory.found:
        stored = next(one for one in rows if one.plan.id == found.plan_id)
        assert (found.plan_id in adopted) == (stored.record.state in ("planned", "starting", "unknown"))


@given(st.floats(0, 300), st.sampled_from(LIVE_STATES))
def test_a_session_on_a_machine_that_says_nothing_is_unknown_after_the_limit_and_never_lost(
    unknown_s: float, state: str
) -> None:
    stored = row(0, PLACES[0], state)
    found = Found(stored.plan.id, "pod:sessions/a", True, 600.0, token_digest="0" * 64, unknown_s=unknown_s)
    decision = decide([stored], Inventory((found,)), now=NOW, unknown_limit_s=LIMIT_S)
    assert decision.lost == ()
    is_told = unknown_s > LIMIT_S and state in ("planned", "starting", "running")
    assert (decision.unknown == (stored.plan.id,)) == is_told
    if unknown_s > 0:
        assert decision.adopted == ()


def test_a_session_whose_machine_speaks_again_runs_again() -> None:
    stored = row(0, PLACES[0], "unknown")
    found = Found(stored.plan.id, "pod:sessions/a", True, 600.0, token_digest="0" * 64)
    assert decide([stored], Inventory((found,)), now=NOW).adopted == (found,)


def test_a_session_whose_machine_was_given_up_is_lost() -> None:
    stored = row(0, PLACES[0], "unknown")
    assert decide([stored], Inventory(()), now=NOW).lost == (stored.plan.id,)


@pytest.mark.parametrize(("age_s", "is_ended"), [(600.0, True), (1.0, False)])
def test_what_is_left_of_a_session_that_ended_unseen_goes_in_the_same_pass(
    age_s: float, is_ended: bool
) -> None:
    stored = row(1, PLACES[0], "running")
    left = Found(stored.plan.id, "container:1", False, age_s, token_digest="0" * 64)
    decision = decide([stored], Inventory((left,)), now=NOW)
    assert decision.lost == (stored.plan.id,)
    assert decision.orphans == ((left,) if is_ended else ())
