"""Guests: in without a provider, to open data only, for a time that nothing makes longer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.login import GuestConfig, LoginConfig
from beamhub_core.config.provider import ProviderConfig
from beamhub_core.identity import GUEST_ISSUER, account_name
from beamhub_hub.authenticator import group_of
from beamhub_hub.denial import LoginDenied
from beamhub_hub.guest_accounts import GUEST_GROUP
from beamhub_hub.guest_kind import RECOUNT_S, GuestKind
from beamhub_hub.login_attempt import Demand, new_attempt
from hub.hub_parts import (  # the folder of these tests, not the room
    RunningHub,
    browser,
    log_in,
    login_cookies,
    running_hub,
)
from hub.stored_logins import restart

START = datetime(2026, 3, 1, tzinfo=UTC)
WAIT_S = 30.0
LEFT_S = 5.0


class Machine:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def clock(self) -> datetime:
        """The instant."""
        return START + timedelta(seconds=self.now_s)

    def seconds(self) -> float:
        """The seconds."""
        return self.now_s


class Accounts:
    """How many guest accounts there are, as told."""

    def __init__(self) -> None:
        self.n, self.n_asked = 0, 0

    async def count(self) -> int:
        """The number."""
        self.n_asked += 1
        return self.n


def guest_kind(
    machine: Machine,
    accounts: Accounts,
    *,
    lifetime_h: float = 8.0,
    max_guests: int = 50,
    grace_h: float = 12.0,
) -> GuestKind:
    """Guests under a clock of the test."""
    provider = ProviderConfig.model_validate(
        {
            "name": "p",
            "title": "P",
            "issuer": "https://p.example.org",
            "client_id": "c",
            "client_secret_file": Path("/secret"),
        }
    )
    guests = GuestConfig(lifetime_h=lifetime_h, max_guests=max_guests)
    login = LoginConfig(providers=(provider,), guests=guests, grace_h=grace_h)
    return GuestKind(guests, login, count=accounts.count, clock=machine.clock, seconds=machine.seconds)


async def come(kind: GuestKind) -> Any:
    """One guest's record."""
    return await kind.finish({}, new_attempt("guest", "/"), return_to="/")


@given(
    lifetime_h=st.floats(0.001, 168),
    grace_h=st.floats(0, 200),
    looks_s=st.lists(st.floats(0, 170 * 3600), min_size=1, max_size=6),
)
def test_no_time_of_grace_outlasts_a_guest(lifetime_h: float, grace_h: float, looks_s: list[float]) -> None:
    machine = Machine()
    kind = guest_kind(machine, Accounts(), lifetime_h=lifetime_h, grace_h=grace_h)
    record = asyncio.run(come(kind))
    end = START + timedelta(hours=lifetime_h)
    for machine.now_s in sorted(looks_s):
        is_over = machine.clock() >= end
        assert kind.is_over(record) is is_over
        if is_over:
            with pytest.raises(LoginDenied) as denied:
                asyncio.run(kind.renew(record))
            assert denied.value.code == "guest_over"
        else:
            record = asyncio.run(kind.renew(record))
    slack = timedelta(milliseconds=1)
    assert not record.is_fresh(end + slack, grace_h * 3600)


async def _all_of(kind: GuestKind, n: int, machine: Machine) -> list[str]:
    ends = []
    for _ in range(n):
        machine.now_s += 1
        try:
            await come(kind)
            ends.append("in")
        except LoginDenied as denied:
            ends.append(denied.code)
    return ends


def test_there_are_never_more_guests_than_there_may_be() -> None:
    machine, accounts = Machine(), Accounts()
    accounts.n = 3
    kind = guest_kind(machine, accounts, max_guests=5)
    assert asyncio.run(_all_of(kind, 4, machine)) == ["in", "in", "guests_full", "guests_full"]
    assert accounts.n_asked == 1
    machine.now_s += RECOUNT_S
    accounts.n = 4
    assert asyncio.run(_all_of(kind, 2, machine)) == ["in", "guests_full"]


@pytest.mark.parametrize(
    "demand", [Demand(acr_values=("https://refeds.org/profile/mfa",)), Demand(links_to="u-" + "a" * 26)]
)
def test_a_guest_shows_no_second_factor_and_joins_no_account(demand: Demand) -> None:
    kind = guest_kind(Machine(), Accounts())
    with pytest.raises(LoginDenied) as denied:
        asyncio.run(kind.finish({}, new_attempt("guest", "/", demand), return_to="/"))
    assert denied.value.code == "not_allowed"


def test_the_group_of_guests_is_that_of_their_role() -> None:
    assert group_of("guest") == GUEST_GROUP


def with_guests(fields: dict[str, Any]) -> None:
    """A few guests at a time."""
    fields["login"]["guests"] = {"lifetime_h": 1, "max_guests": 3}


def give_guests(folder: Path, lifetime_s: float) -> None:
    """Another time for guests in a hub's configuration."""
    path = folder / "facility.yaml"
    fields = yaml.safe_load(path.read_text())
    fields["login"]["guests"]["lifetime_h"] = lifetime_s / 3600
    path.write_text(yaml.safe_dump(fields))


@pytest.fixture(scope="module")
def guests_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub that lets guests in."""
    with running_hub(tmp_path_factory.mktemp("guests"), change=with_guests) as hub:
        yield hub


def enter(hub: RunningHub, client: httpx.Client, next_url: str = "/hub/token") -> httpx.Response:
    """Press the button of the login page."""
    text = client.get(f"{hub.public_url}/hub/login", params={"next": next_url}).text
    token = re.search(r'name="_xsrf" value="([^"]+)"', text)
    action = re.search(r'<form method="post" action="([^"]+)"', text)
    assert token is not None
    assert action is not None
    return client.post(f"{hub.public_url}{action[1].replace('&amp;', '&')}", data={"_xsrf": token[1]})


def guests_at_web(hub: RunningHub) -> list[dict[str, Any]]:
    """The principals of guests that web knows."""
    return [p for p in hub.web.principals.values() if p["issuer"] == GUEST_ISSUER]


@pytest.mark.hub
def test_a_guest_is_in_with_one_role_and_gone_with_everything_when_the_time_is_over(tmp_path: Path) -> None:
    with running_hub(tmp_path, change=with_guests) as hub, ExitStack() as stack:
        came_at = time.monotonic()
        clients = [stack.enter_context(browser()) for _ in range(3)]
        for client in clients:
            assert enter(hub, client).url.path == "/hub/token"
        found = guests_at_web(hub)
        assert len({p["account"] for p in found}) == 3
        assert all(p["account"] == account_name(GUEST_ISSUER, p["subject"]) for p in found)
        assert {(p["display_name"], *p["roles"]) for p in found} == {("Guest", "guest")}
        assert [n["kind"] for n in hub.web.notices] == ["login"] * 3
        # The number of guests is in the hub's database: a restart does not make room.
        restart(hub)
        with browser() as late:
            full = enter(hub, late)
            assert (full.status_code, login_cookies(late)) == (403, set())
            assert "As many guests are here" in full.text
        # Their time is counted from when they came, and over while this hub runs.
        restart(hub, lambda: give_guests(hub.folder, time.monotonic() - came_at + LEFT_S))
        deadline = time.monotonic() + WAIT_S + LEFT_S
        while guests_at_web(hub) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert guests_at_web(hub) == []
        assert clients[0].get(f"{hub.public_url}/hub/home").url.path == "/hub/login"
        assert hub.log.count("guest removed") == 3
        assert "Traceback" not in hub.log


@pytest.mark.hub
@pytest.mark.parametrize("mode", ["navigate", "no-cors", "cors", "same-origin", "websocket", None])
@pytest.mark.parametrize("way", ["guest", "hostile"])
def test_no_foreign_form_begins_a_login(guests_hub: RunningHub, way: str, mode: str | None) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"} | ({"Sec-Fetch-Mode": mode} if mode else {})
    before = len(guests_at_web(guests_hub))
    with browser() as client:
        log_in(guests_hub, client)
        for data in ({}, {"_xsrf": ""}, {"_xsrf": "x" * 5000}, {"_xsrf": "ü"}):
            client.follow_redirects = False
            answer = client.post(f"{guests_hub.public_url}/hub/login/{way}", data=data, headers=headers)
            assert answer.status_code == 403
            assert not [c for c in answer.headers.get_list("set-cookie") if c.startswith("beamhub-login-")]
            assert "Nothing was done" in answer.text
    assert len(guests_at_web(guests_hub)) == before


@pytest.mark.hub
def test_a_link_makes_no_guest(guests_hub: RunningHub) -> None:
    before = len(guests_at_web(guests_hub))
    with browser() as client:
        assert client.get(f"{guests_hub.public_url}/hub/login/guest").url.path == "/hub/login"
        callback = client.get(f"{guests_hub.public_url}/hub/login/guest/callback", params={"state": "A" * 43})
        assert callback.status_code == 403
        assert login_cookies(client) == set()
    assert len(guests_at_web(guests_hub)) == before


@pytest.mark.hub
def test_a_stronger_login_is_not_offered_to_guests(guests_hub: RunningHub) -> None:
    page = httpx.get(f"{guests_hub.public_url}/hub/login", params={"acr": "https://refeds.org/profile/mfa"})
    assert "Continue as a guest" not in page.text
