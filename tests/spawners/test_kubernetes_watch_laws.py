"""Laws of a cluster's view: whatever happened, it ends with what the server has, and was red in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from beamhub_core.errors import Unavailable
from beamhub_spawners.kubernetes_pod import ACCOUNT, Pod, PodsByAccount
from beamhub_spawners.kubernetes_watch import FIRST_PAUSE_S, LONGEST_PAUSE_S, Watched, pause_s
from contracts.small_api_server import SmallApiServer, small_api_server

pytestmark = pytest.mark.slow

DEADLINE_S = 8.0
SILENCE_S = 2.0
NAMES = st.sampled_from("abcdefgh")
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES),
    st.tuples(st.just("drop"), NAMES),
    st.tuples(st.sampled_from(["forget", "cut", "pause"]), st.just("")),
)


def value_of(raw: Mapping[str, Any]) -> int:
    """What the tests' views keep of an object."""
    return int(raw["value"])


@asynccontextmanager
async def followed(page: int = 3) -> AsyncIterator[tuple[SmallApiServer, Watched[int]]]:
    """A server, and a view of it that was read once."""
    async with small_api_server() as (server, read):
        view = Watched("things", read, value_of, silence_s=SILENCE_S, page=page)
        view.start()
        try:
            await view.wait_for(None, DEADLINE_S)
            yield server, view
        finally:
            await view.close()


async def until(is_so: Callable[[], bool], view: Watched[int]) -> None:
    """Wait for the view, with a deadline."""
    end = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end, (view.health(), view.last_known())
        await view.wait_change(view.turn, 0.05)


def agrees(server: SmallApiServer, view: Watched[int]) -> bool:
    """Whether the view is fresh and has exactly what the server has."""
    there = {name: int(raw["value"]) for name, raw in server.objects.items()}
    return view.health().is_fresh and dict(view.last_known()) == there


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run a test in a loop of its own."""
    asyncio.run(asyncio.wait_for(work(), 60))  # type: ignore[arg-type]  # an async function's coroutine


@settings(max_examples=20, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # each takes a while
@given(steps=st.lists(STEPS, max_size=25))
def test_whatever_happens_the_view_ends_with_what_the_server_has(steps: list[tuple[str, str]]) -> None:
    async def work() -> None:
        async with followed() as (server, view):
            for i, (step, name) in enumerate(steps):
                match step:
                    case "put":
                        server.put(name, i)
                    case "drop":
                        server.drop(name)
                    case "forget":
                        server.forget()
                    case "cut":
                        server.cut()
                    case _:
                        await asyncio.sleep(0)
            await until(lambda: agrees(server, view), view)

    run(work)


@pytest.mark.parametrize("fault", ["mute", "500", "cut", "garbage"])
def test_a_fault_makes_the_view_red_and_it_heals_by_itself(fault: str) -> None:
    async def work() -> None:
        async with followed() as (server, view):
            server.put("a", 1)
            await until(lambda: agrees(server, view), view)
            server.fault = fault  # type: ignore[assignment]  # one of them
            server.put("b", 2)
            server.cut()
            await until(lambda: not view.health().is_fresh, view)
            with pytest.raises(Unavailable, match="no sign of it for"):
                view.items()
            assert view.health().reason
            assert view.last_known()["a"] == 1
            server.fault = "none"
            await until(lambda: agrees(server, view), view)
            assert view.health().since_s == 0

    run(work)


def test_a_stream_that_only_ends_in_order_is_no_fault_and_lists_nothing_again() -> None:
    async def work() -> None:
        async with followed() as (server, view):
            before = server.n_watches
            await until(lambda: server.n_watches >= before + 2, view)
            assert view.health().is_fresh
            assert (view.health().n_restarts, server.n_lists) == (0, 1)

    run(work)


def test_what_was_written_is_seen_before_it_is_answered() -> None:
    async def work() -> None:
        async with followed() as (server, view):
            for i in range(20):
                await view.wait_for(str(server.put(f"name{i}", i)), DEADLINE_S)
                assert view.items()[f"name{i}"] == i

    run(work)


def test_everything_is_read_in_pages() -> None:
    async def work() -> None:
        async with followed(page=2) as (server, view):
            for i in range(7):
                server.put(f"name{i}", i)
            server.forget()
            await until(lambda: agrees(server, view), view)
            assert server.n_lists >= 1 + 4

    run(work)


def test_who_asks_an_unreachable_cluster_is_told_at_once() -> None:
    async def refused(query: Any, limit: Any) -> Any:
        raise ConnectionRefusedError

    async def work() -> None:
        view: Watched[int] = Watched("things", refused, value_of, silence_s=SILENCE_S)
        view.start()
        try:
            began = time.monotonic()
            await view.wait_for(None, DEADLINE_S)
            with pytest.raises(Unavailable, match="does not answer"):
                view.items()
            assert time.monotonic() - began < DEADLINE_S / 2
        finally:
            await view.close()

    run(work)


@given(n_failed=st.integers(0, 10_000))
def test_pauses_grow_to_a_bound(n_failed: int) -> None:
    assert 0 < pause_s(n_failed) <= LONGEST_PAUSE_S
    assert pause_s(0) <= FIRST_PAUSE_S


@given(steps=st.lists(st.tuples(NAMES, st.sampled_from(["", "ines", "igor"]), st.booleans()), max_size=20))
def test_the_pods_of_an_account_are_those_with_its_label_after_every_change(
    steps: list[tuple[str, str, bool]],
) -> None:
    known: dict[str, Pod] = {}
    sorted_out = PodsByAccount()
    for turn, (name, account, is_there) in enumerate(steps):
        known.pop(name, None)
        if is_there:
            labels = {ACCOUNT: account} if account else {}
            known[name] = Pod({"metadata": {"name": name, "labels": labels}})
        for one in ("ines", "igor"):
            wanted = {pod.name for pod in known.values() if pod.labels.get(ACCOUNT) == one}
            for _ in range(2):  # the second answer is from what was sorted out
                assert {pod.name for pod in sorted_out.of(one, known, turn=turn)} == wanted
