"""A session's trace, phases and preparation, on a real hub and a real web service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from beamhub_catalogue.models import QueueTicketRow, SessionRow
from beamhub_core.trace import traceparent
from portal.portal_parts import person  # the folder of these tests, not the room
from portal.queue_hub import OPERATOR, QueueHub, running_queue_hub

pytestmark = pytest.mark.hub
pytest.importorskip("jupyterhub", reason="JupyterHub is not installed")
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueHub]:
    with running_queue_hub(tmp_path_factory.mktemp("life"), capacity=2, pre_start={"unused_min": 20}) as made:
        for who in ("ada", "ben", "cem"):
            made.introduce(person(who))
        yield made


def rows(hub: QueueHub, who: str) -> list[SessionRow]:
    with hub.service.database.reading() as session:
        query = select(SessionRow).where(SessionRow.account == person(who).account)
        found = list(session.scalars(query.order_by(SessionRow.created_at)))
        session.expunge_all()
        return found


def until(holds: Callable[[], Any], hub: QueueHub) -> Any:
    deadline = time.monotonic() + 60
    while not (found := holds()):
        assert time.monotonic() < deadline, hub.log.read_text()[-4000:]
        time.sleep(0.1)
    return found


def verdicts(hub: QueueHub) -> dict[str, str]:
    token = hub.config.web.clients[0].token_file.read_text().strip()
    answer = httpx.post(f"{hub.public}/internal/recheck", headers={"Authorization": f"Bearer {token}"})
    return {one["account"]: one["reason"] for one in answer.json() if one["action"] == "stop"}


@pytest.mark.parametrize(
    ("header", "kept"),
    [(traceparent(TRACE), True), ("00-0-0-00", False), ("x" * 4000, False), (None, False)],
    ids=["sent", "invalid", "long", "none"],
)
def test_a_start_keeps_the_trace_of_who_asked_and_tells_when_its_route_is_set(
    hub: QueueHub, header: str | None, kept: bool
) -> None:
    headers = {"Authorization": f"Bearer {OPERATOR}"} | ({"traceparent": header} if header else {})
    path = f"{hub.api_url}/users/{person('ada').account}/servers/t"
    assert httpx.post(path, json={"user_options": {}}, headers=headers, timeout=60).status_code in (201, 202)
    row = until(lambda: (one := rows(hub, "ada")[-1]).state == "running" and one, hub)
    until(lambda: "route" in rows(hub, "ada")[-1].phases["seconds"], hub)
    assert (row.plan["trace_id"] == TRACE) is kept
    assert f"session routed: plan={row.plan_id} trace={row.plan['trace_id']}" in hub.log.read_text()
    assert set(rows(hub, "ada")[-1].phases["seconds"]) >= {"plan", "create", "boot", "ready", "route"}
    hub.stop(person("ada"), "t")
    until(lambda: rows(hub, "ada")[-1].state == "ended", hub)


def test_a_prepared_session_takes_no_place_in_the_queue_and_gives_way(hub: QueueHub) -> None:
    ada, ben, cem = person("ada"), person("ben"), person("cem")
    assert hub.start(ada, "p", {"prepare": True}).status_code in (201, 202)
    prepared = until(lambda: (one := rows(hub, "ada")[-1]).state == "running" and one, hub)
    assert prepared.prepared_until - prepared.created_at == timedelta(minutes=20)
    again = hub.start(ada, "q", {"prepare": True})
    assert again.status_code == 403
    assert "1 of 1 prepared sessions" in again.json()["message"]
    assert hub.start(ben).status_code in (201, 202)
    until(lambda: rows(hub, "ben")[-1].state == "running", hub)
    full = hub.start(cem, "p", {"prepare": True})
    assert full.status_code == 503
    with hub.service.database.reading() as session:
        assert session.scalars(select(QueueTicketRow)).all() == []
    assert verdicts(hub) == {}
    assert hub.start(cem).status_code == 503  # cem waits now, and the preparation gives way
    assert "others wait for its room" in verdicts(hub)[ada.account]
    hub.stop(ada, "p")
    until(lambda: any(row.state == "running" for row in rows(hub, "cem")), hub)
    for one in (ben, cem):
        hub.stop(one)


@pytest.mark.parametrize(
    "options", [{"prepare": "yes"}, {"prepare": 1}, {"prepare": None}, {"prepared": True}]
)
def test_a_forged_wish_to_prepare_is_refused(hub: QueueHub, options: dict[str, Any]) -> None:
    before = len(rows(hub, "ben"))
    assert hub.start(person("ben"), "f", options).status_code == 400
    assert len(rows(hub, "ben")) == before
