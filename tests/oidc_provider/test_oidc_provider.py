"""A certified strict provider: RFC 9207, rotation with replay detection, logout tokens, essential acr."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from beamhub_hub import check_provider
from hub.hostile_provider import CLIENT_ID, CLIENT_SECRET  # the folder of these tests, not the room
from hub.hub_parts import BY_CLICK, browser, login_cookies
from hub.session_parts import await_that, processes_of, start_session
from oidc_provider.oidc_provider_parts import (  # the folder of these tests, not a library
    ACCESS_TOKEN_S,
    BACKCHANNEL_PATH,
    CALLBACK_PATH,
    MFA,
    PROVIDER,
    STEP_UP_PATH,
    StrictHub,
    accounts,
    log_in,
    send_form,
    start,
    strict_hub,
)

pytestmark = [pytest.mark.hub, pytest.mark.oidc_provider]


def visit(strict: StrictHub, client: httpx.Client) -> str:
    """Where a visit of the home page ends."""
    return client.get(f"{strict.hub.public_url}/hub/home").url.path


def await_end_of_access_token() -> None:
    """Return when an access token of now is not accepted any more."""
    end = time.monotonic() + ACCESS_TOKEN_S + 1.2  # the provider counts in whole seconds
    await_that(lambda: time.monotonic() > end, "the access token's end")


def callback_of(strict: StrictHub, client: httpx.Client, subject: str) -> httpx.URL:
    """The address that the provider sends the browser back to, not yet visited."""
    form = start(strict.hub, client)
    client.follow_redirects = False
    answer = send_form(client, form, subject=subject)
    while answer.is_redirect and urlsplit(answer.headers["location"]).path != CALLBACK_PATH:
        answer = client.get(answer.url.join(answer.headers["location"]))
    client.follow_redirects = True
    return httpx.URL(answer.headers["location"])


def test_a_login_brings_the_proposals_to_web(strict: StrictHub) -> None:
    with browser() as client:
        assert log_in(strict.hub, client, "ines").url.path == "/hub/home"
    assert strict.proposals("ines") == ["MA-1"]


def test_the_provider_names_itself_in_the_answer_and_the_hub_wants_it(strict: StrictHub) -> None:
    announced = httpx.get(f"{strict.provider.issuer}/.well-known/openid-configuration").json()
    assert announced["authorization_response_iss_parameter_supported"] is True
    with browser() as client:
        callback = callback_of(strict, client, "ines")
        assert callback.params["iss"] == strict.provider.issuer
        bare = callback.copy_remove_param("iss")
        assert client.get(bare).status_code == 403
        assert login_cookies(client) == set()


def test_another_issuer_in_the_answer_logs_nobody_in(strict: StrictHub) -> None:
    with browser() as client:
        callback = callback_of(strict, client, "ines")
        assert client.get(callback.copy_set_param("iss", "https://evil.example")).status_code == 403
        assert login_cookies(client) == set()


def test_the_check_finds_nothing_wrong_with_the_provider(
    strict: StrictHub, capsys: pytest.CaptureFixture[str]
) -> None:
    config = strict.hub.folder / "facility.yaml"
    assert check_provider.run(argparse.Namespace(name=PROVIDER, config=config, json=True)) == 0
    verdicts = {item["subject"]: item["verdict"] for item in json.loads(capsys.readouterr().out)["findings"]}
    warned = {subject for subject, verdict in verdicts.items() if verdict != "ok"}
    assert warned == {"transport"}  # no TLS on loopback


def test_a_request_without_pkce_is_refused_by_the_provider(strict: StrictHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        asked = httpx.URL(start(strict.hub, client).headers["location"])
        assert asked.params["code_challenge_method"] == "S256"
        bare = asked.copy_remove_param("code_challenge").copy_remove_param("code_challenge_method")
        query = parse_qs(urlsplit(client.get(bare).headers["location"]).query)
    assert query["error"] == ["invalid_request"]


def test_a_rotating_refresh_token_lasts_over_many_rounds(strict: StrictHub) -> None:
    before = strict.provider.happened("refreshed")
    with browser() as client:
        log_in(strict.hub, client, "ines")
        for _ in range(3):
            await_end_of_access_token()
            assert visit(strict, client) == "/hub/home"
    assert strict.provider.happened("refreshed") - before >= 3


def test_a_stolen_refresh_token_that_comes_twice_ends_the_login(strict: StrictHub) -> None:
    with browser() as client:
        log_in(strict.hub, client, "ines")
        await_end_of_access_token()
        assert visit(strict, client) == "/hub/home"
        spent = strict.provider.happened("spent_refresh_tokens")[-1]
        replayed = httpx.post(
            f"{strict.provider.issuer}/token",
            data={"grant_type": "refresh_token", "refresh_token": spent},
            auth=(quote(CLIENT_ID, safe=""), quote(CLIENT_SECRET, safe="")),  # RFC 6749, 2.3.1
        )
        assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
        await_end_of_access_token()
        assert visit(strict, client) != "/hub/home"


def test_who_left_the_provider_is_out_without_a_click(tmp_path: Path) -> None:
    def change(ours: dict[str, Any]) -> None:
        ours["refused_token_ends_account"] = True

    with strict_hub(tmp_path, change) as strict, browser() as client:
        log_in(strict.hub, client, "ines")
        account = strict.account("ines")
        start_session(strict.hub, client, account)
        strict.provider.set_accounts({"oscar": accounts()["oscar"]})
        await_that(lambda: account in strict.hub.web.removed, "web to know of the end")
        await_that(lambda: processes_of(account) == [], "the end of the session")
        assert visit(strict, client) != "/hub/home"


def test_logging_out_here_ends_the_session_there(strict: StrictHub) -> None:
    with browser() as client:
        log_in(strict.hub, client, "ines")
        question = client.get(f"{strict.hub.public_url}/hub/logout", headers=BY_CLICK)
        assert str(question.url).startswith(strict.provider.issuer)
        page = send_form(client, question, logout="yes")
        assert str(page.url).startswith(strict.hub.public_url)
        assert login_cookies(client) == set()
        assert "/interaction/" in start(strict.hub, client).url.path


def test_a_logout_at_the_provider_ends_the_login_here(strict: StrictHub) -> None:
    with browser() as client:
        log_in(strict.hub, client, "ines")
        told = strict.provider.happened("told")
        kept = httpx.Cookies(client.cookies)
        question = client.get(f"{strict.provider.issuer}/session/end")
        send_form(client, question, logout="yes")
        assert strict.provider.happened("told") == told + 1, strict.provider.happened("not_told")
        assert f"POST {BACKCHANNEL_PATH}" in strict.hub.log
        with browser() as thief:
            thief.cookies.update(kept)
            assert visit(strict, thief) != "/hub/home"
        assert visit(strict, client) != "/hub/home"


def test_a_second_factor_is_asked_for_as_essential_and_reaches_web(strict: StrictHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        asked = httpx.URL(start(strict.hub, client, STEP_UP_PATH, acr=MFA).headers["location"])
        acr = json.loads(asked.params["claims"])["id_token"]["acr"]
        assert (acr["essential"], acr["values"]) == (True, [MFA])
        client.follow_redirects = True
        assert log_in(strict.hub, client, "ines").url.path == "/hub/home"
        # It says no acr unless asked.
        assert strict.hub.web.principals[strict.account("ines")]["acr"] is None
        # The session there is of one factor, so the provider asks again.
        form = start(strict.hub, client, STEP_UP_PATH, acr=MFA)
        assert send_form(client, form, subject="ines").url.path == "/hub/home"
    assert strict.hub.web.principals[strict.account("ines")]["acr"] == MFA


def test_who_has_no_second_factor_gets_a_page_and_no_loop(strict: StrictHub) -> None:
    with browser() as client:
        form = start(strict.hub, client, STEP_UP_PATH, acr=MFA)
        page = send_form(client, form, subject="oscar")
        assert (page.status_code, page.url.path) == (403, CALLBACK_PATH)
        assert login_cookies(client) == set()
