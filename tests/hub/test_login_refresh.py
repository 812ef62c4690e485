"""After the login: the provider is asked again, web is told, and sessions that lost their rights end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
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


class Visitor:
    """A browser with a login of a person of its own."""

    def __init__(self, hub: RunningHub, subject: str, client: httpx.Client) -> None:
        self.hub, self.subject, self.client = hub, subject, client
        self.account = account_name(hub.provider.issuer, subject)

    def visit(self) -> str:
        """Where a visit of the home page ends."""
        return visit(self.hub, self.client)

    def groups(self) -> list[str]:
        """The proposals that web was told of last."""
        return groups_at_web(self.hub, self.subject)

    def refresh_tokens(self) -> set[str]:
        """The refresh tokens that the provider would take."""
        return {token for token, subject in self.hub.provider.refresh.items() if subject == self.subject}

    def end_access(self) -> None:
        """The provider takes this person's access token no longer."""
        held = self.hub.provider.access
        for token in [token for token, subject in held.items() if subject == self.subject]:
            del held[token]

    def end_tokens(self) -> None:
        """Nor the refresh token."""
        self.end_access()
        for token in self.refresh_tokens():
            del self.hub.provider.refresh[token]


@pytest.fixture(scope="module")
def visitors(module_hub: RunningHub, request: pytest.FixtureRequest) -> Iterator[list[Visitor]]:
    """One for each test that asks for one; their logins age together."""
    wanted = [item for item in request.session.items if "logged_in" in getattr(item, "fixturenames", ())]
    with ExitStack() as stack:
        script, found = module_hub.provider.reset(), []
        script.userinfo["entitlements"] = [ENTITLEMENT]
        for n in range(len(wanted)):
            script.subject = f"visitor-{n}"
            found.append(Visitor(module_hub, script.subject, stack.enter_context(browser())))
            assert log_in(module_hub, found[-1].client).status_code == 200
        deadline = time.monotonic() + 2.1  # younger answers are not asked for again
        await_that(lambda: time.monotonic() > deadline, "the answers' age")
        yield found


@pytest.fixture
def logged_in(visitors: list[Visitor], hub: RunningHub) -> Visitor:
    """Somebody whose last answer is old enough to be asked for again."""
    found = visitors.pop()
    hub.provider.script.subject = found.subject
    hub.provider.script.userinfo["entitlements"] = [ENTITLEMENT]
    return found


def visit(hub: RunningHub, client: httpx.Client) -> str:
    """Where a visit of the home page ends."""
    return client.get(f"{hub.public_url}/hub/home").url.path


def groups_at_web(hub: RunningHub, subject: str = "ines") -> list[str]:
    """The proposals that web was told of last."""
    principal = hub.web.principals[account_name(hub.provider.issuer, subject)]
    return [item["subgroups"][0] for item in principal["entitlements"]]


def test_a_group_that_is_taken_away_is_gone_at_the_next_visit(hub: RunningHub, logged_in: Visitor) -> None:
    assert logged_in.groups() == ["MA-1"]
    hub.provider.script.userinfo["entitlements"] = []
    assert logged_in.visit() == "/hub/home"
    assert logged_in.groups() == []


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
    hub: RunningHub, logged_in: Visitor
) -> None:
    logged_in.end_access()
    hub.provider.script.userinfo["entitlements"] = [ENTITLEMENT + "2"]
    assert logged_in.visit() == "/hub/home"
    assert logged_in.groups() == ["MA-12"]


def test_a_refresh_without_a_new_id_token_keeps_the_login(hub: RunningHub, logged_in: Visitor) -> None:
    logged_in.end_access()
    hub.provider.script.id_token_in_refresh = False
    assert logged_in.visit() == "/hub/home"


def test_tokens_that_all_ended_ask_for_a_new_login_and_remove_nobody(
    hub: RunningHub, logged_in: Visitor
) -> None:
    logged_in.end_tokens()
    assert logged_in.visit() == "/hub/login"
    assert hub.web.removed == []


@pytest.mark.parametrize("name", ["userinfo", "claims"])
def test_a_refresh_that_speaks_of_another_person_ends_the_rights_at_once(
    hub: RunningHub, logged_in: Visitor, name: str
) -> None:
    logged_in.end_access()  # so that the refresh token is used and a new ID token comes
    getattr(hub.provider.script, name)["sub"] = "oscar"
    assert logged_in.visit() == "/hub/login"
    assert hub.web.removed == [logged_in.account]


@pytest.mark.parametrize("claims", [{"iss": "https://evil"}, {"aud": "x"}, {"exp": 1, "iat": 1}])
def test_a_wrong_id_token_in_a_refresh_ends_the_rights_at_once(
    hub: RunningHub, logged_in: Visitor, claims: dict[str, Any]
) -> None:
    logged_in.end_access()
    hub.provider.script.claims |= claims
    assert logged_in.visit() == "/hub/login"
    assert hub.web.removed == [logged_in.account]


def test_a_provider_that_is_down_leaves_the_time_of_grace(hub: RunningHub, logged_in: Visitor) -> None:
    pushed = len(hub.web.pushes)
    hub.provider.script.status["/userinfo"] = 503
    assert logged_in.visit() == "/hub/home"
    assert len(hub.web.pushes) == pushed
    hub.provider.script.status.clear()
    hub.provider.script.userinfo["entitlements"] = []

    def is_asked_again() -> bool:
        assert logged_in.visit() == "/hub/home"
        return logged_in.groups() == []

    await_that(is_asked_again, "an answer of the provider that came back")


@pytest.fixture(scope="module")
def hasty_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub whose time of grace is below the age of an answer that is asked for again."""

    def no_grace(fields: dict[str, Any]) -> None:
        fields["login"]["grace_h"] = 0.0005  # 1.8 s

    with running_hub(tmp_path_factory.mktemp("hasty"), change=no_grace) as made:
        yield made


def test_after_the_time_of_grace_a_silent_provider_means_no_login(hasty_hub: RunningHub) -> None:
    hasty_hub.provider.reset()
    with browser() as client:
        log_in(hasty_hub, client)
        hasty_hub.provider.script.status["/userinfo"] = 503
        await_that(lambda: visit(hasty_hub, client) == "/hub/login", "the end of the grace")


def test_nothing_starts_from_an_answer_older_than_the_grace_whatever_the_token(hasty_hub: RunningHub) -> None:
    """A token's request, as the portal's, does not go on as somebody whose refresh failed."""
    hasty_hub.provider.reset().subject = "oscar"
    with browser() as client:
        log_in(hasty_hub, client)
        account = account_name(hasty_hub.provider.issuer, "oscar")
        minted = api(hasty_hub, client, "POST", f"/users/{account}/tokens", {"scopes": ["servers!user"]})
        token = minted.json()["token"]
        hasty_hub.provider.script.status["/userinfo"] = 503
        await_that(lambda: visit(hasty_hub, client) == "/hub/login", "the end of the grace")
        answer = httpx.post(
            f"{hasty_hub.url}/hub/api/users/{account}/servers/d-1",
            headers={"Authorization": f"Bearer {token}"},
            json={"user_options": {}},
            timeout=30,
        )
        assert answer.status_code == 403
        assert not any(account in route for route in hasty_hub.proxy.routes)


def test_web_down_at_a_refresh_keeps_the_login(hub: RunningHub, logged_in: Visitor) -> None:
    hub.web.is_down = True
    assert logged_in.visit() == "/hub/home"


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
    hub: RunningHub, logged_in: Visitor
) -> None:
    logged_in.end_access()
    spent = logged_in.refresh_tokens()
    hub.provider.script.fault_for_good_tokens = 503

    def is_exchanged() -> bool:  # not at once where the provider failed a moment ago: it has a pause then
        assert logged_in.visit() == "/hub/home"
        return logged_in.refresh_tokens() != spent

    await_that(is_exchanged, "the exchange of the refresh token")
    hub.provider.script.fault_for_good_tokens = None
    hub.provider.script.userinfo["entitlements"] = [ENTITLEMENT + "3"]

    def is_asked_again() -> bool:
        assert logged_in.visit() == "/hub/home"
        return logged_in.groups() == ["MA-13"]

    await_that(is_asked_again, "an answer to the new token")
