"""More starts than room, on a real hub and a real web service."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from beamhub_catalogue.models import QueueTicketRow, SessionRow
from beamhub_core.session import LIVE_STATES
from portal.portal_parts import person  # the folder of these tests, not the room
from portal.queue_hub import QueueHub, running_queue_hub

pytestmark = pytest.mark.hub
pytest.importorskip("jupyterhub", reason="JupyterHub is not installed")
# In full, as the issue asks for it, with `make soak`: sixty real starts are half a minute of processor time.
N_STARTS, N_SLOTS = (60, 40) if os.environ.get("BEAMHUB_SOAK") else (12, 8)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueHub]:
    with running_queue_hub(tmp_path_factory.mktemp("queue"), capacity=N_SLOTS) as made:
        yield made


def live(hub: QueueHub) -> set[str]:
    """The accounts whose session lives."""
    with hub.service.database.reading() as session:
        return set(session.scalars(select(SessionRow.account).where(SessionRow.state.in_(LIVE_STATES))))


def waiting(hub: QueueHub) -> list[str]:
    """The accounts that wait, in order."""
    with hub.service.database.reading() as session:
        query = select(QueueTicketRow.account).order_by(QueueTicketRow.turn, QueueTicketRow.id)
        return list(session.scalars(query))


def until(holds: Callable[[], Any], hub: QueueHub) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline, hub.log.read_text()[-4000:]
        time.sleep(0.1)


def test_of_more_starts_than_slots_the_rest_waits_in_order_and_none_is_lost(hub: QueueHub) -> None:
    people = {one.account: one for one in (person(f"p{i}") for i in range(N_STARTS))}
    for one in people.values():
        hub.introduce(one)
    with ThreadPoolExecutor(N_STARTS) as pool:
        answers = [answer.status_code for answer in pool.map(hub.start, people.values())]
    assert set(answers) <= {201, 202, 503}
    until(lambda: len(live(hub)) == N_SLOTS and len(waiting(hub)) == N_STARTS - N_SLOTS, hub)
    queue = waiting(hub)
    late = person("late")
    hub.introduce(late)
    refused = hub.start(late)
    assert refused.status_code == 503
    assert f"at place {len(queue) + 1} of the queue" in refused.json()["message"]
    hub.service.queue.leave(late.account, "s")

    assert len(queue) == N_STARTS - N_SLOTS
    assert set(queue) | live(hub) == set(people)

    first = live(hub)
    hub.stop(people[next(iter(first))])
    until(lambda: queue[0] in live(hub), hub)
    assert waiting(hub) == queue[1:]
    for account in sorted(first & live(hub))[: len(queue) - 1]:
        hub.stop(people[account])
    until(lambda: waiting(hub) == [] and live(hub) >= set(queue), hub)
    assert len(live(hub)) == N_SLOTS
    with hub.service.database.reading() as session:
        rows = session.execute(select(SessionRow.created_at, SessionRow.ended_at)).all()
    moments = sorted({created for created, _ in rows})
    for moment in moments:
        n_then = sum(1 for created, ended in rows if created <= moment and (ended is None or ended > moment))
        assert n_then <= N_SLOTS  # never, at no moment
    assert len(rows) == N_STARTS
    assert "Traceback" not in hub.log.read_text()
