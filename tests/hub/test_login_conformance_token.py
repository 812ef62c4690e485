"""ID tokens beyond the conformance suite: attacks on JOSE, on time, on audience and on JSON itself."""

from __future__ import annotations

import pytest

from hub.conformance_parts import assert_is_in, denied  # the folder of these tests, not the room
from hub.hostile_provider import honest
from hub.hostile_tokens import (
    Change,
    made,
    own_key_in_header,
    shifted,
    signed_by,
    symmetric,
    with_claims,
    with_header,
    with_raw_header,
    with_raw_payload,
)
from hub.hub_parts import RunningHub, browser, log_in

pytestmark = pytest.mark.hub

US = "beamhub test+client"
DENIED: dict[str, tuple[str, Change]] = {
    # -- what signs ---------------------------------------------------------------------------
    "no signature": ("token_signature", signed_by(made(None))),
    "alg none in capitals": ("token_algorithm", signed_by(made(None, alg="NONE"))),
    "alg missing": ("token_algorithm", signed_by(made(None, alg=None))),
    "alg of another type": ("token_algorithm", signed_by(made(None, alg=["RS256"]))),
    "alg not configured": ("token_algorithm", signed_by(made(None, alg="RS512"))),
    "hs256 with the public key": ("token_algorithm", signed_by(symmetric("public key"))),
    "hs256 with the client secret": ("token_algorithm", signed_by(symmetric("client secret"))),
    "hs256 with an empty key": ("token_algorithm", signed_by(symmetric("nothing"))),
    "invalid-sig-hs256 called rs256": ("token_signature", signed_by(made(b"x"))),
    "unknown crit": ("token_header", with_header(crit=["x"], x=1)),
    "empty crit": ("token_header", with_header(crit=[])),
    "unencoded payload": ("token_header", with_header(crit=["b64"], b64=False)),
    "unknown kid": ("token_key", with_header(kid="unknown")),
    "kid of a path": ("token_key", with_header(kid="../../../../dev/null")),
    "kid of sql": ("token_key", with_header(kid="x' OR '1'='1")),
    "jwk in the header": ("token_signature", signed_by(own_key_in_header("jwk"))),
    "jku in the header": ("token_signature", signed_by(own_key_in_header("jku"))),
    "x5u in the header": ("token_signature", signed_by(own_key_in_header("x5u"))),
    "x5c in the header": ("token_signature", signed_by(own_key_in_header("x5c"))),
    "header with a name twice": (
        "token_malformed",
        signed_by(with_raw_header('{"alg": "none", "alg": "RS256", "kid": "first"}')),
    ),
    # -- what it looks like -------------------------------------------------------------------
    "no JWT": ("token_malformed", signed_by(lambda *_: "this is no token at all, only text")),
    "five parts": ("token_malformed", signed_by(lambda p, claims: honest(p, claims) + ".e30.e30")),
    "encrypted": ("token_algorithm", signed_by(made(None, alg="RSA-OAEP", enc="A128GCM"))),
    "oversized token": ("token_too_large", with_claims(padding="x" * 70_000)),
    "payload is a list": ("token_malformed", signed_by(with_raw_payload(lambda _: "[1]"))),
    "payload is no JSON": ("token_malformed", signed_by(with_raw_payload(lambda _: "{'sub': 1}"))),
    "claim given twice": (
        "token_malformed",
        signed_by(with_raw_payload(lambda text: text[:-1] + ', "sub": "oscar"}')),
    ),
    "claim is NaN": ("token_malformed", signed_by(with_raw_payload(lambda text: text[:-1] + ', "x": NaN}'))),
    "claims nested deeply": (
        "token_malformed",
        signed_by(with_raw_payload(lambda text: f'{text[:-1]}, "x": {"[" * 5000}{"]" * 5000}}}')),
    ),
    # -- when ---------------------------------------------------------------------------------
    "expired": ("token_expired", shifted(iat=-1000, exp=-100)),
    "no exp": ("token_times", with_claims(exp=None)),
    "exp is a string": ("token_times", with_claims(exp="9999999999")),
    "exp without end": ("token_times", with_claims(exp=10**400)),
    "nbf in the future": ("token_not_yet_valid", shifted(nbf=9999)),
    "iat far ahead": ("token_not_yet_valid", shifted(iat=9999)),
    # -- for whom -----------------------------------------------------------------------------
    "two audiences and a foreign azp": ("token_audience", with_claims(aud=[US, "x"], azp="x")),
    "two audiences and no azp": ("token_audience", with_claims(aud=[US, "x"])),
    "a foreign azp": ("token_audience", with_claims(azp="x")),
    "ten thousand audiences": (
        "token_audience",
        with_claims(aud=[US, *["x"] * 10_000], azp="x"),
    ),
    "aud is an object": ("token_audience", with_claims(aud={US: True})),
    "aud holds a null": ("token_audience", with_claims(aud=[US, None], azp=US)),
    "aud as part of a word": ("token_audience", with_claims(aud=f"{US}-2")),
    "iss is a list": (
        "token_issuer",
        signed_by(with_raw_payload(lambda text: text.replace('"iss": ', '"iss": ["x"], "was": ', 1))),
    ),
    # -- who ----------------------------------------------------------------------------------
    "sub is empty": ("token_subject", with_claims(sub="")),
    "sub is a number": ("token_subject", with_claims(sub=7)),
    "sub with a line break": (
        "token_subject",
        lambda s: (s.claims.update(sub="a\nb"), s.userinfo.update(sub="a\nb"))[0],
    ),
    "sub of 300 characters": (
        "token_subject",
        lambda s: (s.claims.update(sub="a" * 300), s.userinfo.update(sub="a" * 300))[0],
    ),
    "sub with half a character": (
        "token_subject",
        lambda s: (s.claims.update(sub="\ud800"), s.userinfo.update(sub="\ud800"))[0],
    ),
    "nonce is a list": ("token_nonce", with_claims(nonce=["x"])),
}


@pytest.mark.parametrize("case", DENIED)
def test_a_hostile_token_is_a_403_page_with_a_reference(hub: RunningHub, case: str) -> None:
    code, change = DENIED[case]
    change(hub.provider.script)
    denied(hub, code)
    assert hub.provider.count("/stolen-keys") == 0


def test_several_audiences_with_us_as_the_authorized_party_log_in(hub: RunningHub) -> None:
    hub.provider.script.claims |= {"aud": ["x", US], "azp": US}
    with browser() as client:
        assert_is_in(hub, client, log_in(hub, client))


def test_an_unknown_key_id_asks_for_the_keys_once_and_not_in_a_flood(hub: RunningHub) -> None:
    with_header(kid="forged")(hub.provider.script)
    for _ in range(5):
        denied(hub, "token_key")
        hub.web.notices.clear()
    assert hub.provider.count("/jwks") <= 2  # the keys, if nobody asked before, and one look for new ones
