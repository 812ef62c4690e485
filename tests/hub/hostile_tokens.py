"""ID tokens that an honest provider would not make, and honest ones of every algorithm."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from hub.hostile_provider import (  # the folder of these tests, not the room
    CLIENT_SECRET,
    HostileProvider,
    Script,
    Signer,
    b64,
    hand_made,
    honest,
    public_pem,
    rsa_key,
)

HEADER = {"alg": "RS256", "typ": "JWT", "kid": "first"}
Change = Callable[[Script], None]
_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


@functools.cache
def private_key(algorithm: str) -> Any:
    """One key per algorithm and test run; RSA keys are those of `rsa_key`."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    return ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else rsa_key("first")


def public_jwk(algorithm: str, kid: str) -> dict[str, Any]:
    """The public half as providers publish it."""
    algorithms = jwt.algorithms
    if algorithm in _CURVES:
        text = algorithms.ECAlgorithm.to_jwk(private_key(algorithm).public_key())
    elif algorithm == "EdDSA":
        text = algorithms.OKPAlgorithm.to_jwk(private_key(algorithm).public_key())
    else:
        text = algorithms.RSAAlgorithm.to_jwk(private_key(algorithm).public_key())
    return {**json.loads(text), "kid": kid, "use": "sig"}


def signed_with(algorithm: str, kid: str) -> Change:
    """A script of an honest provider that signs with another algorithm."""

    def change(script: Script) -> None:
        script.extra_keys = [public_jwk(algorithm, kid)]
        script.published_keys = ()
        script.sign = lambda _, claims: jwt.encode(
            claims, private_key(algorithm), algorithm=algorithm, headers={"kid": kid}
        )

    return change


def with_claims(**claims: Any) -> Change:
    """A script that changes claims of the ID token."""
    return lambda script: script.claims.update(claims)


def shifted(**seconds: float) -> Change:
    """A script that sets instants of the ID token relative to now."""
    return lambda script: script.claims.update(
        {name: int(time.time() + value) for name, value in seconds.items()}
    )


def signed_by(sign: Signer) -> Change:
    """A script that signs in a way of its own."""
    return lambda script: setattr(script, "sign", sign)


def with_header(**header: Any) -> Change:
    """A script that changes the token's header, under a good signature."""
    return signed_by(lambda provider, claims: honest(provider, claims, **header))


def without_key_id(provider: HostileProvider, claims: dict[str, Any]) -> str:
    """A good token whose header names no key."""
    return jwt.encode(claims, rsa_key(provider.script.signing_key), algorithm="RS256")


def made(key: bytes | None, **header: Any) -> Signer:
    """A token by hand: any header, HMAC-SHA256 with a key, or no signature."""
    return lambda _, claims: hand_made({**HEADER, **header}, claims, key)


def another_key(provider: HostileProvider, claims: dict[str, Any]) -> str:
    """Signed by a key that nobody published, under the name of one that is."""
    return jwt.encode(claims, rsa_key("stolen"), algorithm="RS256", headers={"kid": "first"})


def own_key_in_header(name: str) -> Signer:
    """Signed by a key that the token itself brings along, or says where to find."""
    entry = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key("stolen").public_key()))

    def sign(provider: HostileProvider, claims: dict[str, Any]) -> str:
        value: Any = {**entry, "kid": "first"} if name == "jwk" else f"{provider.issuer}/stolen-keys"
        if name == "x5c":
            value = ["MIIB"]
        return jwt.encode(claims, rsa_key("stolen"), algorithm="RS256", headers={"kid": "first", name: value})

    return sign


def broken_signature(provider: HostileProvider, claims: dict[str, Any]) -> str:
    """A good token with one letter of its signature changed."""
    return _one_letter_changed(honest(provider, claims))


def broken_elliptic_signature(provider: HostileProvider, claims: dict[str, Any]) -> str:
    """An ES256 token of a published key with one letter of its signature changed."""
    token = jwt.encode(claims, private_key("ES256"), algorithm="ES256", headers={"kid": "elliptic"})
    return _one_letter_changed(token)


def _one_letter_changed(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{'B' if signature[0] != 'B' else 'C'}{signature[1:]}"


def with_raw_payload(change: Callable[[str], str]) -> Signer:
    """A good signature over a payload whose text was changed before: what no library would write."""

    def sign(provider: HostileProvider, claims: dict[str, Any]) -> str:
        return jwt.PyJWS().encode(
            change(json.dumps(claims)).encode(),
            rsa_key(provider.script.signing_key),
            algorithm="RS256",
            headers={"kid": provider.script.signing_key},
        )

    return sign


def with_raw_header(text: str) -> Signer:
    """A good signature under a header that is this text."""

    def sign(provider: HostileProvider, claims: dict[str, Any]) -> str:
        signed = f"{b64(text.encode())}.{b64(json.dumps(claims).encode())}"
        algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
        return f"{signed}.{b64(algorithm.sign(signed.encode(), rsa_key('first')))}"

    return sign


def symmetric(key: str) -> Signer:
    """HS256 with something that an attacker or the client knows: the classic confusion of algorithms."""
    known = {"public key": public_pem("first"), "client secret": CLIENT_SECRET.encode(), "nothing": b""}
    return made(known[key], alg="HS256")
