"""A provider that does not answer: what runs keeps running, and nothing is given to new sessions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.login import LoginConfig
from beamhub_core.identity import account_name
from beamhub_hub.data_starts import data_answer_age_s, names_data
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.provider_gate import FIRST_PAUSE_S, MAX_AT_ONCE, ProviderGate
from beamhub_hub.refresher import phase_of
from hub.hub_parts import RunningHub, browser, log_in  # the folder of these tests, not the room
from hub.session_parts import api, await_that, processes_of, servers_of
from hub.stored_logins import read_login, restart, write_login


@pytest.mark.hub
def test_in_the_time_of_grace_a_session_starts_without_datasets_only(hub: RunningHub) -> None:
    hub.provider.script.subject = "ines-of-the-silent-provider"
    account = account_name(hub.provider.issuer, hub.provider.script.subject)
    with browser() as client:
        log_in(hub, client)
        hub.provider.script.status["/userinfo"] = 503

        def grow_old() -> None:
            record = read_login(hub, account)
            checked_at = (datetime.now(UTC) - timedelta(seconds=120)).isoformat()
            for said in (record, *record["identities"]):
                said["principal"]["checked_at"] = checked_at
            write_login(hub, account, record)

        restart(hub, grow_old)
        path = f"/users/{account}/servers/d-1"
        refused = api(hub, client, "POST", path, {"user_options": {"datasets": ["demo:1"]}})
        assert refused.status_code == 503, refused.text
        assert "What runs keeps running" in refused.json()["message"]
        started = api(hub, client, "POST", path, {"user_options": {}})
        assert started.status_code in (201, 202), started.text
        await_that(lambda: servers_of(hub, account).get("d-1", {}).get("ready"), "the server")
        hub.provider.script.status.clear()
        path = f"/users/{account}/servers/d-2"

        def may_start() -> bool:
            answer = api(hub, client, "POST", path, {"user_options": {"datasets": ["demo:1"]}})
            return "cannot be confirmed" not in answer.text

        await_that(may_start, "a provider that answers again")
        for name in ("d-1", "d-2"):
            api(hub, client, "DELETE", f"/users/{account}/servers/{name}")
        await_that(lambda: not processes_of(account), "the sessions' end")


@pytest.mark.parametrize(
    ("options", "are_data"),
    [
        (None, False),
        ({}, False),
        ({"datasets": []}, False),
        ({"datasets": ["demo:1"]}, True),
        ({"unknown": 1}, True),
        ("text", True),
    ],
)
def test_options_that_cannot_be_read_count_as_naming_data(options: Any, are_data: bool) -> None:
    assert names_data(options) is are_data


@given(st.floats(1, 5000))
def test_an_answer_for_new_data_is_never_older_than_two_rounds_or_a_minute(refresh_s: float) -> None:
    provider = {"name": "p", "title": "P", "issuer": "https://p.example", "client_id": "c"}
    provider["client_secret_file"] = "/run/none"
    login = LoginConfig.model_validate({"providers": [provider], "refresh_s": refresh_s})
    assert data_answer_age_s(login) == max(60.0, 2 * refresh_s)


class Clock:
    """A monotonic clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


async def _answer() -> str:
    return "yes"


async def _fault() -> str:
    raise ProviderUnavailable("p", "HTTP 503")


async def _denial() -> str:
    raise LoginDenied("subject_blocked")


@given(st.lists(st.booleans(), max_size=12))
def test_a_silent_provider_is_left_alone_for_ever_longer_times_up_to_the_longest(faults: list[bool]) -> None:
    clock = Clock()
    gate = ProviderGate("p", longest_pause_s=4.0, monotonic=clock)
    pause_s = FIRST_PAUSE_S
    for is_fault in faults:
        if is_fault:
            with pytest.raises(ProviderUnavailable, match="503"):
                asyncio.run(gate.ask(_fault))
            clock.now += pause_s - 0.01
            with pytest.raises(ProviderUnavailable, match="a moment ago"):
                asyncio.run(gate.ask(_answer))
            clock.now += 0.02
            pause_s = min(2 * pause_s, 4.0)
        else:
            assert asyncio.run(gate.ask(_answer)) == "yes"
            pause_s = FIRST_PAUSE_S
    assert gate.is_open


def test_a_denial_is_an_answer() -> None:
    gate = ProviderGate("p", longest_pause_s=4.0)
    with pytest.raises(LoginDenied, match="subject_blocked"):
        asyncio.run(gate.ask(_denial))
    assert gate.is_open


def test_a_provider_is_asked_a_few_questions_at_once() -> None:
    async def crowd() -> int:
        gate, asked, most = ProviderGate("p", longest_pause_s=4.0), 0, 0
        go = asyncio.Event()

        async def question() -> None:
            nonlocal asked, most
            asked += 1
            most = max(most, asked)
            await go.wait()
            asked -= 1

        tasks = [asyncio.create_task(gate.ask(question)) for _ in range(50)]
        while asked < MAX_AT_ONCE:
            await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*tasks)
        return most

    assert asyncio.run(crowd()) == MAX_AT_ONCE


def test_the_turns_of_many_accounts_are_spread_over_the_interval() -> None:
    phases = sorted(phase_of(account_name("https://p.example", str(i))) for i in range(1000))
    assert phases[0] >= 0
    assert phases[-1] < 1
    tenths = [sum(int(phase * 10) == tenth for phase in phases) for tenth in range(10)]
    assert max(tenths) < 2 * min(tenths)
