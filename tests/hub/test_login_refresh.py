"""After the login: the provider is asked again, web is told, and sessions that lost their rights end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from beamhub_core.identity import account_name
from hub.hub_parts import (  # the folder of these tests, not the room
    NAMESPACE,
    RunningHub,
    browser,
    log_in,
    running_hub,
)
from hub.session_parts import api, await_that, start_session

pytestmark = pytest.mark.hub

ENTITLEMENT = f"{NAMESPACE}:group:proposals:MA-1"


@pytest.fixture
def logged_in(hub: RunningHub) -> Iterator[httpx.Client]:
    """A browser with a login whose last answer is old enough to be asked for again."""
    hub.provider.script.userinfo["entitlements"] = [ENTITLEMENT]
    with browser() as client:
        assert log_in(hub, client).status_code == 200
        deadline = time.monotonic() + 2.1  # younger answers are not asked for again
        await_that(lambda: time.monotonic() > deadline, "the answer's age")
        yield client


def visit(hub: RunningHub, client: httpx.Client) -> str:
    """Where a visit of the home page ends."""
    return client.get(f"{hub.public_url}/hub/home").url.path


def groups_at_web(hub: RunningHub, subject: str = "ines") -> list[str]:
    """The proposals that web was told of last."""
    principal = hub.web.principals[account_name(hub.provider.issuer, subject)]
    return [item["subgroups"][0] for item in principal["entitlements"]]


def test_a_group_that_is_taken_away_is_gone_at_the_next_visit(
    hub: RunningHub, logged_in: httpx.Client
) -> None:
    assert groups_at_web(hub) == ["MA-1"]
    hub.provider.script.userinfo["entitlements"] = []
    assert visit(hub, logged_in) == "/hub/home"
    assert groups_at_web(hub) == []


def test_a_group_that_only_the_first_id_token_named_is_gone_too(hub: RunningHub) -> None:
    hub.provider.script.claims["entitlements"] = [ENTITLEMENT]
    with browser() as client:
        log_in(hub, client)
        assert groups_at_web(hub) == ["MA-1"]
        deadline = time.monotonic() + 2.1
        await_that(lambda: time.monotonic() > deadline, "the answer's age")
        assert visit(hub, client) == "/hub/home"
    assert groups_at_web(hub) == []


def test_an_access_token_that_ended_is_renewed_by_the_refresh_token(
    hub: RunningHub, logged_in: httpx.Client
) -> None:
    hub.provider.access.clear()
    hub.provider.script.userinfo["entitlements"] = [ENTITLEMENT + "2"]
    assert visit(hub, logged_in) == "/hub/home"
    assert groups_at_web(hub) == ["MA-12"]


def test_a_refresh_without_a_new_id_token_keeps_the_login(hub: RunningHub, logged_in: httpx.Client) -> None:
    hub.provider.access.clear()
    hub.provider.script.id_token_in_refresh = False
    assert visit(hub, logged_in) == "/hub/home"


def test_tokens_that_all_ended_ask_for_a_new_login_and_remove_nobody(
    hub: RunningHub, logged_in: httpx.Client
) -> None:
    hub.provider.access.clear()
    hub.provider.refresh.clear()
    assert visit(hub, logged_in) == "/hub/login"
    assert hub.web.removed == []


@pytest.mark.parametrize("name", ["userinfo", "claims"])
def test_a_refresh_that_speaks_of_another_person_ends_the_rights_at_once(
    hub: RunningHub, logged_in: httpx.Client, name: str
) -> None:
    hub.provider.access.clear()  # so that the refresh token is used and a new ID token comes
    getattr(hub.provider.script, name)["sub"] = "oscar"
    assert visit(hub, logged_in) == "/hub/login"
    assert hub.web.removed == [account_name(hub.provider.issuer, "ines")]


@pytest.mark.parametrize("claims", [{"iss": "https://evil"}, {"aud": "x"}, {"exp": 1, "iat": 1}])
def test_a_wrong_id_token_in_a_refresh_ends_the_rights_at_once(
    hub: RunningHub, logged_in: httpx.Client, claims: dict[str, Any]
) -> None:
    hub.provider.access.clear()
    hub.provider.script.claims |= claims
    assert visit(hub, logged_in) == "/hub/login"
    assert hub.web.removed == [account_name(hub.provider.issuer, "ines")]


def test_a_provider_that_is_down_leaves_the_time_of_grace(hub: RunningHub, logged_in: httpx.Client) -> None:
    pushed = len(hub.web.pushes)
    hub.provider.script.status["/userinfo"] = 503
    assert visit(hub, logged_in) == "/hub/home"
    assert len(hub.web.pushes) == pushed


def test_after_the_time_of_grace_a_silent_provider_means_no_login(tmp_path: Path) -> None:
    def no_grace(fields: dict[str, Any]) -> None:
        fields["login"]["grace_h"] = 0.0005  # 1.8 s, below the age of an answer that is asked for again

    with running_hub(tmp_path, change=no_grace) as fresh, browser() as client:
        log_in(fresh, client)
        fresh.provider.script.status["/userinfo"] = 503
        await_that(lambda: visit(fresh, client) == "/hub/login", "the end of the grace")


def test_nothing_starts_from_an_answer_older_than_the_grace_whatever_the_token(tmp_path: Path) -> None:
    """A token's request, as the portal's, does not go on as somebody whose refresh failed."""

    def no_grace(fields: dict[str, Any]) -> None:
        fields["login"]["grace_h"] = 0.0005

    with running_hub(tmp_path, change=no_grace) as fresh, browser() as client:
        log_in(fresh, client)
        account = account_name(fresh.provider.issuer, "ines")
        minted = api(fresh, client, "POST", f"/users/{account}/tokens", {"scopes": ["servers!user"]})
        token = minted.json()["token"]
        fresh.provider.script.status["/userinfo"] = 503
        await_that(lambda: visit(fresh, client) == "/hub/login", "the end of the grace")
        answer = httpx.post(
            f"{fresh.url}/hub/api/users/{account}/servers/d-1",
            headers={"Authorization": f"Bearer {token}"},
            json={"user_options": {}},
            timeout=30,
        )
        assert answer.status_code == 403
        assert not any(account in route for route in fresh.proxy.routes)


def test_web_down_at_a_refresh_keeps_the_login(hub: RunningHub, logged_in: httpx.Client) -> None:
    hub.web.is_down = True
    assert visit(hub, logged_in) == "/hub/home"


def test_a_session_without_clicks_is_rechecked_and_stopped_when_web_says_so(hub: RunningHub) -> None:
    account = account_name(hub.provider.issuer, "ines")
    hub.provider.script.userinfo["entitlements"] = [ENTITLEMENT]
    with browser() as client:
        log_in(hub, client)
        start_session(hub, client, account)
        home = client.get(f"{hub.public_url}/hub/home")
        assert f"/user/{account}/d-1" in home.text
    # Nobody clicks now: the task alone asks provider and web.
    hub.provider.script.userinfo["entitlements"] = []
    await_that(lambda: groups_at_web(hub) == [], "a refresh without a click")
    hub.web.is_down = True
    rechecks = hub.web.rechecks
    await_that(lambda: "re-check of sessions put off" in hub.log, "a round without web")
    hub.web.is_down = False
    await_that(lambda: hub.web.rechecks > rechecks, "the next round")
    assert any(account in route for route in hub.proxy.routes)
    hub.web.verdicts = [
        {
            "plan_id": "0" * 32,
            "account": account,
            "server_name": name,
            "action": action,
            "reason": "the test says so",
        }
        for name, action in (("d-1", "stop"), ("never-there", "stop"), ("d-1", "none"))
    ]
    await_that(lambda: not any(account in route for route in hub.proxy.routes), "the stop")
    assert f"stopping a session: account={account} server=d-1" in hub.log


def test_a_refused_token_ends_the_account_where_the_facility_says_so(tmp_path: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["login"]["providers"][0]["refused_token_ends_account"] = True

    with running_hub(tmp_path, change=change) as fresh, browser() as client:
        log_in(fresh, client)
        deadline = time.monotonic() + 2.1
        await_that(lambda: time.monotonic() > deadline, "the answer's age")
        fresh.provider.access.clear()
        fresh.provider.refresh.clear()
        assert visit(fresh, client) == "/hub/login"
        assert account_name(fresh.provider.issuer, "ines") in fresh.web.removed


def test_tokens_that_were_exchanged_are_kept_where_the_answer_after_them_is_missing(
    hub: RunningHub, logged_in: httpx.Client
) -> None:
    hub.provider.access.clear()
    spent = set(hub.provider.refresh)
    hub.provider.script.fault_for_good_tokens = 503

    def is_exchanged() -> bool:  # not at once where the provider failed a moment ago: it has a pause then
        assert visit(hub, logged_in) == "/hub/home"
        return set(hub.provider.refresh) != spent

    await_that(is_exchanged, "the exchange of the refresh token")
    hub.provider.script.fault_for_good_tokens = None
    hub.provider.script.userinfo["entitlements"] = [ENTITLEMENT + "3"]

    def is_asked_again() -> bool:
        assert visit(hub, logged_in) == "/hub/home"
        return groups_at_web(hub) == ["MA-13"]

    await_that(is_asked_again, "an answer to the new token")
