"""Forged wishes, repeated starts and other people's starts, on a real hub and a real web service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from beamhub_catalogue.models import SessionRow
from beamhub_core.identity import Principal
from portal.portal_parts import EMBARGOED, person  # the folder of these tests, not the room
from portal.queue_hub import QueueHub, running_queue_hub

pytestmark = pytest.mark.hub
pytest.importorskip("jupyterhub", reason="JupyterHub is not installed")
FORGED: list[Any] = [
    {"datasets": ["/etc/passwd"], "path": "/etc"},
    {"mounts": [{"source": "/", "target": "/host", "mode": "rw"}]},
    {"uid": 0},
    {"uid": 0, "gid": 0, "profile": "small"},
    {"image": "evil/image:latest"},
    {"environment": "../../evil"},
    {"profile": {"cpu": 64}},
    {"profile": ["small"]},
    {"datasets": "test:MA-2:load"},
    {"datasets": [1, 2]},
    {"datasets": [{"pid": "x", "mode": "rw"}]},
    {"datasets": ["x" * 201]},
    {"datasets": ["x\u0000y"]},
    {"datasets": [f"p{i}" for i in range(65)]},
    {"mode": "rw"},
    {"limits": {"cpu": 10_000}},
    {"expires_at": "9999-01-01"},
    {"template": "a" * 10_000_000},
    ["small"],
    "small",
    17,
    True,
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueHub]:
    """A hub that ends itself at the second start that it takes for a failure."""
    with running_queue_hub(tmp_path_factory.mktemp("forged"), capacity=8) as made:
        yield made


def rows(hub: QueueHub, who: Principal) -> list[SessionRow]:
    """A person's sessions, the latest last."""
    with hub.service.database.reading() as session:
        query = select(SessionRow).where(SessionRow.account == who.account).order_by(SessionRow.created_at)
        return list(session.scalars(query))


def server_of(hub: QueueHub, who: Principal) -> dict[str, Any]:
    """The server as the hub shows it."""
    answer = hub.call("GET", f"/users/{who.account}?include_stopped_servers=1").json()
    found: dict[str, Any] = answer["servers"].get("s", {})
    return found


def await_ready(hub: QueueHub, who: Principal) -> None:
    deadline = time.monotonic() + 60
    while not server_of(hub, who).get("ready"):
        assert time.monotonic() < deadline, hub.log.read_text()[-3000:]
        time.sleep(0.1)


def await_stopped(hub: QueueHub, who: Principal) -> None:
    hub.stop(who)
    deadline = time.monotonic() + 60
    while not server_of(hub, who).get("stopped", True):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_forged_wishes_are_400_make_nothing_are_not_kept_and_count_as_no_failure(hub: QueueHub) -> None:
    mallory = person("mallory")
    hub.introduce(mallory)
    for options in FORGED:
        answer = hub.start(mallory, options=options)
        assert answer.status_code == 400, (str(options)[:80], answer.text[:300])
        assert not server_of(hub, mallory).get("user_options"), str(options)[:80]
    assert rows(hub, mallory) == []
    # The hub lives, though it would have ended at the second failure, and the next start keeps nothing.
    assert hub.call("POST", f"/users/{mallory.account}/servers/s").status_code in (201, 202)
    await_ready(hub, mallory)
    (row,) = rows(hub, mallory)
    assert (row.plan["profile"], row.plan["datasets"]) == ("small", [])
    assert row.phases is not None
    assert set(row.phases["seconds"]) - {"route"} == {"plan", "create", "boot", "ready"}
    told = hub.call("GET", "/../metrics").text
    assert 'beamhub_start_phase_seconds_count{phase="ready"} 1.0' in told
    assert "beamhub_start_failures_total 0.0" in told
    await_stopped(hub, mallory)


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        ({"datasets": ["test:XX-9:none"]}, 404, "not_found"),
        ({"profile": "huge"}, 403, "profile_not_allowed"),
        ({"profile": "unknown"}, 400, "bad_request"),
        ({"environment": "unknown"}, 400, "bad_request"),
        ({"template": "unknown"}, 400, "bad_request"),
    ],
)
def test_a_wish_for_what_is_not_the_persons_is_refused_with_its_reason_whoever_asks(
    hub: QueueHub, wish: dict[str, Any], status: int, code: str
) -> None:
    eve = person(f"eve-{code}-{next(iter(wish))}")
    hub.introduce(eve)
    answer = hub.start(eve, options=wish)  # by an operator, who may start everybody's servers
    assert answer.status_code == status
    assert f"[{code}, reference " in answer.json()["message"]
    assert rows(hub, eve) == []


def test_an_operators_start_gives_the_owners_rights_and_every_start_is_planned_anew(hub: QueueHub) -> None:
    member, guest = person("member", EMBARGOED), person("guest")
    house_pid = next(
        hit.pid for hit in hub.service.search(member, EMBARGOED).hits if hit.proposal == EMBARGOED
    )
    wish = {"datasets": [house_pid], "profile": "small"}
    for who in (member, guest):
        hub.introduce(who)
    assert hub.start(guest, options=wish).status_code == 403
    assert hub.start(member, options=wish).status_code in (201, 202)
    await_ready(hub, member)
    (first,) = rows(hub, member)
    assert {mount["pid"] for mount in first.plan["mounts"] if mount["purpose"] == "raw"} == {house_pid}
    await_stopped(hub, member)
    # The hub re-uses the options of the last start; the rights are those of now.
    assert hub.call("POST", f"/users/{member.account}/servers/s").status_code in (201, 202)
    await_ready(hub, member)
    await_stopped(hub, member)
    second = rows(hub, member)[-1]
    assert second.plan_id != first.plan_id
    assert second.plan["datasets"] == first.plan["datasets"]
    hub.tell(person("member"))  # no longer on the team
    refused = hub.call("POST", f"/users/{member.account}/servers/s")
    assert refused.status_code == 403, refused.text
    assert len(rows(hub, member)) == 2


def test_names_that_differ_by_case_or_escape_are_never_one_persons(hub: QueueHub) -> None:
    who = person("case")
    hub.introduce(who)
    assert hub.start(who).status_code in (201, 202)
    await_ready(hub, who)
    for name in (who.account.upper(), who.account.replace("-", "%2D").upper(), f"{who.account}%00"):
        answer = hub.call("POST", f"/users/{name}/servers/s")
        assert answer.status_code in (400, 403, 404), (name, answer.status_code)
    for server in ("S", "s%2f..%2fs", "%73%00", "a" * 300):
        answer = hub.call("POST", f"/users/{who.account}/servers/{server}", {"user_options": {"uid": 0}})
        assert answer.status_code in (400, 404), (server, answer.status_code)
    assert len(rows(hub, who)) == 1
    await_stopped(hub, who)
