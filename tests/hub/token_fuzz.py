"""ID tokens that somebody tampered with, and a second opinion on each: honest content alone is admitted."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from beamhub_hub.denial import LoginDenied
from beamhub_hub.id_token import Expected, check_claims, choose_key, read_header, read_verified
from beamhub_hub.provider_metadata import SigningKey, parse_keys
from hub.hostile_provider import (
    b64,
    hand_made,
    public_pem,
    rsa_key,
)  # the folder of these tests, not the room

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
EXPECTED = Expected(issuer="https://op.example", client_id="beamhub", nonce="n-1", now=NOW, leeway_s=60)
ALGORITHMS = ("RS256", "ES256")
GOOD = {
    "iss": "https://op.example",
    "sub": "ines",
    "aud": "beamhub",
    "iat": T,
    "exp": T + 300,
    "nonce": "n-1",
}
WRONG: dict[str, tuple[Any, ...]] = {
    "iss": ("https://op.example/", "https://evil.example", None, ["https://op.example"]),
    "sub": ("", None, 7, ["ines"]),
    "aud": ("other", ["beamhub", "other"], [], None, {"beamhub": 1}),
    "iat": (T + 61, None, str(T), True, 10**400),
    "exp": (T - 60, 0, None, str(T + 300), float("nan"), True),
    "nonce": ("n-2", None, ["n-1"], "N-1", ""),
}


@functools.cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """The provider's second kind of key."""
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def keys() -> tuple[SigningKey, ...]:
    """What the provider publishes: two RSA keys and an elliptic one; 'evil' and 'old' are not among them."""
    published = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(name).public_key())), "kid": name}
        for name in ("first", "second")
    ]
    elliptic = {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec_key().public_key())), "kid": "curve"}
    return parse_keys({"keys": [*published, elliptic]})


@dataclass(frozen=True, slots=True)
class TokenCase:
    """A token, and whether its maker is honest: the provider itself, with the content that we asked for."""

    token: str
    is_untouched: bool

    def judge(self) -> dict[str, object] | str:
        """The claims, or the code of the denial, as a login finds them; anything else raised ends the run."""
        try:
            header = read_header(self.token, ALGORITHMS)
            key = choose_key(header, keys())
            if key is None:
                raise LoginDenied("token_key")
            claims = read_verified(self.token, header, key)
            check_claims(claims, EXPECTED)
        except LoginDenied as denied:
            return denied.code
        return claims

    def fault_of(self, found: dict[str, object] | str) -> str | None:
        """How an outcome differs from the second opinion; None for not at all."""
        if isinstance(found, str):
            return f"denied as {found}" if self.is_untouched else None
        return None if found == GOOD and is_signed_by_provider(self.token) else "admitted"


def is_signed_by_provider(token: str) -> bool:
    """Whether one of the provider's keys made the signature, found without any JOSE library."""
    signed, _, end = token.rpartition(".")
    try:
        signature = base64.urlsafe_b64decode(end.encode("ascii") + b"==")
    except (UnicodeEncodeError, binascii.Error):
        return False
    message = signed.encode()
    for name in ("first", "second"):
        try:
            rsa_key(name).public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            continue
        return True
    half = len(signature) // 2
    pair = (int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
    try:
        ec_key().public_key().verify(encode_dss_signature(*pair), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def honest(claims: dict[str, Any] | bytes, rng: random.Random, **header: Any) -> str:
    """A token that the provider signed."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    kid = rng.choice(("first", "second", "curve"))
    key, algorithm = (ec_key(), "ES256") if kid == "curve" else (rsa_key(kid), "RS256")
    return jwt.PyJWS().encode(payload, key, algorithm=algorithm, headers={"kid": kid, **header})


def _flipped(rng: random.Random) -> str:
    """Some bits of the token's text turned."""
    text = bytearray(honest(GOOD, rng).encode())
    for _ in range(rng.choice((1, 1, 2, 5))):
        text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
    return text.decode("latin-1")


def _letters(rng: random.Random) -> str:
    """One letter changed, put in, or taken out."""
    token = honest(GOOD, rng)
    place = rng.randrange(len(token))
    return (
        token[:place]
        + rng.choice(("", "A", "=", ".", "-", " ", "\n", "é"))
        + token[place + rng.randrange(2) :]
    )


def _swapped_header(rng: random.Random) -> str:
    """Another header before an honest content and signature."""
    _, content, signature = honest(GOOD, rng).split(".")
    header: dict[str, Any] = {
        "alg": rng.choice(("RS256", "ES256", "none", "HS256", "RS512", "PS256", "rs256", None))
    }
    header |= rng.choice(
        ({}, {"kid": "first"}, {"kid": "curve"}, {"kid": "../first"}, {"kid": 7}, {"crit": ["x"]})
    )
    return f"{b64(json.dumps(header).encode())}.{content}.{rng.choice((signature, '', b64(b'x' * 256)))}"


def _forged(rng: random.Random) -> str:
    """Signed by somebody else: no key, the public key as a secret, or a key that the header brings along."""
    claims = GOOD | {"sub": "admin"} if rng.random() < 0.5 else GOOD
    kid = rng.choice(("first", "second", "curve", "evil", None))
    header: dict[str, Any] = {"kid": kid} if kid else {}
    own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key("evil").public_key()))
    kind = rng.randrange(5)
    if kind == 0:
        return hand_made({"alg": rng.choice(("none", "None", "nOnE", "")), **header}, claims, None)
    if kind == 1:
        secret = rng.choice((public_pem("first"), public_pem("first").strip(), b"", b"beamhub"))
        return hand_made({"alg": rng.choice(("HS256", "RS256")), **header}, claims, secret)
    if kind == 2:
        header |= rng.choice(
            ({"jwk": own}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://evil.example"})
        )
    algorithm = rng.choice(("RS256", "RS256", "RS512", "PS256"))
    return jwt.encode(claims, rsa_key(rng.choice(("evil", "old"))), algorithm=algorithm, headers=header)


def _other_algorithm(rng: random.Random) -> str:
    """Signed by the provider's own key with an algorithm that is not accepted."""
    return jwt.encode(
        GOOD, rsa_key("first"), algorithm=rng.choice(("RS384", "RS512", "PS256")), headers={"kid": "first"}
    )


def _wrong_content(rng: random.Random) -> str:
    """Signed by the provider, and not the answer to our request."""
    name = rng.choice(sorted(WRONG))
    value = rng.choice(WRONG[name])
    return honest({key: one for key, one in (GOOD | {name: value}).items() if one is not None}, rng)


def _segments(rng: random.Random) -> str:
    """Segments of two tokens mixed, doubled or gone; the other one answers somebody else's request."""
    one, other = honest(GOOD, rng).split("."), honest(GOOD | {"sub": "admin", "nonce": "n-2"}, rng).split(".")
    parts = [rng.choice((one, other))[i] for i in range(3)]
    change = rng.randrange(6)
    if change == 0:
        parts.append(rng.choice(one))
    elif change == 1:
        parts.pop(rng.randrange(3))
    elif change == 2:
        parts[rng.randrange(3)] = ""
    elif change == 3:
        parts[rng.randrange(3)] += rng.choice(("=", "==", "\n", "A" * 70_000, "\x00"))
    elif change == 4:
        rng.shuffle(parts)
    return ".".join(parts)


def _doubled_names(rng: random.Random) -> str:
    """A content that says a claim twice: the last one counts (RFC 7519, section 4), whoever signed it."""
    name = rng.choice(sorted(GOOD))
    wrong = json.dumps({name: rng.choice(WRONG[name])})[1:-1]
    good = json.dumps(GOOD)[1:-1]
    content = rng.choice((f"{{{wrong}, {good}}}", f"{{{good}, {wrong}}}")).encode()
    if rng.random() < 0.5:
        return honest(content, rng)
    head, _, signature = honest(GOOD, rng).split(".")
    return f"{head}.{b64(content)}.{signature}"


def _no_object(rng: random.Random) -> str:
    """Signed by the provider, and no object of claims."""
    whole = (b"", b"null", b"[]", b'"ines"', b"{", b"\xff", b"[" * 2000, b"{" + b'"a":{' * 2000, b"1" * 5000)
    return honest(rng.choice(whole), rng)


CHANGES: tuple[Callable[[random.Random], str], ...] = (
    _flipped,
    _letters,
    _swapped_header,
    _forged,
    _other_algorithm,
    _wrong_content,
    _segments,
    _doubled_names,
    _no_object,
)


def token_case(rng: random.Random) -> TokenCase:
    """A token; one in twenty was not touched, so that a login that denies everybody is seen too."""
    if rng.random() < 0.05:
        return TokenCase(honest(GOOD, rng), is_untouched=True)
    return TokenCase(rng.choice(CHANGES)(rng), is_untouched=False)
