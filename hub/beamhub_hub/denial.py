"""Why a login ends without a login: typed, with a reference, and never with a token in it."""

from __future__ import annotations

import secrets
from typing import Literal

from beamhub_core.errors import BeamhubError

DenialCode = Literal[
    "attempt_missing",  # no login was started in this browser, or it took too long
    "provider_refused",  # the provider sent an error instead of a code
    "response_repeated",  # a parameter of the provider's answer stands there twice: RFC 6749, 3.1
    "response_issuer",  # RFC 9207: the answer is another provider's
    "code_missing",
    "code_refused",
    "token_response",
    "token_too_large",
    "token_malformed",
    "token_algorithm",
    "token_header",
    "token_key",
    "token_signature",
    "token_issuer",
    "token_audience",
    "token_expired",
    "token_not_yet_valid",
    "token_times",
    "token_nonce",
    "token_subject",
    "token_hash",
    "userinfo_refused",
    "userinfo_malformed",
    "userinfo_subject",
    "claim_missing",
    "claim_type",
    "subject_blocked",
    "subject_scope",  # AARC-G026: an identifier of another operator, or none with a scope
    "organisation_not_allowed",
    "assurance_missing",
    "acr_missing",
    "auth_too_old",
    "not_in_map",  # the facility's identity map does not know the person
    "map_ambiguous",  # it knows several
    "not_allowed",
    "link_too_late",  # who links an identity must have logged in just now
    "link_guest",
    "link_refused",  # web does not join these two, for a reason of its own
]


class LoginDenied(BeamhubError):
    """The provider's answer does not show who this is; `detail` holds no value of the answer."""

    exit_code = 4

    def __init__(self, code: DenialCode, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail
        self.reference = secrets.token_hex(4)

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"The login was denied: {self.code}{detail} [reference {self.reference}]"

    @property
    def advice(self) -> str:
        """What a person may be told: never more than the kind of fault."""
        return _ADVICE.get(self.code, _GENERAL_ADVICE)


_GENERAL_ADVICE = (
    "The identity provider's answer could not be trusted, so nobody was logged in. Try again; if it happens "
    "again, tell the facility's support this reference."
)
_ADVICE: dict[str, str] = {
    "attempt_missing": "This login was started in another browser, or too long ago. Start again.",
    "provider_refused": "The identity provider did not log you in: you or the provider stopped the login.",
    "code_refused": "The identity provider did not accept the login a second time. Start again.",
    "claim_missing": "Your identity provider does not send something this facility requires. Ask the help "
    "desk of your home organisation, and tell the facility's support this reference.",
    "not_in_map": "You have no account at this facility yet, or it does not know that this login is yours. "
    "Ask its user office, and tell it this reference.",
    "map_ambiguous": "This facility has more than one account that could be yours. Tell its support this "
    "reference.",
    "subject_blocked": "This account may not log in here.",
    "link_too_late": "To add an identity, log out and in again first: your login is older than 15 minutes.",
    "link_guest": "Guests have no identity that could be added, or added to.",
    "link_refused": "This identity cannot be added to your account as things stand: it is your own already, "
    "it is linked to another account, or sessions of its own account still run. Stop those first.",
    "subject_scope": "Your identity provider vouched for an account of another community. Log in with an "
    "account of the community that the login page names, or tell the facility's support this reference.",
    "organisation_not_allowed": "This login is open to people of certain home organisations, and yours is "
    "not among them, or was not named. Choose another way to log in, or ask the facility's support.",
    "assurance_missing": "This facility needs to know that your home organisation checked who you are, and "
    "it does not say so. Ask its help desk for identity assurance (REFEDS), or choose another way to log in.",
    "acr_missing": "This login needs a second factor, and your identity provider did not confirm one. Set "
    "one up at your home organisation, then start again.",
    "auth_too_old": "This login needs you to authenticate again at your identity provider. Start again, and "
    "do not reuse an older login there.",
}


class ProviderUnavailable(BeamhubError):
    """The identity provider does not answer, or answers with a fault of its own."""

    exit_code = 6

    def __init__(self, provider: str, reason: str) -> None:
        super().__init__(provider, reason)
        self.provider, self.reason = provider, reason
        self.reference = secrets.token_hex(4)

    def __str__(self) -> str:
        return (
            f"The identity provider {self.provider!r} gives no usable answer ({self.reason}) "
            f"[reference {self.reference}]"
        )
