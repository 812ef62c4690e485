"""Why a login ends without a login: typed, with a reference, and never with a token in it."""

from __future__ import annotations

import secrets
from typing import Literal

from beamhub_core.errors import BeamhubError

DenialCode = Literal[
    "attempt_missing",  # no login was started in this browser, or it took too long
    "guest_over",
    "guests_full",
    "guests_too_fast",
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
    "acr_missing": "What you asked for needs a login with a second factor, and your identity provider did "
    "not confirm one. Log in again and use your second factor. If you were not asked for it, ask the help "
    "desk of your home organisation or community how to set one up.",
    "assurance_missing": "This facility needs to know how carefully your identity was checked, and your "
    "identity provider does not say so, or says too little. Ask the help desk of your home organisation or "
    "community to confirm your identity with a document.",
    "attempt_missing": "This login was started in another browser, or too long ago, or it was finished "
    "already. Start again from the login page. If it happens again, allow cookies for this site.",
    "auth_too_old": "Your identity provider remembered an older login, and this facility needs a fresh one. "
    "Log out at the provider, or close the browser, then log in again and type your password there.",
    "claim_missing": "Your identity provider does not send something that this facility requires. On its "
    "consent page, allow all that is asked for. If you did, ask the help desk of your home organisation or "
    "community to release it, and name the reference.",
    "claim_type": "Your identity provider sends something about you in a form that cannot be read. You "
    "cannot mend this: send the reference to this facility's support, who can tell the provider.",
    "code_missing": "Your identity provider sent you back without confirming the login. Start again from "
    "the login page; if it happens again, send the reference to this facility's support.",
    "code_refused": "Your identity provider did not take its own confirmation back: it was used already or "
    "is too old. Start again from the login page, and do not reload the page in between.",
    "guest_over": "Your time as a guest is over, and the guest account is closed. You may begin again as a "
    "new guest, or log in with an account of your own.",
    "guests_full": "As many guests are here as this facility can take. Try again in an hour, or log in with "
    "an account of your own. Open data can be looked at without any login.",
    "guests_too_fast": "Many guests come in at this moment. Wait ten seconds, then try again.",
    "issuer_unknown": "This account's identity provider does not belong to this facility any more. Log in "
    "with another provider; if you have no other account, ask this facility's support.",
    "link_guest": "Guests have no identity that could be added, or added to. Log in "
    "with an account of your own.",
    "link_refused": "This identity cannot be added to your account as things stand: it is your own already, "
    "it is linked to another account, or sessions of its own account still run. Stop those, then try "
    "again. Ask this facility's support if that does not help.",
    "link_too_late": "Log out and in again, then add the identity: your login is older than 15 minutes.",
    "map_ambiguous": "This facility has more than one account that could be yours. Send its support this "
    "reference.",
    "not_allowed": "You are who you say you are, but this account may not log in here. Ask this facility's "
    "user office or support whether you should have access.",
    "not_in_map": "You are who you say you are, but this facility has no account on file for you yet. Ask "
    "its user office to register you, or to join this login to the account that you have.",
    "organisation_not_allowed": "Your home organisation is not among those whose people log in here this "
    "way. If you have an account at another organisation or community, choose that one; else ask this "
    "facility's user office.",
    "provider_refused": "Your identity provider did not log you in: you or the provider stopped the login. "
    "Start again; if the provider showed a message, ask its help desk about that.",
    "response_issuer": "The answer came from another identity provider than the one you chose. Nobody was "
    "logged in, for your safety. Start again from the login page, and only there; if it happens again, tell "
    "this facility's support.",
    "response_repeated": "The answer of your identity provider says one thing twice, so it could mean two. "
    "Nobody was logged in. Start again from the login page; if that does not help, tell this "
    "facility's support.",
    "subject_blocked": "This account is blocked here. Only this facility's support can tell why, and open "
    "it again.",
    "subject_scope": "Your identity provider names you in a way that only another provider may. Nobody was "
    "logged in. Send the reference to this facility's support, who can ask the provider.",
    "token_algorithm": "Your identity provider signed its answer in a way that is not safe enough here. You "
    "cannot mend this: send the reference to this facility's support.",
    "token_audience": "The answer of your identity provider was meant for another service. Start again from "
    "the login page, and never follow a login link from a message; if it happens again, tell this "
    "facility's support.",
    "token_expired": "The answer of your identity provider was too old when it arrived. Start again and "
    "finish the login without a pause. If that does not help, the provider's clock is wrong: tell this "
    "facility's support.",
    "token_hash": "Two parts of your identity provider's answer do not belong together, as if somebody had "
    "changed one. Nobody was logged in. Try once more; if it happens again, send the reference to this "
    "facility's support.",
    "token_header": "Your identity provider's answer asks for a treatment that is not known here. You "
    "cannot mend this: send the reference to this facility's support, who can ask the provider what "
    "changed.",
    "token_issuer": "The answer bears the name of another identity provider. Nobody was logged in, for your "
    "safety. Start again from the login page; if it happens again, tell this facility's support.",
    "token_key": "Your identity provider signed its answer with a key that it has not published, which "
    "happens for some minutes after it changes its keys. Try again in ten minutes; after that, tell this "
    "facility's support.",
    "token_malformed": "What your identity provider sent is no login that can be read. Try again in some "
    "minutes; if it happens again, send the reference to this facility's support.",
    "token_nonce": "The answer of your identity provider belongs to another login, perhaps of another tab. "
    "Close the other tabs and start again from the login page.",
    "token_not_yet_valid": "The answer of your identity provider is valid only later: its clock and ours do "
    "not agree. Try again in a minute; if that does not help, tell this facility's support.",
    "token_response": "Your identity provider confirmed the login but sent it without what belongs to it. "
    "Try again in some minutes; if it happens again, send the reference to this facility's support.",
    "token_signature": "The signature below your identity provider's answer is wrong, so it may be forged. "
    "Nobody was logged in. Try once more from a network that you trust; if it happens again, tell this "
    "facility's support at once.",
    "token_subject": "Your identity provider does not say clearly who you are. Log out at the provider and "
    "start again; if that does not help, send the reference to this facility's support.",
    "token_times": "Your identity provider does not say from when until when its answer is valid. You "
    "cannot mend this: send the reference to this facility's support.",
    "token_too_large": "Your identity provider sends more about you than can be taken, perhaps because you "
    "are in very many groups. Ask the help desk of your community to leave groups that you do not need.",
    "userinfo_malformed": "What your identity provider says of you cannot be read. Try again in some "
    "minutes; if it happens again, send the reference to this facility's support.",
    "userinfo_refused": "Your identity provider confirmed the login but did not want to say who you are. "
    "Start again; on its consent page, allow all that is asked for.",
    "userinfo_subject": "Your identity provider spoke of two different people in one login. Nobody was "
    "logged in. Log out at the provider, start again, and tell this facility's support if it happens again.",
}
"""For each code what happened and what the person can do, and whom to ask: the home organisation or community
for what the provider says, the facility for what is allowed here."""


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
