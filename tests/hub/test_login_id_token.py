"""An ID token is the provider's answer to our question, or it is denied with the rule that it breaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.provider import ProviderConfig
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.id_token import (
    MAX_TOKEN_BYTES,
    Expected,
    TokenHeader,
    check_access_token_hash,
    check_claims,
    choose_key,
    read_header,
    read_verified,
)
from beamhub_hub.provider_metadata import parse_keys, parse_metadata
from hub.hostile_provider import b64, hand_made, public_pem, rsa_key  # the tests' folder

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
EXPECTED = Expected(issuer="https://op.example", client_id="beamhub", nonce="n-1", now=NOW, leeway_s=60)
GOOD: dict[str, Any] = {
    "iss": "https://op.example",
    "sub": "ines",
    "aud": "beamhub",
    "iat": T,
    "exp": T + 300,
    "nonce": "n-1",
}


def jwk(name: str, **changes: Any) -> dict[str, Any]:
    """A public key as providers publish it."""
    key: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(name).public_key()))
    return {**key, "kid": name, **changes}


KEYS = parse_keys({"keys": [jwk("first"), jwk("second")]})


def verify(token: str) -> dict[str, object]:
    """All the rules, as a login applies them."""
    header = read_header(token, ("RS256", "ES256"))
    key = choose_key(header, KEYS)
    if key is None:
        raise LoginDenied("token_key")
    claims = read_verified(token, header, key)
    check_claims(claims, EXPECTED)
    return claims


def signed(claims: dict[str, Any], key: str = "first", **headers: Any) -> str:
    """A token with a good signature."""
    return jwt.encode(claims, rsa_key(key), algorithm="RS256", headers={"kid": key, **headers})


def denial(token: str) -> str:
    """The code with which a token is denied."""
    with pytest.raises(LoginDenied) as caught:
        verify(token)
    assert not token or token[:30] not in str(caught.value)
    return caught.value.code


def test_a_good_token_is_read() -> None:
    assert verify(signed(GOOD)) == GOOD


def test_a_token_is_good_up_to_the_leeway_and_no_further() -> None:
    assert verify(signed({**GOOD, "exp": T - 59, "iat": T - 359}))
    assert denial(signed({**GOOD, "exp": T - 60, "iat": T - 360})) == "token_expired"
    assert verify(signed({**GOOD, "iat": T + 60, "nbf": T + 60}))
    assert denial(signed({**GOOD, "nbf": T + 61})) == "token_not_yet_valid"
    assert denial(signed({**GOOD, "iat": T + 61})) == "token_not_yet_valid"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"iss": "https://op.example/"}, "token_issuer"),
        ({"iss": ["https://op.example"]}, "token_issuer"),
        ({"aud": "other"}, "token_audience"),
        ({"aud": "xbeamhubx"}, "token_audience"),
        ({"aud": {"beamhub": 1}}, "token_audience"),
        ({"aud": [["beamhub"]]}, "token_audience"),
        ({"aud": ["beamhub", "other"]}, "token_audience"),
        ({"aud": ["beamhub", "other"], "azp": "other"}, "token_audience"),
        ({"azp": "other"}, "token_audience"),
        ({"exp": None}, "token_times"),
        ({"exp": str(T + 9)}, "token_times"),
        ({"exp": True}, "token_times"),
        ({"exp": 10**400}, "token_times"),
        ({"iat": None}, "token_times"),
        ({"nbf": "soon"}, "token_times"),
        ({"nonce": "n-2"}, "token_nonce"),
        ({"nonce": None}, "token_nonce"),
        ({"nonce": ["n-1"]}, "token_nonce"),
        ({"nonce": "\ud800"}, "token_nonce"),
        ({"sub": None}, "token_subject"),
        ({"sub": ""}, "token_subject"),
        ({"sub": 7}, "token_subject"),
    ],
)
def test_each_rule_has_its_own_denial(change: dict[str, Any], code: str) -> None:
    claims = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(LoginDenied) as caught:
        check_claims(claims, EXPECTED)
    assert caught.value.code == code


@pytest.mark.parametrize("name", sorted(GOOD))
def test_every_claim_of_the_answer_is_required(name: str) -> None:
    with pytest.raises(LoginDenied):  # which code it is stands above
        check_claims({key: value for key, value in GOOD.items() if key != name}, EXPECTED)


def test_several_audiences_need_us_as_the_authorized_party() -> None:
    check_claims({**GOOD, "aud": ["other", "beamhub"], "azp": "beamhub"}, EXPECTED)


def with_payload(body: str) -> str:
    """A token whose signature is good and whose payload no library would write."""
    head = b64(json.dumps({"alg": "RS256", "kid": "first"}).encode())
    unsigned = f"{head}.{b64(body.encode())}"
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(
        unsigned.encode(), rsa_key("first")
    )
    return f"{unsigned}.{b64(signature)}"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_not_a_number_is_no_json(number: str) -> None:
    assert denial(with_payload(json.dumps(GOOD)[:-1] + f', "x": {number}}}')) == "token_malformed"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(GOOD)[:-1] + ', "sub": "oscar"}',
        json.dumps(GOOD)[:-1] + ', "s\\u0075b": "oscar"}',
        json.dumps(GOOD)[:-1] + ', "x": {"y": 1, "y": 2}}',
    ],
)
def test_a_claim_given_twice_is_denied(body: str) -> None:
    assert denial(with_payload(body)) == "token_malformed"


def test_a_header_that_names_its_algorithm_twice_is_denied() -> None:
    head = b64(b'{"alg": "none", "alg": "RS256", "kid": "first"}')
    assert denial(f"{head}.{b64(json.dumps(GOOD).encode())}.AAAA") == "token_malformed"


HEADER = {"alg": "RS256", "typ": "JWT", "kid": "first"}


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (hand_made({**HEADER, "alg": "none"}, GOOD, None), "token_algorithm"),
        (hand_made({**HEADER, "alg": "NONE"}, GOOD, None), "token_algorithm"),
        (hand_made({"typ": "JWT"}, GOOD, None), "token_algorithm"),
        (hand_made({**HEADER, "alg": ["RS256"]}, GOOD, None), "token_algorithm"),
        (hand_made({**HEADER, "alg": "HS256"}, GOOD, public_pem("first")), "token_algorithm"),
        (hand_made(HEADER, GOOD, public_pem("first")), "token_signature"),
        (hand_made(HEADER, GOOD, None), "token_signature"),
        (hand_made({**HEADER, "kid": 7}, GOOD, None), "token_header"),
        (signed(GOOD, crit=["exp"]), "token_header"),
        (signed(GOOD, kid="unknown"), "token_key"),
        (signed(GOOD, kid="second"), "token_signature"),
        (hand_made({**HEADER, "alg": "ES256"}, GOOD, None), "token_key"),
        ("", "token_malformed"),
        ("a.b.c", "token_malformed"),
        ("…", "token_malformed"),
        ("[]", "token_malformed"),
        (b64(b"[]") + ".e30.", "token_malformed"),
        (b64(b"[" * 20_000) + ".e30.", "token_malformed"),
        ("a" * (MAX_TOKEN_BYTES + 1), "token_too_large"),
    ],
)
def test_a_token_that_nobody_may_trust_is_denied(token: str, code: str) -> None:
    assert denial(token) == code


def test_a_key_or_address_in_the_token_is_never_looked_at() -> None:
    own = jwk("evil")
    token = jwt.encode(
        GOOD, rsa_key("evil"), algorithm="RS256", headers={"kid": "first", "jwk": own, "jku": "http://evil"}
    )
    assert denial(token) == "token_signature"


def test_a_payload_that_is_no_object_is_denied() -> None:
    body = b"[" * 30_000
    token = jwt.PyJWS().encode(body, rsa_key("first"), algorithm="RS256", headers={"kid": "first"})
    assert denial(token) == "token_malformed"


@given(st.text(max_size=200) | st.text("abcdefgXYZ012_-.=", max_size=200))
def test_no_text_gets_through_or_raises_something_else(token: str) -> None:
    with pytest.raises(LoginDenied):  # any code: the text is arbitrary
        verify(token)


@given(st.data())
def test_a_token_with_any_bytes_changed_is_denied(data: st.DataObject) -> None:
    token = signed(GOOD)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCabc019_-."))
    changed = token[:place] + letter + token[place + 1 :]
    # The last letter of base64url holds unused bits: some changes there change no byte.
    if changed.rstrip("ABCabc019_-") == token.rstrip("ABCabc019_-") and place == len(token) - 1:
        return
    if changed != token:
        with pytest.raises(LoginDenied):  # header, payload or signature, as it hits
            verify(changed)


def test_a_token_without_a_key_id_needs_a_single_key() -> None:
    header = TokenHeader("RS256", None)
    assert choose_key(header, KEYS) is None
    assert choose_key(header, KEYS[:1]) == KEYS[0]


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": b64(b"secret"), "kid": "first"},
        jwk("first", use="enc"),
        jwk("first", key_ops=["encrypt"]),
        jwk("first", key_ops="verify"),
        jwk("first", n=b64(b"\xff" * 4096)),
        jwk("first", kid=7),
        jwk("first", n="!"),
        {"kty": "RSA"},
        {"kty": "EC", "crv": "P-0", "x": "", "y": ""},
        "text",
        None,
        [],
    ],
)
def test_an_unusable_key_is_left_out_and_the_others_stay(entry: object) -> None:
    assert [key.kid for key in parse_keys({"keys": [entry, jwk("second")]})] == ["second"]


def test_a_short_rsa_key_is_never_used() -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # what must be refused
    assert parse_keys({"keys": [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(short.public_key()))]}) == ()


def test_an_elliptic_key_signs_its_own_algorithm_only() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    (key,) = parse_keys({"keys": [json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key()))]})
    assert key.fits("ES256")
    assert not key.fits("RS256")
    assert not key.fits("ES384"), "a curve belongs to one algorithm (RFC 7518, 3.4)"


@pytest.mark.parametrize("document", [None, [], {"keys": None}, {"keys": {}}, {}, "x", 7])
def test_a_key_set_without_sense_holds_no_keys(document: object) -> None:
    assert parse_keys(document) == ()


def test_the_hash_of_another_access_token_is_denied() -> None:
    header = TokenHeader("RS256", None)
    # Source: OpenID Connect Core 1.0, appendix A.3: this access token has this at_hash.
    ours = {"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"}
    check_access_token_hash(ours, header, "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y")
    with pytest.raises(LoginDenied, match="token_hash"):
        check_access_token_hash(ours, header, "another")


PROVIDER = ProviderConfig.model_validate(
    {
        "name": "op",
        "title": "OP",
        "issuer": "https://op.example",
        "client_id": "beamhub",
        "client_secret_file": "/nowhere",
    }
)
DISCOVERY: dict[str, Any] = {
    "issuer": "https://op.example",
    "authorization_endpoint": "https://op.example/a",
    "token_endpoint": "https://op.example/t",
    "userinfo_endpoint": "https://op.example/u",
    "jwks_uri": "https://keys.example/k",
}


def test_a_discovery_document_is_read() -> None:
    metadata = parse_metadata(DISCOVERY, PROVIDER)
    assert metadata.uses_basic_auth
    assert metadata.end_session_endpoint is None


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "http://op.example/t"},
        {"token_endpoint": "file:///etc/passwd"},
        {"token_endpoint": "https://user@op.example/t"},
        {"token_endpoint": "https://[bad/t"},
        {"token_endpoint": 7},
        {"jwks_uri": None},
        {"end_session_endpoint": "javascript:alert(1)"},
    ],
)
def test_a_discovery_document_that_is_not_safe_is_not_used(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        parse_metadata({**DISCOVERY, **change}, PROVIDER)
    assert caught.value.provider == "op"
