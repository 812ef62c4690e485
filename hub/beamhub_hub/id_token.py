"""Is this ID token the provider's answer to our question? Every rule, with a code for each fault."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import jwt

from beamhub_hub.denial import LoginDenied
from beamhub_hub.provider_metadata import SigningKey
from beamhub_hub.strict_json import read_strict_json

MAX_TOKEN_BYTES = 64 * 1024
_LAST_INSTANT = 1e12  # seconds since 1970
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


@dataclass(frozen=True, slots=True)
class TokenHeader:
    """What the header of an unverified token says; it chooses a key and nothing else."""

    algorithm: str
    kid: str | None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say to be the answer to one request."""

    issuer: str
    client_id: str
    nonce: str | None
    """None only in a refresh, where providers leave it out (OpenID Connect Core 1.0, 12.2)."""
    now: datetime
    leeway_s: float


def read_header(token: str, algorithms: tuple[str, ...]) -> TokenHeader:
    """The header, before anything is trusted.

    Addresses and keys inside a token (`jku`, `jwk`, `x5u`) are never looked at, and a critical
    extension is refused, because we understand none (RFC 7515, 4.1.11).

    Raises
    ------
    LoginDenied
        If the token is too large or malformed, or its algorithm is not in the list.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise LoginDenied("token_too_large")
    try:
        padded = token.partition(".")[0].encode("ascii") + b"=="
        header = read_strict_json(base64.urlsafe_b64decode(padded))
    except ValueError:
        raise LoginDenied("token_malformed", "header") from None
    if not isinstance(header, dict):
        raise LoginDenied("token_malformed", "header")
    if header.get("alg") not in algorithms:
        raise LoginDenied("token_algorithm")
    if "crit" in header or not isinstance(header.get("kid"), str | None):
        raise LoginDenied("token_header")
    return TokenHeader(algorithm=header["alg"], kid=header.get("kid"))


def choose_key(header: TokenHeader, keys: tuple[SigningKey, ...]) -> SigningKey | None:
    """The one key that may have signed the token; None where the answer is not certain."""
    fitting = [key for key in keys if key.fits(header.algorithm)]
    if header.kid is not None:
        fitting = [key for key in fitting if key.kid == header.kid]
    return fitting[0] if len(fitting) == 1 else None


def read_verified(token: str, header: TokenHeader, key: SigningKey) -> dict[str, object]:
    """The claims of a token whose signature this key made.

    Raises
    ------
    LoginDenied
        If the signature is not the key's, or what it covers is no JSON object.
    """
    try:
        verified = jwt.PyJWS().decode_complete(token, key.key, algorithms=[header.algorithm])
    except jwt.InvalidSignatureError:
        raise LoginDenied("token_signature") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise LoginDenied("token_malformed") from None
    try:
        claims = read_strict_json(verified["payload"])
    except ValueError:
        raise LoginDenied("token_malformed", "payload") from None
    if not isinstance(claims, dict):
        raise LoginDenied("token_malformed", "payload")
    return claims


def check_claims(claims: Mapping[str, object], expected: Expected) -> None:
    """Nothing when the claims answer our request now. Source: OpenID Connect Core 1.0, 3.1.3.7.

    Raises
    ------
    LoginDenied
        With the code of the first rule that the claims break.
    """
    if claims.get("iss") != expected.issuer:
        raise LoginDenied("token_issuer")
    _check_audience(claims, expected.client_id)
    _check_times(claims, expected.now.timestamp(), expected.leeway_s)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise LoginDenied("token_subject")
    if expected.nonce is not None and claims.get("nonce") != expected.nonce:
        raise LoginDenied("token_nonce")


def _check_audience(claims: Mapping[str, object], client_id: str) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(item, str) for item in audiences):
        raise LoginDenied("token_audience")
    if client_id not in audiences:
        raise LoginDenied("token_audience")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != client_id:
        raise LoginDenied("token_audience", "azp")


def _check_times(claims: Mapping[str, object], now: float, leeway_s: float) -> None:
    expires, issued = _instant(claims, "exp"), _instant(claims, "iat")
    if now >= expires + leeway_s:
        raise LoginDenied("token_expired")
    not_before = _instant(claims, "nbf") if "nbf" in claims else issued
    if now < max(issued, not_before) - leeway_s:
        raise LoginDenied("token_not_yet_valid")


def _instant(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    # The range also keeps out NaN, infinities and integers too long for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LAST_INSTANT:
        raise LoginDenied("token_times", f"claim {name!r}")
    return value


def check_access_token_hash(claims: Mapping[str, object], header: TokenHeader, access_token: str) -> None:
    """Nothing when the token's `at_hash`, if it has one, is the access token's.

    Source: OpenID Connect Core 1.0, 3.1.3.6. EdDSA names no hash, so there it is not compared.

    Raises
    ------
    LoginDenied
        If it is another token's.
    """
    digest = _HASHES.get(header.algorithm[-3:])
    if "at_hash" not in claims or digest is None:
        return
    half = digest(access_token.encode()).digest()
    ours = base64.urlsafe_b64encode(half[: len(half) // 2]).rstrip(b"=").decode()
    if claims["at_hash"] != ours:
        raise LoginDenied("token_hash")
