"""What a provider says of itself: its discovery document and its signing keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from beamhub_core.config.provider import ProviderConfig
from beamhub_hub.denial import ProviderUnavailable

MAX_KEYS = 64
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16384
"""Shorter keys are too weak (RFC 7518, 3.3); longer ones only make us work."""
_FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}  # RFC 7518, 3.4


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The part of a discovery document that a login needs.

    Source: OpenID Connect Discovery 1.0, section 3; RFC 8414; RFC 9207.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None
    uses_basic_auth: bool
    names_issuer_in_response: bool


def parse_metadata(document: object, provider: ProviderConfig) -> ProviderMetadata:
    """The metadata in a discovery document, if it is this provider's and its endpoints are safe to call.

    Raises
    ------
    ProviderUnavailable
        If the document is another issuer's, lacks an endpoint, or names one without TLS.
    """
    if not isinstance(document, dict):
        raise ProviderUnavailable(provider.name, "discovery document is no JSON object")
    if document.get("issuer") != provider.issuer:
        raise ProviderUnavailable(provider.name, "discovery document speaks for another issuer")
    methods = document.get("token_endpoint_auth_methods_supported")
    return ProviderMetadata(
        issuer=provider.issuer,
        authorization_endpoint=read_endpoint(document, "authorization_endpoint", provider),
        token_endpoint=read_endpoint(document, "token_endpoint", provider),
        userinfo_endpoint=read_endpoint(document, "userinfo_endpoint", provider),
        jwks_uri=read_endpoint(document, "jwks_uri", provider),
        end_session_endpoint=read_endpoint(document, "end_session_endpoint", provider)
        if document.get("end_session_endpoint")
        else None,
        # Basic is the default where nothing is announced (Discovery 1.0, section 3).
        uses_basic_auth=not isinstance(methods, list) or "client_secret_basic" in methods,
        names_issuer_in_response=document.get("authorization_response_iss_parameter_supported") is True,
    )


def read_endpoint(document: Mapping[str, object], name: str, provider: ProviderConfig) -> str:
    """One endpoint of a discovery document; raises `ProviderUnavailable` for one not safe to call."""
    value = document.get(name)
    allowed = ("https", "http") if provider.unsafe_allow_http else ("https",)
    try:
        parts = urlsplit(value) if isinstance(value, str) and len(value) <= 2048 else None
        usable = parts is not None and parts.scheme in allowed and bool(parts.hostname) and not parts.username
    except ValueError:
        usable = False
    if not usable or not isinstance(value, str):
        raise ProviderUnavailable(provider.name, f"{name} is missing or not a safe address")
    return value


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One public key of a provider."""

    kid: str | None
    family: str
    algorithm: str | None
    key: Any  # a public key of the cryptography library, as PyJWT takes it

    def fits(self, algorithm: str) -> bool:
        """Whether the key may verify this algorithm's signatures."""
        if _FAMILIES.get(algorithm[:2]) != self.family or self.algorithm not in (None, algorithm):
            return False
        return self.family != "EC" or self.key.curve.name == _CURVES.get(algorithm)


def parse_keys(document: object) -> tuple[SigningKey, ...]:
    """The usable signing keys of a JWK set; keys that we cannot or must not use are left out.

    Source: RFC 7517. Symmetric keys, encryption keys and RSA keys below 2048 bits are never used.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return ()
    keys = (_signing_key(entry) for entry in entries[:MAX_KEYS] if isinstance(entry, dict))
    return tuple(key for key in keys if key is not None)


def _signing_key(entry: dict[str, Any]) -> SigningKey | None:
    family, kid, algorithm = entry.get("kty"), entry.get("kid"), entry.get("alg")
    if family not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    if not isinstance(kid, str | None) or not isinstance(algorithm, str | None):
        return None
    if "verify" not in _listed(entry.get("key_ops", ["verify"])):  # RFC 7517, 4.3
        return None
    try:
        key = jwt.PyJWK.from_dict(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None  # one key that we cannot read does not spoil the others
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return None
    return SigningKey(kid=kid, family=family, algorithm=algorithm, key=key)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []
