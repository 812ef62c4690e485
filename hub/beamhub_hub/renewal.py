"""After the login: each identity's provider is asked again, and what it says now is all that counts."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from beamhub_core.errors import Unavailable
from beamhub_core.identity import Principal
from beamhub_core.rights import Refused
from beamhub_hub.account_principal import account_principal
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.login_kinds import RenewalCut
from beamhub_hub.login_record import IdentityRecord, LoginRecord, read_record
from beamhub_hub.openid_kind import TOKEN_REFUSED
from beamhub_hub.provider_gate import ProviderGate

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator

SAME_ANSWER_S = 2.0
"""An answer this young is not asked for again: several requests of one page need one."""
LONGEST_PAUSE_S = 60.0
UNUSABLE = frozenset(
    ("token_key", "token_malformed", "token_response", "token_too_large", "userinfo_malformed")
)
"""Answers that nobody can read, or whose key is not published: as if the provider had not answered."""
Standing = Literal["confirmed", "unreachable", "token_refused", "denied"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the question about one identity; without an answer, the record is the last one."""

    record: IdentityRecord
    standing: Standing
    denied: LoginDenied | None = None


class Renewals:
    """Asks providers again, one account at a time. Belongs to the hub's event loop."""

    def __init__(self, authenticator: BeamhubAuthenticator) -> None:
        self._authenticator = authenticator
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._gates: dict[str, ProviderGate] = {}
        self.log = authenticator.log
        self.rights_changed = asyncio.Event()
        """Set when an account has other rights than before; whoever re-checks sessions clears it."""

    def lock(self, account: str) -> asyncio.Lock:
        """The account's own lock: a refresh token that rotates can be used once."""
        lock = self._locks.get(account)
        if lock is None:
            lock = self._locks[account] = asyncio.Lock()
        return lock

    async def refresh(self, user: Any) -> bool | dict[str, Any]:
        """Ask the providers of an account again, keep what they say, and tell web.

        Returns
        -------
        The new auth model; True when the last answer still counts (it is young, or the provider is
        unreachable and the time of grace is not over); False when the person must log in again.
        """
        async with self.lock(user.name):
            record = read_record(await user.get_auth_state())
            if record is None or record.principal.account != user.name:
                return False
            if record.is_fresh(self._authenticator.clock(), SAME_ANSWER_S):
                return True
            return await self.renew(user, record)

    async def renew(self, user: Any, record: LoginRecord) -> bool | dict[str, Any]:
        """As `refresh`, whatever the last answer's age; the caller holds the account's lock."""
        outcomes = await asyncio.gather(*(self._ask(each) for each in record.identities))
        current = outcomes[0]
        if current.denied is not None and current.standing == "denied":
            return await self._denied(user, record, current.denied)
        counts = record.is_fresh(self._authenticator.clock(), self._grace_s)
        if current.standing != "confirmed":
            self.log.warning(
                "refresh without an answer: account=%s reason=%s, last answer counts: %s",
                user.name,
                current.standing,
                counts,
            )
            if not counts:
                return False
        try:
            renewed = await self._authenticator.mapped(self._record_after(user.name, record, outcomes))
        except LoginDenied as denied:  # the facility's own map does not know the person any more
            return await self._denied(user, record, denied)
        except ProviderUnavailable as error:
            self.log.warning("identity map not available: reason=%s", error.reason)
            # Tokens may have been exchanged for new ones; the answers that came with them do not count.
            renewed = record.model_copy(update={"identities": _with_tokens_of(record, outcomes)})
            counts = record.is_fresh(self._authenticator.clock(), self._grace_s)
            await self._keep(user, record, renewed)
            return counts
        if renewed != record and not await self._keep(user, record, renewed):
            return await self._is_replaced(user, record)  # by a newer login, else the account is gone
        if current.standing == "token_refused":
            return False
        return True if renewed == record else self._authenticator.auth_model(renewed)

    async def _denied(self, user: Any, record: LoginRecord, denied: LoginDenied) -> bool:
        self._log_denial(user.name, denied)
        if await self._is_replaced(user, record):
            return True  # somebody logged in meanwhile: that login's answer counts
        await self._authenticator.ending.end(user, denied.code)
        self.rights_changed.set()
        return False

    async def _ask(self, identity: IdentityRecord) -> Outcome:
        kind = self._authenticator.kinds.get(identity.provider)
        if kind is None:  # no longer configured: nobody may vouch for it
            return Outcome(identity, "denied", LoginDenied("token_issuer"))
        try:
            renewed = await self.gate(identity.provider).ask(lambda: kind.renew(identity))
        except ProviderUnavailable as error:
            self.log.warning("provider not available: provider=%s reason=%s", error.provider, error.reason)
            # A refresh token that rotates is spent once: what came for it is kept, though no answer did.
            kept = error.record if isinstance(error, RenewalCut) else identity
            return Outcome(kept, "unreachable")
        except LoginDenied as denied:
            if denied.code in UNUSABLE:
                self.log.warning(
                    "provider's answer not usable: provider=%s reason=%s", identity.provider, denied.code
                )
                return Outcome(identity, "unreachable")
            is_about_token = denied.code in TOKEN_REFUSED and not kind.refused_token_ends_account
            standing: Standing = "token_refused" if is_about_token else "denied"
            return Outcome(identity, standing, denied)
        return Outcome(renewed, "confirmed")

    def gate(self, provider: str) -> ProviderGate:
        """The way to a provider."""
        if provider not in self._gates:
            longest_s = min(LONGEST_PAUSE_S, self._authenticator.facility.login.refresh_s)
            self._gates[provider] = ProviderGate(provider, longest_pause_s=longest_s)
        return self._gates[provider]

    def _record_after(self, account: str, record: LoginRecord, outcomes: list[Outcome]) -> LoginRecord:
        """The account's record with what its providers say now.

        An identity other than the current one that was denied is gone at once; one whose tokens are not
        taken any more, which says nothing of the person, stays until its time of grace is over.
        """
        now, kept = self._authenticator.clock(), [outcomes[0].record]
        for outcome in outcomes[1:]:
            if outcome.standing == "denied" and outcome.denied is not None:
                self._log_denial(account, outcome.denied)
            elif outcome.standing != "token_refused" or outcome.record.is_fresh(now, self._grace_s):
                kept.append(outcome.record)
        return self._merged(record.principal, tuple(kept), self._grace_s)

    def _merged(
        self, principal: Principal, identities: tuple[IdentityRecord, ...], grace_s: float
    ) -> LoginRecord:
        merged = account_principal(
            principal.identities[0],
            principal.linked,
            identities,
            now=self._authenticator.clock(),
            grace_s=grace_s,
        )
        return LoginRecord(principal=merged, identities=identities)

    def has_rights_confirmed(self, record: LoginRecord, age_s: float) -> bool:
        """Whether answers of at most this age give all the rights that the account has."""
        if not record.is_fresh(self._authenticator.clock(), age_s):
            return False
        confirmed = self._merged(record.principal, record.identities, age_s).principal
        return rights_of(confirmed) >= rights_of(record.principal)

    async def _keep(self, user: Any, before: LoginRecord, after: LoginRecord) -> bool:
        """Store and tell what was found; False when the stored record is not the one that was renewed."""
        if read_record(await user.get_auth_state()) != before:
            return False
        model = self._authenticator.auth_model(after)
        await user.save_auth_state(model["auth_state"])
        self._authenticator.logins_by_sid.note(after)
        if self._authenticator.manage_groups:
            user.sync_groups(model["groups"])
        await self._push_quietly(after.principal)
        if rights_of(before.principal) != rights_of(after.principal):
            self.rights_changed.set()
        return True

    async def _is_replaced(self, user: Any, record: LoginRecord) -> bool:
        """Whether another login's record is stored by now."""
        stored = read_record(await user.get_auth_state())
        return stored is not None and stored != record

    async def _push_quietly(self, principal: Principal) -> None:
        try:
            await self._authenticator.web.push_principal(principal)
        except (Unavailable, Refused) as error:
            # Web goes on with the older answer, whose age it knows.
            self.log.warning("web not told of a refreshed principal: reason=%s", error)

    def _log_denial(self, account: str, denied: LoginDenied) -> None:
        self.log.warning(
            "refresh denied: reference=%s reason=%s account=%s", denied.reference, denied.code, account
        )

    @property
    def _grace_s(self) -> float:
        return self._authenticator.grace_s


def _with_tokens_of(record: LoginRecord, outcomes: list[Outcome]) -> tuple[IdentityRecord, ...]:
    """An account's identities with their newest tokens, and with what was said of them before."""
    return tuple(
        outcome.record.model_copy(update={"principal": identity.principal})
        for identity, outcome in zip(record.identities, outcomes, strict=True)
    )


def rights_of(principal: Principal) -> frozenset[object]:
    """Everything in a principal that may give a right."""
    said = {"assurance": principal.assurance, "acr": principal.acr}
    return frozenset((*principal.entitlements, *principal.capabilities, *principal.roles, *said.items()))
