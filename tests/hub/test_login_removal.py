"""Somebody is removed at the provider and never sends another request: what is left of the account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

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
from hub.session_parts import (
    await_that,
    by_token,
    environment_of,
    id_of,
    mint_token,
    processes_of,
    rows,
    servers_of,
    start_session,
)
from hub.stored_logins import restart
from hub.test_login_session import portal_token

pytestmark = pytest.mark.hub


def remove_at_provider(hub: RunningHub) -> None:
    """From now on the provider's people are such as may not log in here."""
    hub.provider.script.userinfo["voperson_id"] = "test@provider.example"


def make_shares(hub: RunningHub, account: str, other: str) -> None:
    """The account's server is open to another one, and the other's to it."""
    insert = "insert into shares (owner_id, spawner_id, user_id, scopes, created_at) values (?, ?, ?, ?, ?)"
    for owner, friend in ((account, other), (other, account)):
        number, name = id_of(hub, owner), "d-1" if owner == account else ""
        if not name:
            rows(hub, "insert into spawners (user_id, name) values (?, '')", number)
        spawner = rows(hub, "select id from spawners where user_id = ? and name = ?", number, name)[0][0]
        scopes = json.dumps([f"access:servers!server={owner}/{name}"])
        rows(hub, insert, number, spawner, id_of(hub, friend), scopes, "2026-11-21 00:00:00")


def what_is_left(hub: RunningHub, account: str) -> dict[str, int]:
    """How many rows of each kind the account has."""
    number = id_of(hub, account)
    counts = {
        "api_tokens": "select count(*) from api_tokens where user_id = ?1",
        "oauth_codes": "select count(*) from oauth_codes where user_id = ?1",
        "groups": "select count(*) from user_group_map where user_id = ?1",
        "shares": "select count(*) from shares where owner_id = ?1 or user_id = ?1",
    }
    return {name: rows(hub, query, number)[0][0] for name, query in counts.items()}


@pytest.fixture
def roles(hub: RunningHub) -> Iterator[Path]:
    """The list of roles, empty again afterwards."""
    path = hub.folder / "roles.csv"
    yield path
    path.write_text("issuer,subject,role\n")


def test_who_is_removed_at_the_provider_loses_everything_without_another_request(
    hub: RunningHub, roles: Path
) -> None:
    with browser() as client, browser() as other:
        hub.provider.script.subject = "removed"
        account = account_name(hub.provider.issuer, "removed")
        roles.write_text(f"issuer,subject,role\n{hub.provider.issuer},removed,support\n")
        log_in(hub, client)
        start_session(hub, client, account)
        tokens = [mint_token(hub, client, account), portal_token(hub, client)]
        tokens.append(environment_of(processes_of(account)[0])["JUPYTERHUB_API_TOKEN"])
        assert [by_token(hub, token).status_code for token in tokens] == [200, 200, 200]
        hub.provider.script.subject = "friend"
        log_in(hub, other)
        hub.provider.script.subject = "removed"
        make_shares(hub, account, account_name(hub.provider.issuer, "friend"))
        before = what_is_left(hub, account)
        assert (before["groups"], before["shares"], before["api_tokens"] > 2) == (1, 2, True)
        cookie_id = rows(hub, "select cookie_id from users where name = ?", account)

        remove_at_provider(hub)
        await_that(lambda: hub.web.removed == [account], "web told")
        await_that(lambda: processes_of(account) == [], "the session's end")

        await_that(lambda: not servers_of(hub, account), "no server in the hub")
        assert not any(account in route for route in hub.proxy.routes)
        assert set(what_is_left(hub, account).values()) == {0}
        assert rows(hub, "select cookie_id from users where name = ?", account) != cookie_id
        await_that(
            lambda: rows(hub, "select encrypted_auth_state from users where name = ?", account) == [(None,)],
            "nothing left to do",
        )
        assert [by_token(hub, token).status_code for token in tokens] == [403, 403, 403]
        assert client.get(f"{hub.public_url}/hub/home").url.path == "/hub/login"
        assert hub.web.removed == [account]
        assert f"account ended: account={account} reason=subject_blocked" in hub.log
        # Whoever is let in again starts anew.
        hub.provider.reset().subject = "removed"
        with browser() as again:
            assert log_in(hub, again).url.path == "/hub/home"


def test_an_end_that_a_killed_hub_left_half_done_is_finished_by_the_next_one(hub: RunningHub) -> None:
    hub.provider.script.subject = "half-removed"
    account = account_name(hub.provider.issuer, "half-removed")
    with browser() as client:
        log_in(hub, client)
        start_session(hub, client, account)
        hub.web.is_down = True
        remove_at_provider(hub)
        await_that(lambda: f"web not told of an ended account: account={account}" in hub.log, "the end")
        assert set(what_is_left(hub, account).values()) == {0}
        restart(hub)
        hub.web.is_down = False
        await_that(lambda: account in hub.web.removed, "web told by the next hub")
        await_that(lambda: processes_of(account) == [], "the session's end")


def test_who_loses_one_proposal_only_stays_logged_in_and_loses_the_session_that_web_names(
    hub: RunningHub,
) -> None:
    account = account_name(hub.provider.issuer, "ines")
    hub.provider.script.userinfo["entitlements"] = [
        f"{NAMESPACE}:group:proposals:{name}" for name in ("MA-1", "MA-2")
    ]
    with browser() as client:
        log_in(hub, client)
        for name in ("d-1", "d-2"):
            start_session(hub, client, account, name)
        token = mint_token(hub, client, account)
        hub.provider.script.userinfo["entitlements"].pop(0)
        rechecks = hub.web.rechecks
        await_that(
            lambda: [e["subgroups"] for e in hub.web.principals[account]["entitlements"]] == [["MA-2"]],
            "web told",
        )
        await_that(lambda: hub.web.rechecks > rechecks, "a re-check")
        hub.web.verdicts = [_verdict(account, "d-1", "stop"), _verdict(account, "d-2", "none")]
        await_that(lambda: set(servers_of(hub, account)) == {"d-2"}, "the stop of one of two")
        await_that(lambda: "the test says so" in hub.web.reasons, "web told why")
        assert hub.web.phases >= {"plan", "create", "boot", "ready", "route"}
        assert by_token(hub, token).status_code == 200
        assert client.get(f"{hub.public_url}/hub/home").url.path == "/hub/home"
        assert hub.web.removed == []
        hub.web.verdicts = [_verdict(account, "d-2", "stop")]
        await_that(lambda: processes_of(account) == [], "the stop of the other")


def test_an_account_that_only_web_knows_a_session_of_is_asked_about_too(hub: RunningHub) -> None:
    account = account_name(hub.provider.issuer, "ines")
    with browser() as client:
        log_in(hub, client)
    hub.web.verdicts = [_verdict(account, "d-9", "none")]
    asked = hub.provider.count("/userinfo")
    await_that(lambda: hub.provider.count("/userinfo") > asked + 1, "two rounds for an idle browser")
    remove_at_provider(hub)
    await_that(lambda: hub.web.removed == [account], "web told")


def test_a_stop_of_a_session_without_a_server_closes_its_row(hub: RunningHub) -> None:
    account = account_name(hub.provider.issuer, "ines")
    with browser() as client:
        log_in(hub, client)
    hub.web.verdicts = [_verdict(account, "d-9", "stop")]
    await_that(lambda: ("0" * 32, "ended") in hub.web.updates, "the closed row")


def test_an_operator_who_deletes_an_account_ends_it_at_web_too(tmp_path: Path) -> None:
    (tmp_path / "jupyterhub_config.d").mkdir()
    operator = {"name": "operator", "api_token": "operator-token-of-the-test"}
    role = {"name": "operator", "scopes": ["delete:users"], "services": ["operator"]}
    extra = f"c.JupyterHub.services.extend([{operator}])\nc.JupyterHub.load_roles.extend([{role}])\n"
    (tmp_path / "jupyterhub_config.d" / "operator.py").write_text(extra)
    with running_hub(tmp_path) as hub, browser() as client:
        account = account_name(hub.provider.issuer, "ines")
        log_in(hub, client)
        start_session(hub, client, account)
        gone = by_token(hub, "operator-token-of-the-test", f"/users/{account}", "DELETE")
        assert gone.status_code == 204, gone.text
        assert hub.web.removed == [account]
        await_that(lambda: processes_of(account) == [], "the session's end")
        assert rows(hub, "select id from users where name = ?", account) == []
        page: httpx.Response = client.get(f"{hub.public_url}/hub/home")
        assert page.url.path == "/hub/login"


def _verdict(account: str, server_name: str, action: str) -> dict[str, str]:
    return {
        "plan_id": "0" * 32,
        "account": account,
        "server_name": server_name,
        "action": action,
        "reason": "the test says so",
    }
