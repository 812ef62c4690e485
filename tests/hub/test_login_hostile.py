"""Whatever a provider sends through the redirect chain of a running hub: a clean page, and nobody is in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from beamhub_hub.handlers import UNATTESTED
from hub.hostile_provider import (  # the folder of these tests, not the room
    HostileProvider,
    Script,
    hand_made,
    honest,
    public_pem,
    rsa_key,
)
from hub.hub_parts import RunningHub, browser, log_in, login_cookies

pytestmark = pytest.mark.hub

HEADER = {"alg": "RS256", "typ": "JWT", "kid": "first"}


def with_claims(**claims: Any) -> Callable[[Script], None]:
    """A script that changes claims of the ID token."""
    return lambda script: script.claims.update(claims)


def signed_by(sign: Callable[[HostileProvider, dict[str, Any]], str]) -> Callable[[Script], None]:
    """A script that signs in a way of its own."""
    return lambda script: setattr(script, "sign", sign)


def another_key(provider: HostileProvider, claims: dict[str, Any]) -> str:
    """Signed by a key that nobody published, under the name of one that is."""
    import jwt

    return jwt.encode(claims, rsa_key("stolen"), algorithm="RS256", headers={"kid": "first"})


def broken_signature(provider: HostileProvider, claims: dict[str, Any]) -> str:
    """A good token with one letter of its signature changed."""
    head, _, signature = honest(provider, claims).rpartition(".")
    return f"{head}.{'B' if signature[0] != 'B' else 'C'}{signature[1:]}"


def in_the_past(script: Script) -> None:
    """An expired token."""
    now = int(time.time())
    script.claims |= {"iat": now - 1000, "exp": now - 100}


DENIED: dict[str, tuple[str, Callable[[Script], None]]] = {
    "a wrong signature": ("token_signature", signed_by(broken_signature)),
    "another key": ("token_signature", signed_by(another_key)),
    "algorithm none": (
        "token_algorithm",
        signed_by(lambda _, claims: hand_made({**HEADER, "alg": "none"}, claims, None)),
    ),
    "no signature": ("token_signature", signed_by(lambda _, claims: hand_made(HEADER, claims, None))),
    "HS256 with the public key": (
        "token_algorithm",
        signed_by(lambda _, claims: hand_made({**HEADER, "alg": "HS256"}, claims, public_pem("first"))),
    ),
    "an unknown critical header": (
        "token_header",
        signed_by(lambda provider, claims: honest(provider, claims, crit=["x"], x=1)),
    ),
    "an unknown key": (
        "token_key",
        signed_by(lambda provider, claims: honest(provider, claims, kid="unknown")),
    ),
    "no JWT": ("token_malformed", signed_by(lambda *_: "this is no token at all, only text")),
    "an oversized token": ("token_too_large", with_claims(padding="x" * 70_000)),
    "a foreign issuer": ("token_issuer", with_claims(iss="https://evil.example")),
    "no issuer": ("token_issuer", with_claims(iss=None)),
    "a wrong audience": ("token_audience", with_claims(aud="somebody-else")),
    "no audience": ("token_audience", with_claims(aud=None)),
    "two audiences and a foreign party": (
        "token_audience",
        with_claims(aud=["beamhub test+client", "x"], azp="x"),
    ),
    "an expired token": ("token_expired", in_the_past),
    "no expiry": ("token_times", with_claims(exp=None)),
    "not before the future": ("token_not_yet_valid", with_claims(nbf=int(time.time()) + 9999)),
    "issued in the future": ("token_not_yet_valid", with_claims(iat=int(time.time()) + 9999)),
    "no issue time": ("token_times", with_claims(iat=None)),
    "a wrong nonce": ("token_nonce", with_claims(nonce="replayed-nonce")),
    "no nonce": ("token_nonce", with_claims(nonce=None)),
    "no subject": ("token_subject", with_claims(sub=None)),
    "a wrong access-token hash": ("token_hash", with_claims(at_hash="AAAAAAAAAAAAAAAAAAAAAA")),
    "userinfo of another subject": ("userinfo_subject", lambda s: s.userinfo.update(sub="oscar")),
    "userinfo without a subject": ("userinfo_subject", lambda s: s.userinfo.update(sub=None)),
    "userinfo that refuses": ("userinfo_refused", lambda s: s.status.update({"/userinfo": 401})),
    "userinfo that is a list": ("userinfo_malformed", lambda s: s.raw.update({"/userinfo": b"[1]"})),
    "no ID token": ("token_response", lambda s: s.token_answer.update(id_token=None)),
    "no access token": ("token_response", lambda s: s.token_answer.update(access_token=None)),
    "another token type": ("token_response", lambda s: s.token_answer.update(token_type="mac")),
    "an ID token that is a list": ("token_response", lambda s: s.token_answer.update(id_token=["x"])),
    "a refused code": ("code_refused", lambda s: s.status.update({"/token": 400})),
    "no code": ("code_missing", lambda s: s.response.update(code=None)),
    "an error instead of a code": (
        "provider_refused",
        lambda s: s.response.update(code=None, error="access_denied", error_description="<script>x</script>"),
    ),
    "another issuer's response": ("response_issuer", lambda s: s.response.update(iss="https://evil.example")),
    "another state": ("attempt_missing", lambda s: s.response.update(state="A" * 43)),
    "a state without sense": ("attempt_missing", lambda s: s.response.update(state="../../x")),
    "no state": ("attempt_missing", lambda s: s.response.update(state=None)),
    "a subject with a line break": (
        "token_subject",
        lambda s: (s.claims.update(sub="a\nb"), s.userinfo.update(sub="a\nb")),
    ),
    "a monitoring account": (
        "subject_blocked",
        lambda s: s.userinfo.update(voperson_id="test@eduteams.org"),
    ),
}

UNAVAILABLE: dict[str, Callable[[Script], None]] = {
    "token endpoint fails": lambda s: s.status.update({"/token": 500}),
    "userinfo fails": lambda s: s.status.update({"/userinfo": 503}),
    "token endpoint redirects": lambda s: s.location.update({"/token": "http://127.0.0.1:9/elsewhere"}),
    "token endpoint answers HTML": lambda s: s.raw.update({"/token": b"<html>"}),
    "userinfo answers nested JSON": lambda s: s.raw.update({"/userinfo": b"[" * 100_000}),
    "userinfo answers without end": lambda s: s.raw.update({"/userinfo": b'"' + b"x" * 600_000 + b'"'}),
}


def assert_nobody_is_in(hub: RunningHub, client: httpx.Client, answer: httpx.Response, since: int) -> None:
    """No login cookie, no secret of the exchange in page or log, no traceback."""
    assert login_cookies(client) == set()
    assert client.get(f"{hub.public_url}/hub/home").url.path == "/hub/login"
    log = hub.log[since:]
    for secret in hub.provider.secrets_sent:
        assert secret not in answer.text
        assert secret not in log
    assert "Traceback" not in log
    assert hub.web.pushes == []


@pytest.mark.parametrize("case", DENIED)
def test_a_hostile_answer_is_a_403_page_with_a_reference(hub: RunningHub, case: str) -> None:
    code, change = DENIED[case]
    change(hub.provider.script)
    since = len(hub.log)
    with browser() as client:
        answer = log_in(hub, client)
        assert answer.status_code == 403
        assert "<script>x" not in answer.text
        assert_nobody_is_in(hub, client, answer, since)
    reference = answer.text.partition('id="reference">')[2][:8]
    lines = [line for line in hub.log[since:].splitlines() if reference and f"reference={reference}" in line]
    assert len(lines) == 1
    assert f"reason={code}" in lines[0]
    # The audit keeps what a provider vouched for, and nothing that anybody could cause without end.
    vouched = [(notice["kind"], notice["code"]) for notice in hub.web.notices]
    assert vouched == ([] if code in UNATTESTED else [("login_refused", code)])


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_a_failing_provider_is_a_503_page(hub: RunningHub, case: str) -> None:
    UNAVAILABLE[case](hub.provider.script)
    since = len(hub.log)
    with browser() as client:
        answer = log_in(hub, client)
        assert answer.status_code == 503
        assert "Community login does not answer" in answer.text
        assert_nobody_is_in(hub, client, answer, since)


def test_web_down_at_login_lets_nobody_in(hub: RunningHub) -> None:
    hub.web.is_down = True
    since = len(hub.log)
    with browser() as client:
        answer = log_in(hub, client)
        assert answer.status_code == 503
        assert "the service that knows your rights does not answer" in answer.text
        assert_nobody_is_in(hub, client, answer, since)


def test_a_callback_replayed_logs_nobody_in(hub: RunningHub) -> None:
    with browser() as client:
        answer = log_in(hub, client)
        callback = next(r.url for r in answer.history if r.url.path == "/hub/login/hostile/callback")
    with browser() as thief:
        replayed = thief.get(callback)
        assert replayed.status_code == 403
        assert login_cookies(thief) == set()


def test_a_code_used_twice_logs_nobody_in_again(hub: RunningHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        start = log_in(hub, client)
        callback = client.get(start.headers["location"]).headers["location"]
        kept = dict(client.cookies)
        assert client.get(callback).status_code == 302
        with browser() as again:
            again.cookies.update({name: value for name, value in kept.items() if "beamhub-login" in name})
            assert again.get(callback).status_code == 403


def test_a_changed_attempt_cookie_is_not_ours(hub: RunningHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        start = log_in(hub, client)
        callback = client.get(start.headers["location"]).headers["location"]
        for cookie in list(client.cookies.jar):
            if cookie.name.startswith("beamhub-login"):
                cookie.value = (cookie.value or "")[:-3] + "000"
        assert client.get(callback).status_code == 403


def test_an_unknown_key_id_asks_for_the_keys_once_and_not_in_a_flood(hub: RunningHub) -> None:
    hub.provider.script.sign = lambda provider, claims: honest(provider, claims, kid="forged")
    with browser() as client:
        for _ in range(5):
            assert log_in(hub, client).status_code == 403
    assert hub.provider.count("/jwks") <= 1


def test_an_unparsable_key_beside_a_good_one_spoils_nothing(tmp_path: Any) -> None:
    from hub.hub_parts import running_hub

    with running_hub(tmp_path) as fresh, browser() as client:
        fresh.provider.script.extra_keys = [{"kty": "RSA", "kid": "bad", "n": "!"}, {"kty": "?"}]
        assert log_in(fresh, client).status_code == 200
        # The keys are known now; a new one is found as soon as a token names it, once the time is over.
        assert fresh.provider.count("/jwks") == 1


def test_a_provider_that_is_down_is_a_page_before_any_redirect(tmp_path: Any) -> None:
    from hub.hub_parts import running_hub

    with running_hub(tmp_path) as fresh, browser() as client:
        for change in (
            lambda s: s.status.update({"/.well-known/openid-configuration": 500}),
            lambda s: s.raw.update({"/.well-known/openid-configuration": b"<html>"}),
            lambda s: s.discovery.update(issuer="https://evil.example"),
            lambda s: s.discovery.update(token_endpoint="ftp://x/"),
        ):
            change(fresh.provider.reset())
            answer = log_in(fresh, client)
            assert answer.status_code == 503
            assert "Community login does not answer" in answer.text
            assert login_cookies(client) == set()
        fresh.provider.reset()
        assert log_in(fresh, client).status_code == 200, json.dumps(fresh.provider.requests)


def test_a_provider_that_announces_its_issuer_must_name_it(tmp_path: Any) -> None:
    from hub.hub_parts import running_hub

    with running_hub(tmp_path) as fresh, browser() as client:
        fresh.provider.script.discovery["authorization_response_iss_parameter_supported"] = True
        assert log_in(fresh, client).status_code == 403
        assert "reason=response_issuer" in fresh.log
        fresh.provider.script.response["iss"] = fresh.provider.issuer
        assert log_in(fresh, client).status_code == 200
