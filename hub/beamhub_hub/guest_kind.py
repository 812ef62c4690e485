"""Guests: people for whom nobody vouches, for a time, with an account that nobody else ever gets."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from tornado.httputil import url_concat

from beamhub_core.clock import Clock, utc_now
from beamhub_core.config.login import GuestConfig, LoginConfig
from beamhub_core.identity import GUEST_ISSUER, Identity, Principal
from beamhub_hub.denial import LoginDenied
from beamhub_hub.login_attempt import LoginAttempt
from beamhub_hub.login_record import IdentityRecord
from beamhub_hub.rate_limit import RateLimit

GUEST_NAME: Final = "guest"
"""The name of this way to log in, in addresses and records."""
BURST = 10
"""Guests that may come at once; after that one a second."""
RECOUNT_S = 60.0
_STARTED = "auth_time"


class GuestKind:
    """The way in without an institution. Belongs to one event loop.

    A guest is a Principal with the role `guest` and nothing else: no entitlement, no assurance, no token.
    The account's subject is random, so a guest who is gone never comes back.
    """

    starts_by_post = True

    def __init__(
        self,
        config: GuestConfig,
        login: LoginConfig,
        *,
        count: Callable[[], Awaitable[int]],
        clock: Clock = utc_now,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Parameters
        ----------
        count:
            How many guest accounts the hub has now; asked at most once in `RECOUNT_S`.
        clock, seconds:
            The machine's clock, and seconds that never go back.
        """
        self.config, self._login, self._count = config, login, count
        self._clock, self._seconds = clock, seconds
        self._rate = RateLimit(burst=BURST, per_s=1.0)
        self._n_guests, self._counted_at = 0, -float("inf")

    @property
    def name(self) -> str:
        """Name in addresses, logs and records."""
        return GUEST_NAME

    @property
    def title(self) -> str:
        """Text of the button."""
        return self.config.title

    @property
    def refused_token_ends_account(self) -> bool:
        """Guests have no tokens."""
        return False

    @property
    def issuer(self) -> str:
        """The constant issuer of guests."""
        return GUEST_ISSUER

    async def begin(self, attempt: LoginAttempt, *, return_to: str, idp_hint: str | None) -> str:
        """Back to ourselves: there is nobody to ask. The attempt's cookie came from a form of ours."""
        return url_concat(return_to, {"state": attempt.state})

    async def finish(
        self, answer: Mapping[str, str], attempt: LoginAttempt, *, return_to: str
    ) -> IdentityRecord:
        """A new guest.

        Raises
        ------
        LoginDenied
            `not_allowed` where the attempt asks for what no guest can show, `guests_too_fast` and
            `guests_full` where there is no room.
        """
        if attempt.acr_values or attempt.links_to is not None:
            raise LoginDenied("not_allowed", "a guest shows no second factor and joins no account")
        if not self._rate.allows(self._seconds()):
            raise LoginDenied("guests_too_fast")
        if await self._n_living() >= self.config.max_guests:
            raise LoginDenied("guests_full")
        self._n_guests += 1
        now = self._clock()
        subject = secrets.token_urlsafe(32)
        identity = Identity(issuer=GUEST_ISSUER, subject=subject)
        principal = Principal(
            issuer=GUEST_ISSUER,
            subject=subject,
            account=identity.account,
            display_name="Guest",
            roles=("guest",),
            checked_at=self._vouched_at(now, now),
        )
        return IdentityRecord(
            provider=GUEST_NAME, principal=principal, signed_claims={_STARTED: now.timestamp()}
        )

    async def _n_living(self) -> int:
        """Guest accounts: counted again now and then, and in between those added that came."""
        if self._seconds() - self._counted_at >= RECOUNT_S:
            # One count at a time decides for itself: a guest who comes meanwhile is counted by addition.
            self._counted_at, before = self._seconds(), self._n_guests
            counted = await self._count()
            self._n_guests = counted + (self._n_guests - before)
        return self._n_guests

    async def renew(self, record: IdentityRecord) -> IdentityRecord:
        """The same guest, as long as the time is not over.

        Raises
        ------
        LoginDenied
            `guest_over` afterwards.
        """
        now, started = self._clock(), started_at(record)
        if started is None or record.principal.issuer != GUEST_ISSUER:
            raise LoginDenied("guest_over", "no such guest")
        if now >= self.ends_at(started):
            raise LoginDenied("guest_over")
        principal = record.principal.model_copy(update={"checked_at": self._vouched_at(now, started)})
        return record.model_copy(update={"principal": principal})

    def ends_at(self, started: datetime) -> datetime:
        """When a guest's time is over."""
        return started + timedelta(hours=self.config.lifetime_h)

    def is_over(self, record: IdentityRecord) -> bool:
        """Whether a guest's time is over, or the record says of none when it began."""
        started = started_at(record)
        return started is None or self._clock() >= self.ends_at(started)

    def _vouched_at(self, now: datetime, started: datetime) -> datetime:
        """The instant from which the time of grace counts: never so late that it outlasts the guest.

        Hub and web take an answer for the time of grace; dated so, it ends with the guest's time at the
        latest, even where neither the refresh nor the removal ever comes.
        """
        return min(now, self.ends_at(started) - timedelta(hours=self._login.grace_h))

    async def logout_url(self, record: IdentityRecord | None, *, return_to: str) -> str | None:
        """None: there is no session elsewhere."""
        return None


def started_at(record: IdentityRecord) -> datetime | None:
    """When a guest came; None where the record does not say."""
    started = record.signed_claims.get(_STARTED)
    if not isinstance(started, int | float) or not 0 <= started < 4e9:
        return None
    return datetime.fromtimestamp(started, UTC)
