"""What a provider says of itself, beside what the configuration asks of it: pure, one finding a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from beamhub_core.config.provider import ProviderConfig
from beamhub_hub.denial import ProviderUnavailable
from beamhub_hub.provider_metadata import MIN_RSA_BITS, SigningKey, parse_keys, read_endpoint
from beamhub_hub.token_exchange import EXCHANGE

Verdict = Literal["ok", "warn", "fail"]
SKEW_WARN_S, SKEW_FAIL_S = 30.0, 60.0
"""Clocks further apart than the second let tokens be refused with the default `leeway_s`."""
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
_MAX_NAMED, _MAX_TEXT = 12, 160
Document = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `fail` keeps people out, `warn` takes something away or cannot be seen from outside."""

    subject: str
    verdict: Verdict
    text: str


def findings(document: object, provider: ProviderConfig) -> tuple[Finding, ...]:
    """What a discovery document promises of everything that a login here needs or can use.

    Source: OpenID Connect Discovery 1.0, section 3; RFC 8414; the specifications named at each line.
    """
    if not isinstance(document, Mapping):
        return (Finding("discovery", "fail", "The discovery document is no JSON object."),)
    return tuple(finding for look in _LOOKS for finding in look(document, provider))


def strings(document: Document, name: str) -> frozenset[str] | None:
    """The strings in a list of the document; None where it holds no such list."""
    value = document.get(name)
    if not isinstance(value, list):
        return None
    return frozenset(item for item in value if isinstance(item, str))


def shown(words: Iterable[str]) -> str:
    """Words of somebody else's document on one line of ours: bounded, and without control characters."""
    chosen = sorted(words)
    named = ["".join(c if c.isprintable() else "?" for c in word[:_MAX_TEXT]) for word in chosen[:_MAX_NAMED]]
    more = f" and {len(chosen) - _MAX_NAMED} more" if len(chosen) > _MAX_NAMED else ""
    return (", ".join(named) or "none") + more


def _issuer(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    said = document.get("issuer")
    if said == provider.issuer:
        yield Finding("issuer", "ok", f"{said}")
    elif isinstance(said, str) and said.rstrip("/") == provider.issuer.rstrip("/"):
        yield Finding(
            "issuer",
            "fail",
            f"The provider writes {shown([said])!r}: take its last slash, or leave it out, as it does.",
        )
    else:
        word = shown([said]) if isinstance(said, str) else "none"
        yield Finding("issuer", "fail", f"The document speaks for another issuer: {word}.")
    if provider.issuer.startswith("https://"):
        yield Finding("transport", "ok", "TLS")
    else:
        yield Finding(
            "transport", "warn", "No TLS ('unsafe_allow_http'): for loopback and test networks only."
        )


def _endpoints(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    for name in _ENDPOINTS:
        try:
            yield Finding(name, "ok", shown([read_endpoint(document, name, provider)]))
        except ProviderUnavailable as error:
            yield Finding(name, "fail", f"The {error.reason}.")


def _code_flow(document: Document, _: ProviderConfig) -> Iterator[Finding]:
    responses = strings(document, "response_types_supported")
    grants = strings(document, "grant_types_supported")
    if responses is not None and "code" not in responses:
        yield Finding("code flow", "fail", f"Not offered; offered: {shown(responses)}.")
    elif grants is not None and "authorization_code" not in grants:
        yield Finding("code flow", "fail", f"No grant for it; offered: {shown(grants)}.")
    elif responses is None:
        yield Finding("code flow", "warn", "The document does not say which response types there are.")
    else:
        yield Finding("code flow", "ok", "response type 'code'")


def _pkce(document: Document, _: ProviderConfig) -> Iterator[Finding]:
    methods = strings(document, "code_challenge_methods_supported")
    if methods is None:
        text = "Not announced. We send S256 always (RFC 7636); ask the operator whether it is checked."
        yield Finding("PKCE", "warn", text)
    elif "S256" in methods:
        yield Finding("PKCE", "ok", "S256")
    else:
        yield Finding("PKCE", "fail", f"S256 is not offered; offered: {shown(methods)}.")


def _algorithms(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    offered = strings(document, "id_token_signing_alg_values_supported")
    both = None if offered is None else offered & set(provider.algorithms)
    if both is None:
        text = f"Not announced. We accept: {shown(provider.algorithms)}."
        yield Finding("signing algorithms", "warn", text)
    elif both:
        yield Finding("signing algorithms", "ok", shown(both))
    else:
        text = f"None in common. Offered: {shown(offered or ())}; accepted: {shown(provider.algorithms)}."
        yield Finding("signing algorithms", "fail", text)


def _client_authentication(document: Document, _: ProviderConfig) -> Iterator[Finding]:
    methods = strings(document, "token_endpoint_auth_methods_supported")
    if methods is None or "client_secret_basic" in methods:
        said = "client_secret_basic" + ("" if methods else " (the default; nothing is announced)")
        yield Finding("client authentication", "ok", said)
    elif "client_secret_post" in methods:
        yield Finding("client authentication", "ok", "client_secret_post")
    else:
        text = f"Neither client_secret_basic nor client_secret_post; offered: {shown(methods)}."
        yield Finding("client authentication", "fail", text)


def _scopes(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    offered = strings(document, "scopes_supported")
    if offered is None:
        yield Finding("scopes", "warn", f"Not announced. We ask for: {shown(provider.scopes)}.")
    elif missing := set(provider.scopes) - offered:
        text = f"Asked for, not announced: {shown(missing)}. Some providers refuse unknown scopes."
        yield Finding("scopes", "warn", text)
    else:
        yield Finding("scopes", "ok", shown(provider.scopes))


def needed_claims(provider: ProviderConfig) -> tuple[str, ...]:
    """The claims without which a rule of the configuration denies logins, or gives no rights."""
    names = provider.claims
    needed = set(provider.required_claims)
    if provider.id_scopes:
        needed.add(names.identifiers[0])
    if provider.required_assurance:
        needed.add(names.assurance)
    if provider.home_organisations:
        needed.add(names.home_organisation)
    return tuple(sorted(needed - {"sub"}))


def _claims(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    offered = strings(document, "claims_supported")
    needed = needed_claims(provider)
    if offered is None:
        yield Finding("claims", "warn", f"Not announced. Needed here: {shown(needed)}.")
        return
    if missing := set(needed) - offered:
        text = (
            f"Needed here, not announced: {shown(missing)}. Many providers announce a part only: try a login."
        )
        yield Finding("claims", "warn", text)
    else:
        yield Finding("claims", "ok", f"needed here: {shown(needed)}")
    names = set(provider.claims.entitlements)
    if not provider.is_identity_only:
        found = names & offered
        text = shown(found) if found else f"None of {shown(names)} is announced: try a login."
        yield Finding("entitlements", "ok" if found else "warn", text)


def _rules(_: Document, provider: ProviderConfig) -> Iterator[Finding]:
    if not provider.is_identity_only and not provider.entitlement_namespaces:
        text = "'entitlement_namespaces' is empty: no group of this provider gives a right here."
        yield Finding("namespaces", "warn", text)
    if not provider.id_scopes:
        text = "'id_scopes' is empty: an identifier with any scope is taken (AARC-G026 wants a list)."
        yield Finding("identifier scopes", "warn", text)
    if provider.preset == "oidc" and "/realms/" in provider.issuer:
        text = "This address looks like Keycloak's: 'preset: keycloak' sends its name of the hint."
        yield Finding("preset", "warn", text)


def _strength(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    needed, offered = set(provider.acr_values), strings(document, "acr_values_supported")
    by_claims = document.get("claims_parameter_supported") is True
    if not needed:
        yield Finding("authentication context", "ok", f"none needed; offered: {shown(offered or ())}")
    elif offered is None:
        text = f"Not announced. Every login needs one of: {shown(needed)}."
        yield Finding("authentication context", "warn", text)
    elif needed & offered:
        yield Finding("authentication context", "ok", shown(needed & offered))
    else:
        text = f"Every login needs one of {shown(needed)}; offered: {shown(offered)}. Nobody could log in."
        yield Finding("authentication context", "fail", text)
    said = (
        "supported"
        if by_claims
        else "Not announced: an acr can be asked for as a wish only; we check the answer."
    )
    yield Finding("claims parameter", "ok" if by_claims or not needed else "warn", said)


def _issuer_in_response(document: Document, _: ProviderConfig) -> Iterator[Finding]:
    if document.get("authorization_response_iss_parameter_supported") is True:
        yield Finding("issuer in the response", "ok", "announced, and demanded here (RFC 9207)")
    else:
        text = "Not announced (RFC 9207); the redirect address of its own protects against mix-up."
        yield Finding("issuer in the response", "warn", text)


def _refresh(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    grants = strings(document, "grant_types_supported")
    asks = "offline_access" in provider.scopes
    if grants is not None and "refresh_token" in grants:
        offers = "offline_access" in (strings(document, "scopes_supported") or ())
        hint = " ('offline_access' is offered and not asked for)" if offers and not asks else ""
        yield Finding("refresh", "ok", f"grant offered{hint}")
    else:
        text = (
            "The grant is not announced. Without refresh tokens a login ends with its access token and the "
            "time of grace."
        )
        yield Finding("refresh", "warn", text)


def _logout(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    if document.get("backchannel_logout_supported") is not True:
        text = "Not announced: a logout there ends the login here at the next refresh only."
        yield Finding("back-channel logout", "warn", text)
    elif document.get("backchannel_logout_session_supported") is not True:
        text = "Without session ids: a logout there ends all of the person's logins here."
        yield Finding("back-channel logout", "warn", text)
    else:
        yield Finding("back-channel logout", "ok", "with session ids")
    if not document.get("end_session_endpoint"):
        text = "No end_session_endpoint: logging out here leaves the provider's session open."
        yield Finding("logout", "warn", text)
        return
    try:
        yield Finding("logout", "ok", shown([read_endpoint(document, "end_session_endpoint", provider)]))
    except ProviderUnavailable as error:
        yield Finding("logout", "fail", f"The {error.reason}.")


def _exchange(document: Document, provider: ProviderConfig) -> Iterator[Finding]:
    is_offered = EXCHANGE in (strings(document, "grant_types_supported") or ())
    if is_offered or not provider.exchange_audiences:
        yield Finding("token exchange", "ok", "offered" if is_offered else "not offered, and not used here")
    else:
        text = (
            f"Not announced, but 'exchange_audiences' names {shown(provider.exchange_audiences)} (RFC 8693)."
        )
        yield Finding("token exchange", "warn", text)


_LOOKS: tuple[Callable[[Document, ProviderConfig], Iterator[Finding]], ...] = (
    _issuer,
    _endpoints,
    _code_flow,
    _pkce,
    _algorithms,
    _client_authentication,
    _scopes,
    _claims,
    _rules,
    _strength,
    _issuer_in_response,
    _refresh,
    _logout,
    _exchange,
)


def key_findings(document: object, provider: ProviderConfig) -> Finding:
    """How many keys of a key set can verify an ID token here. Source: RFC 7517."""
    entries = document.get("keys") if isinstance(document, Mapping) else None
    published = len(entries) if isinstance(entries, list) else 0
    usable = [key for key in parse_keys(document) if _serves(key, provider)]
    left_out = published - len(usable)
    text = f"{len(usable)} of {published} usable"
    if left_out:
        text += (
            f"; left out: {left_out} (for encryption, of another algorithm, below {MIN_RSA_BITS} bits, "
            "secret or unreadable)"
        )
    if len(usable) > 1 and any(key.kid is None for key in usable):
        return Finding("signing keys", "warn", text + "; some have no id, so a token must fit one by trial")
    return Finding("signing keys", "ok" if usable else "fail", text)


def _serves(key: SigningKey, provider: ProviderConfig) -> bool:
    return any(key.fits(algorithm) for algorithm in provider.algorithms)


def clock_finding(skew_s: float | None) -> Finding:
    """What a difference of the clocks means; positive where the provider's is ahead."""
    if skew_s is None:
        return Finding("clock", "warn", "The provider does not say its time.")
    text = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} ours"
    if abs(skew_s) > SKEW_FAIL_S:
        return Finding("clock", "fail", text + ": its tokens are not valid here")
    return Finding("clock", "warn" if abs(skew_s) > SKEW_WARN_S else "ok", text)
