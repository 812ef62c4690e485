"""Ways to log in, behind one contract: OpenID providers and guests now; others stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from beamhub_hub.denial import ProviderUnavailable
from beamhub_hub.login_attempt import LoginAttempt
from beamhub_hub.login_record import IdentityRecord


class RenewalCut(ProviderUnavailable):
    """The provider gave new tokens for an identity and then did not say who it is."""

    def __init__(self, error: ProviderUnavailable, record: IdentityRecord) -> None:
        super().__init__(error.provider, error.reason)
        self.record = record
        """The last answer, with the new tokens."""


class LoginKind(Protocol):
    """One way to log in, of one configured provider.

    The hub keeps the attempt in a signed cookie, routes `/login/NAME` and `/login/NAME/callback` here, joins
    identities to accounts and tells web. A kind only knows how its own peer speaks.
    """

    starts_by_post: bool
    """The start makes something, so it takes a form with the hub's token against forged requests."""

    @property
    def name(self) -> str:
        """Name in addresses, logs and records."""

    @property
    def title(self) -> str:
        """What people call it."""

    @property
    def refused_token_ends_account(self) -> bool:
        """Whether a token that is not taken any more is a word on the person, not on the token alone."""

    @property
    def issuer(self) -> str:
        """Who vouches for the people."""

    async def begin(self, attempt: LoginAttempt, *, return_to: str, idp_hint: str | None) -> str:
        """Where the browser goes to log in.

        Raises
        ------
        ProviderUnavailable
            If the peer cannot be asked.
        """

    async def finish(
        self, answer: Mapping[str, str], attempt: LoginAttempt, *, return_to: str
    ) -> IdentityRecord:
        """Who it is, once every rule holds for the answer that the browser brought back.

        Raises
        ------
        LoginDenied, ProviderUnavailable
        """

    async def renew(self, record: IdentityRecord) -> IdentityRecord:
        """What the peer says of a known identity now.

        Raises
        ------
        LoginDenied, ProviderUnavailable
            `RenewalCut` where tokens were renewed and the answer is missing.
        """

    async def logout_url(self, record: IdentityRecord | None, *, return_to: str) -> str | None:
        """Where the browser goes to end its session at the peer, if the peer has such a place.

        Raises
        ------
        ProviderUnavailable
        """
