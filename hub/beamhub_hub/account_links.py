"""What linking an identity to an account, and parting them again, does at web and in the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beamhub_core.rights import Refused
from beamhub_hub.denial import LoginDenied
from beamhub_hub.linking import check_may_link, identities_of, joined_record
from beamhub_hub.login_attempt import LoginAttempt
from beamhub_hub.login_kinds import LoginKind
from beamhub_hub.login_record import IdentityRecord, LoginRecord, read_record

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator


class AccountLinks:
    """Joins and parts identities. Belongs to the hub's event loop."""

    def __init__(self, authenticator: BeamhubAuthenticator) -> None:
        self._authenticator = authenticator

    async def link(self, user: Any, kind: LoginKind, attempt: LoginAttempt, answer: dict[str, str]) -> None:
        """Let the identity of a callback's answer sign in as the account of the person at the browser.

        The login that its own account may have ends: nobody signs in to that account from now on.

        Raises
        ------
        LoginDenied, ProviderUnavailable, Unavailable
            As for a login; also when the account's own login is not recent, or web does not join the two.
        """
        authenticator = self._authenticator
        return_to = authenticator.callback_url(kind.name)
        latest = await kind.finish(answer, attempt, return_to=return_to)
        async with authenticator.renewals.lock(user.name):
            record = read_record(await user.get_auth_state())
            check_may_link(record, latest, authenticator.clock())
            try:
                await authenticator.web.link_identity(latest.identity, user.name)
            except Refused as refused:
                raise LoginDenied("link_refused", refused.refusal.reference) from None
            await self._keep(user, record, (latest,))
        await self._end_own_account(latest.identity.account)

    async def _end_own_account(self, account: str) -> None:
        authenticator = self._authenticator
        user = authenticator.parent.users.get(account)
        if user is not None:
            async with authenticator.renewals.lock(account):
                await authenticator.ending.end(user, "linked")

    async def unlink(self, user: Any, account: str) -> None:
        """Let an identity sign in as its own account again; what it asserted is gone at once.

        Raises
        ------
        Unavailable
            If web cannot be told; then nothing changed.
        """
        async with self._authenticator.renewals.lock(user.name):
            await self._authenticator.web.unlink_identity(account)
            await self._keep(user, read_record(await user.get_auth_state()), ())

    async def _keep(self, user: Any, record: LoginRecord | None, new: tuple[IdentityRecord, ...]) -> None:
        """Make the account anew from what web says of its identities; the current one stays the current."""
        authenticator = self._authenticator
        answer = await authenticator.web.identity(user.name)
        known = identities_of(answer)
        left = [r for r in (*(record.identities if record else ()), *new) if r.identity in known]
        if not left:
            return
        joined = joined_record(
            left, left[0], answer, now=authenticator.clock(), grace_s=authenticator.grace_s
        )
        after = await authenticator.mapped(joined)
        model = authenticator.auth_model(after)
        await user.save_auth_state(model["auth_state"])
        authenticator.logins_by_sid.note(after)
        user.sync_groups(model["groups"])
        await authenticator.web.push_principal(after.principal)
