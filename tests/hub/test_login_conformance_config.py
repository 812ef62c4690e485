"""Discovery, keys and their rotation, algorithms, and several providers at one hub (mix-up)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from beamhub_core.config.provider import ProviderConfig
from hub import hostile_wire  # the folder of these tests, not the room
from hub.conformance_parts import Crowd, assert_is_in, assert_nobody_is_in, assert_reason, crowd
from hub.hostile_provider import HostileProvider, Script, honest
from hub.hostile_tokens import (
    Change,
    broken_elliptic_signature,
    public_jwk,
    signed_by,
    signed_with,
    with_header,
    without_key_id,
)
from hub.hub_parts import browser, login_cookies

pytestmark = pytest.mark.hub

DISCOVERY = "/.well-known/openid-configuration"


def discovery(**values: Any) -> Change:
    """A script that changes the discovery document; an address that starts with '/' is the provider's."""
    return lambda script: script.discovery.update(values)


def raw_discovery(data: bytes) -> Change:
    """A script with this discovery document."""
    return lambda script: script.raw.update({DISCOVERY: data})


def keys(*extra: dict[str, Any], published: tuple[str, ...] = ("first",)) -> Change:
    """A script with these keys in the key set."""

    def change(script: Script) -> None:
        script.extra_keys, script.published_keys = list(extra), published

    return change


def both(*changes: Change) -> Change:
    """One script of several."""

    def change_all(script: Script) -> None:
        for change in changes:
            change(script)

    return change_all


def raw_keys(data: bytes) -> Change:
    """A script with this key set."""
    return lambda script: script.raw.update({"/jwks": data})


def rotate_then_sign(provider: HostileProvider, claims: dict[str, Any]) -> str:
    """The new key is published in the very moment of signing."""
    provider.script.published_keys, provider.script.signing_key = ("second",), "second"
    return honest(provider, claims)


ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
ACCEPTED: dict[str, Change] = {
    **{f"happy path {algorithm}": signed_with(algorithm, "only") for algorithm in ALGORITHMS},
    "discovery-jwks-uri-keys": lambda script: None,
    "signing-key-rotation-just-before-signing": signed_by(rotate_then_sign),
    "rotation under the same key id": lambda script: None,  # its own test changes the key later
    "signing-key-rotation": lambda script: None,
    "client-secret-post": discovery(token_endpoint_auth_methods_supported=["client_secret_post"]),
    "unparsable keys beside a good one": keys(
        {"kty": "RSA", "kid": "bad", "n": "!"}, {"kty": "?"}, {"kty": "oct", "k": "AAAA", "kid": "first"}
    ),
    "an encryption key of the same id": keys({**public_jwk("RS256", "first"), "use": "enc"}),
    "kid-absent with one key of the algorithm": both(
        keys(public_jwk("ES256", "elliptic")), signed_by(without_key_id)
    ),
}
DENIED: dict[str, tuple[str, Change]] = {
    "kid-absent-multiple-jwks": (
        "token_key",
        both(keys(published=("first", "second")), signed_by(without_key_id)),
    ),
    "two keys of one id": ("token_key", keys({**public_jwk("RS256", "first")})),
    "invalid-sig-es256": (
        "token_signature",
        both(keys(public_jwk("ES256", "elliptic")), signed_by(broken_elliptic_signature)),
    ),
    "no keys at all": ("token_key", keys(published=())),
    "keys without sense": ("token_key", raw_keys(b'{"keys": 7}')),
    "a key that was taken back": ("token_key", both(keys(published=("second",)), with_header(kid="first"))),
    "issuer in the response is announced and missing": (
        "response_issuer",
        discovery(authorization_response_iss_parameter_supported=True),
    ),
}
UNAVAILABLE: dict[str, Change] = {
    "discovery-issuer-mismatch": discovery(issuer="https://evil.example"),
    "discovery without an issuer": discovery(issuer=None),
    "discovery fails": lambda script: script.status.update({DISCOVERY: 500}),
    "discovery is not there": lambda script: script.status.update({DISCOVERY: 404}),
    "discovery redirects": lambda script: script.location.update({DISCOVERY: "http://127.0.0.1:9/x"}),
    "discovery is HTML": raw_discovery(b"<html>"),
    "discovery is a list": raw_discovery(b"[]"),
    "discovery with an endpoint of another scheme": discovery(token_endpoint="ftp://127.0.0.1/"),
    "discovery with a password in an endpoint": discovery(userinfo_endpoint="https://a:b@127.0.0.1/"),
    "discovery without a key set": discovery(jwks_uri=None),
    "huge JWKS": raw_keys(b'{"keys": [' + b'{"kty": "RSA"},' * 40_000 + b"{}]}"),
    "JWKS fails": lambda script: script.status.update({"/jwks": 500}),
    "JWKS is not there": lambda script: script.status.update({"/jwks": 404}),
    "JWKS redirects": lambda script: script.location.update({"/jwks": "http://127.0.0.1:9/x"}),
}
SLOW: dict[str, Change] = {
    "silent discovery": lambda script: script.wire.update({DISCOVERY: hostile_wire.silence}),
    "dripping discovery": lambda script: script.wire.update({DISCOVERY: hostile_wire.drip}),
    "dripping token endpoint": lambda script: script.wire.update({"/token": hostile_wire.drip}),
    "dripping headers": lambda script: script.wire.update({"/token": hostile_wire.drip_of_headers}),
    "silent userinfo": lambda script: script.wire.update({"/userinfo": hostile_wire.silence}),
    "dripping JWKS": lambda script: script.wire.update({"/jwks": hostile_wire.drip}),
}


def name_of(case: str) -> str:
    """The provider of a case."""
    every = [*ACCEPTED, *DENIED, *UNAVAILABLE, *SLOW, "slash", "announces", "rush"]
    return f"p{every.index(case)}"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """One hub, and for each case a provider that the hub has never asked before."""
    algorithms = {"algorithms": list(ALGORITHMS)}
    config: dict[str, dict[str, Any]] = {
        name_of(case): algorithms if case.startswith("happy path") else {}
        for case in (*ACCEPTED, *DENIED, *UNAVAILABLE, *SLOW, "slash", "announces", "rush")
    }
    with crowd(tmp_path_factory.mktemp("crowd"), config) as providers:
        yield providers


@pytest.fixture
def calm(many: Crowd) -> Crowd:
    """The crowd, and a web service without notes of earlier tests."""
    many.hub.web.pushes.clear()
    return many


def scripted(calm: Crowd, case: str, change: Change) -> HostileProvider:
    """The provider of a case, lying as it says."""
    provider = calm.providers[name_of(case)]
    change(provider.reset())
    return provider


@pytest.mark.parametrize("case", ACCEPTED)
def test_an_honest_provider_of_any_kind_logs_in(calm: Crowd, case: str) -> None:
    scripted(calm, case, ACCEPTED[case])
    with browser() as client:
        assert_is_in(calm.hub, client, calm.log_in(client, name_of(case)))


@pytest.mark.parametrize("case", DENIED)
def test_wrong_keys_are_a_403_page_with_a_reference(calm: Crowd, case: str) -> None:
    code, change = DENIED[case]
    provider = scripted(calm, case, change)
    since = len(calm.hub.log)
    with browser() as client:
        answer = calm.log_in(client, name_of(case))
        assert answer.status_code == 403
        assert_nobody_is_in(calm.hub, client, answer, since)
    assert_reason(calm.hub, answer, code, since)
    assert provider.count("/jwks") <= 2


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_a_provider_that_cannot_be_configured_is_a_503_page(calm: Crowd, case: str) -> None:
    provider = scripted(calm, case, UNAVAILABLE[case])
    since = len(calm.hub.log)
    with browser() as client:
        answer = calm.log_in(client, name_of(case))
        assert answer.status_code == 503
        assert_nobody_is_in(calm.hub, client, answer, since)
        if case != "huge JWKS":  # and once it is honest again, one can log in at once
            provider.reset()
            assert_is_in(calm.hub, client, calm.log_in(client, name_of(case)))


def test_slow_providers_end_in_a_503_page_and_hold_nobody_up(calm: Crowd) -> None:
    """Each of these would hold a request for as long as its provider lives; they wait side by side."""
    for case, change in SLOW.items():
        scripted(calm, case, change)

    def status(case: str) -> int:
        with browser() as client:
            client.timeout = httpx.Timeout(120)
            return calm.log_in(client, name_of(case)).status_code

    with ThreadPoolExecutor(len(SLOW)) as threads:
        answers = threads.map(status, SLOW)
        with browser() as client:  # meanwhile somebody else logs in
            assert_is_in(calm.hub, client, calm.log_in(client, name_of("happy path RS256")))
        assert list(answers) == [503] * len(SLOW)
    assert all(not provider.ends.is_set() for provider in calm.providers.values())


def test_a_rotation_of_keys_locks_nobody_out(calm: Crowd) -> None:
    provider = scripted(calm, "signing-key-rotation", lambda script: None)
    name = name_of("signing-key-rotation")
    with browser() as client:
        assert_is_in(calm.hub, client, calm.log_in(client, name))
    provider.script.published_keys = ("second",)
    provider.script.signing_key = "second"
    with browser() as client:
        assert_is_in(calm.hub, client, calm.log_in(client, name))
    assert provider.count("/jwks") <= 2


def test_a_new_key_under_the_old_id_locks_nobody_out(calm: Crowd) -> None:
    provider = scripted(calm, "rotation under the same key id", lambda script: None)
    name = name_of("rotation under the same key id")
    with browser() as client:
        assert_is_in(calm.hub, client, calm.log_in(client, name))
    keys({**_renamed("second")}, published=())(provider.script)
    provider.script.sign = lambda _, claims: honest(_as_second(provider), claims, kid="first")
    with browser() as client:
        assert_is_in(calm.hub, client, calm.log_in(client, name))


def _as_second(provider: HostileProvider) -> HostileProvider:
    provider.script.signing_key = "second"
    return provider


def _renamed(name: str) -> dict[str, Any]:
    provider = HostileProvider()
    provider.script.published_keys = (name,)
    return {**provider.jwks()["keys"][0], "kid": "first"}


def test_a_crowd_of_logins_asks_for_discovery_and_keys_once(calm: Crowd) -> None:
    provider = scripted(calm, "rush", lambda script: None)

    def status(_: int) -> int:
        with browser() as client:
            return calm.log_in(client, name_of("rush")).status_code

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(status, range(16))) == [200] * 16
    assert (provider.count(DISCOVERY), provider.count("/jwks")) == (1, 1)


def test_an_issuer_with_a_slash_at_its_end_is_another_issuer(calm: Crowd) -> None:
    provider = scripted(calm, "slash", lambda script: None)
    provider.script.discovery["issuer"] = provider.issuer + "/"
    with browser() as client:
        assert calm.log_in(client, name_of("slash")).status_code == 503
    provider.reset().claims["iss"] = provider.issuer + "/"
    since = len(calm.hub.log)
    with browser() as client:
        answer = calm.log_in(client, name_of("slash"))
        assert_nobody_is_in(calm.hub, client, answer, since)
    assert_reason(calm.hub, answer, "token_issuer", since)


def test_discovery_over_http_is_refused_before_the_hub_starts() -> None:
    fields = {"name": "op", "title": "OP", "client_id": "x", "client_secret_file": "/nowhere"}
    with pytest.raises(ValueError, match="has no TLS"):
        ProviderConfig.model_validate({**fields, "issuer": "http://op.example"})


def test_a_provider_that_announces_its_issuer_must_name_it(calm: Crowd) -> None:
    provider = scripted(calm, "announces", discovery(authorization_response_iss_parameter_supported=True))
    provider.script.response["iss"] = provider.issuer
    with browser() as client:
        assert_is_in(calm.hub, client, calm.log_in(client, name_of("announces")))
    provider.script.response["iss"] = calm.providers[name_of("slash")].issuer
    since = len(calm.hub.log)
    with browser() as client:
        answer = calm.log_in(client, name_of("announces"))
    assert_reason(calm.hub, answer, "response_issuer", since)


def test_a_code_of_one_provider_is_never_sent_to_another(calm: Crowd) -> None:
    """Mix-up: the browser comes back to the redirect address of another provider than it was sent to."""
    honest_one, liar = name_of("happy path RS256"), name_of("client-secret-post")
    calm.providers[honest_one].reset().extra_keys = [public_jwk("RS256", "only")]
    calm.providers[liar].reset()
    since = len(calm.hub.log)
    with browser() as client:
        client.follow_redirects = False
        start = calm.log_in(client, honest_one).headers["location"]
        callback = client.get(start).headers["location"]
        mixed = callback.replace(f"/login/{honest_one}/", f"/login/{liar}/")
        assert mixed != callback
        answer = client.get(mixed)
        assert answer.status_code == 403
        assert login_cookies(client) == set()
    assert_reason(calm.hub, answer, "attempt_missing", since)
    assert calm.providers[liar].count("/token") == 0


def test_a_token_of_one_provider_says_nothing_at_another(calm: Crowd) -> None:
    """The liar sends on a token that the honest provider signed for the same client."""
    other = calm.providers[name_of("announces")]
    provider = scripted(calm, "discovery-jwks-uri-keys", lambda script: None)
    provider.script.claims["iss"] = other.issuer
    since = len(calm.hub.log)
    with browser() as client:
        answer = calm.log_in(client, name_of("discovery-jwks-uri-keys"))
        assert_nobody_is_in(calm.hub, client, answer, since)
    assert_reason(calm.hub, answer, "token_issuer", since)
