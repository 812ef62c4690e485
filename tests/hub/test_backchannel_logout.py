"""Back-channel logout through a running hub: each rule of the token, and what a good one ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from beamhub_core.identity import account_name
from hub.hostile_provider import (  # the folder of these tests, not the room
    CLIENT_SECRET,
    HostileProvider,
    hand_made,
    honest,
    public_pem,
)
from hub.hub_parts import RunningHub, browser, log_in
from hub.logout_tokens import EVENT, logout_claims, logout_token, send_logout, signed_by
from hub.session_parts import await_that, by_token, mint_token, processes_of, start_session
from hub.test_login_session import portal_token

pytestmark = pytest.mark.hub
WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "wrong-iss": {"iss": "https://evil.example"},
    "missing-iss": {"iss": None},
    "wrong-aud": {"aud": "somebody else"},
    "missing-aud": {"aud": None},
    "foreign-second-aud": {"aud": ["beamhub test+client", "somebody else"]},
    "no-event": {"events": None},
    "wrong-event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "event-is-a-list": {"events": [EVENT]},
    "event-value-is-text": {"events": {EVENT: "yes"}},
    "with-nonce": {"nonce": "n"},
    "with-a-null-nonce": {"nonce": ""},
    "missing-jti": {"jti": None},
    "empty-jti": {"jti": ""},
    "jti-is-a-number": {"jti": 7},
    "jti-too-long": {"jti": "j" * 600},
    "missing-iat": {"iat": None},
    "iat-ahead": {"iat": int(time.time()) + 3600, "exp": int(time.time()) + 7200},
    "iat-is-old": {"iat": int(time.time()) - 3600},
    "missing-exp": {"exp": None},
    "expired": {"iat": int(time.time()) - 500, "exp": int(time.time()) - 400},
    "nobody": {"sub": None},
    "empty-sub": {"sub": ""},
    "sub-is-a-list": {"sub": ["ines"]},
    "sid-is-a-number": {"sid": 5},
}
WRONG_SIGNERS: dict[str, Callable[[HostileProvider, dict[str, Any]], str]] = {
    "alg-none": lambda _, claims: hand_made({"alg": "none", "typ": "logout+jwt"}, claims, None),
    "hs256-with-the-public-key": lambda _, claims: hand_made({"alg": "HS256"}, claims, public_pem("first")),
    "hs256-with-the-client-secret": lambda _, claims: hand_made(
        {"alg": "HS256"}, claims, CLIENT_SECRET.encode()
    ),
    "unknown-key": lambda provider, claims: honest(provider, claims, kid="nobody's"),
    "id-token-type": lambda provider, claims: honest(provider, claims, typ="at+jwt"),
    "critical-extension": lambda provider, claims: honest(provider, claims, crit=["b64"], b64=True),
    "broken-signature": lambda provider, claims: honest(provider, claims)[:-12] + "A" * 12,
    "no-token": lambda _, __: "nonsense",
    "two-tokens-in-one": lambda provider, claims: honest(provider, claims) + ".x.y",
}


@dataclass(frozen=True)
class LoggedIn:
    """A browser with a login, and the token of the portal in it."""

    client: httpx.Client
    account: str
    token: str

    def is_in(self, hub: RunningHub) -> bool:
        """Whether cookie and token still count; they end together."""
        page = self.client.get(f"{hub.public_url}/hub/home").url.path == "/hub/home"
        assert page == (by_token(hub, self.token).status_code == 200)
        return page


@pytest.fixture
def ines(hub: RunningHub) -> Iterator[LoggedIn]:
    """A login with a session id at the provider."""
    hub.provider.script.claims["sid"] = "sid-of-ines"
    with browser() as client:
        log_in(hub, client)
        yield LoggedIn(client, account_name(hub.provider.issuer, "ines"), portal_token(hub, client))


def check_refused(answer: httpx.Response, status: int = 400) -> None:
    """The answer has the form that the specification asks for, and names no value."""
    assert answer.status_code == status, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("application/json")
    assert set(answer.json()) == {"error", "error_description"}
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("name", WRONG_CLAIMS)
def test_a_logout_token_with_wrong_claims_ends_nothing(hub: RunningHub, ines: LoggedIn, name: str) -> None:
    check_refused(send_logout(hub, logout_token(hub.provider, **WRONG_CLAIMS[name])))
    assert ines.is_in(hub)


@pytest.mark.parametrize("name", WRONG_SIGNERS)
def test_a_logout_token_with_a_wrong_signature_ends_nothing(
    hub: RunningHub, ines: LoggedIn, name: str
) -> None:
    check_refused(send_logout(hub, signed_by(hub.provider, WRONG_SIGNERS[name])))
    assert ines.is_in(hub)


@pytest.mark.parametrize("typ", ["logout+jwt", "application/logout+jwt", "JWT", None])
@pytest.mark.parametrize("names", [{"sid": None}, {"sub": None, "sid": "sid-of-ines"}, {"sid": "other"}])
def test_a_good_logout_token_ends_the_login_in_hub_and_portal(
    hub: RunningHub, ines: LoggedIn, typ: str | None, names: dict[str, str | None]
) -> None:
    answer = send_logout(hub, logout_token(hub.provider, typ=typ, **names))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), answer.text
    assert not ines.is_in(hub)


def test_every_browser_is_logged_out_and_what_runs_goes_on(hub: RunningHub, ines: LoggedIn) -> None:
    with browser() as second:
        log_in(hub, second)
        start_session(hub, ines.client, ines.account)
        minted = mint_token(hub, ines.client, ines.account)
        server = processes_of(ines.account)
        assert send_logout(hub, logout_token(hub.provider)).status_code == 200
        assert not ines.is_in(hub)
        assert second.get(f"{hub.public_url}/hub/home").url.path == "/hub/login"
        assert by_token(hub, minted).status_code == 200
        assert processes_of(ines.account) == server
        path = f"/users/{ines.account}/servers/d-1"
        assert by_token(hub, minted, path, "DELETE").status_code in (202, 204)
        await_that(lambda: not processes_of(ines.account), "the session's end")


def test_a_logout_token_counts_once(hub: RunningHub, ines: LoggedIn) -> None:
    token = logout_token(hub.provider)
    assert send_logout(hub, token).status_code == 200
    log_in(hub, ines.client)
    check_refused(send_logout(hub, token))
    assert ines.client.get(f"{hub.public_url}/hub/home").url.path == "/hub/home"


def test_a_forged_token_does_not_use_up_the_name_of_a_real_one(hub: RunningHub, ines: LoggedIn) -> None:
    claims = logout_claims(hub.provider)
    check_refused(send_logout(hub, hand_made({"alg": "none"}, claims, None)))
    check_refused(send_logout(hub, honest(hub.provider, claims)[:-12] + "A" * 12))
    assert send_logout(hub, honest(hub.provider, claims)).status_code == 200
    assert not ines.is_in(hub)


@pytest.mark.parametrize("names", [{"sub": "nobody-here"}, {"sub": None, "sid": "never-seen"}])
def test_a_logout_of_somebody_unknown_is_fine_and_ends_nothing(
    hub: RunningHub, ines: LoggedIn, names: dict[str, str | None]
) -> None:
    assert send_logout(hub, logout_token(hub.provider, **names)).status_code == 200
    assert ines.is_in(hub)


def test_an_id_token_is_no_logout_token(hub: RunningHub, ines: LoggedIn) -> None:
    now = int(time.time())
    claims = {"iss": hub.provider.issuer, "aud": "beamhub test+client", "sub": "ines", "iat": now}
    check_refused(send_logout(hub, honest(hub.provider, {**claims, "exp": now + 60, "nonce": "n"})))
    assert ines.is_in(hub)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"logout_token=",
        b"other=1",
        b"logout_token=a&logout_token=b",
        b"logout_token=" + b"x" * 70_000,
        b"\xff\xfe",
        b"&".join(b"a%d=1" % i for i in range(50)),
    ],
)
def test_a_body_that_is_no_such_form_is_refused(hub: RunningHub, body: bytes) -> None:
    url = f"{hub.public_url}/hub/login/hostile/backchannel"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    check_refused(httpx.post(url, content=body, headers=form, timeout=30))


def test_a_token_outside_a_form_is_refused(hub: RunningHub, ines: LoggedIn) -> None:
    url = f"{hub.public_url}/hub/login/hostile/backchannel"
    token = logout_token(hub.provider)
    check_refused(httpx.post(url, content=json.dumps({"logout_token": token}), timeout=30))
    assert httpx.get(url, params={"logout_token": token}).status_code == 405
    assert ines.is_in(hub)


def test_an_unknown_provider_is_not_found(hub: RunningHub) -> None:
    check_refused(send_logout(hub, logout_token(hub.provider), name="nobody"), 404)


def test_cookies_mean_nothing_there_and_none_is_set(hub: RunningHub, ines: LoggedIn) -> None:
    cookies = {cookie.name: cookie.value or "" for cookie in ines.client.cookies.jar}
    check_refused(send_logout(hub, "nonsense", cookies=cookies))
    assert ines.is_in(hub)


def test_no_token_stands_in_the_log(hub: RunningHub) -> None:
    token = logout_token(hub.provider, aud="somebody else")
    check_refused(send_logout(hub, token))
    assert "reason=token_audience" in hub.log
    assert token not in hub.log
    assert token.split(".")[2] not in hub.log
