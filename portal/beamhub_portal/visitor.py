"""Who is asking: from a cookie or a bearer token, confirmed by the hub within the last seconds."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from fastapi import HTTPException, Request

from beamhub_catalogue.service import CatalogueService
from beamhub_core.errors import Unavailable
from beamhub_core.identity import Principal
from beamhub_portal.hub_client import HubClient, HubUser
from beamhub_portal.keys import Keys
from beamhub_portal.visits import Visits

SERVICE_NAME = "web"
ACCESS_SCOPES = frozenset({"access:services", f"access:services!service={SERVICE_NAME}"})
USER_CACHE_S = 10.0
MAX_CACHED_USERS = 2000
MAX_TOKEN_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person with a live login; `principal` is None when web does not know the account's rights."""

    account: str
    principal: Principal | None
    token: str
    visit: str
    xsrf: str

    @property
    def name(self) -> str:
        """What pages call the person."""
        return self.principal.display_name if self.principal is not None else "unknown person"


class Visitors:
    """Finds the visitor behind a request."""

    def __init__(
        self,
        service: CatalogueService,
        hub: HubClient,
        visits: Visits,
        keys: Keys,
        *,
        cookie_name: str,
        user_cache_s: float = USER_CACHE_S,
    ) -> None:
        self._service, self._hub, self._visits, self._keys = service, hub, visits, keys
        self.cookie_name = cookie_name
        self._users = _UserCache(user_cache_s)

    def of(self, request: Request) -> Visitor | None:
        """The visitor of a browser's request; None when nobody is logged in.

        A visit whose token the hub no longer knows (logout, removed account) ends here.

        Raises
        ------
        Unavailable
            When there is a visit and the hub does not say whether it still counts.
        """
        visit = self._visits.find(request.cookies.get(self.cookie_name))
        if visit is None:
            return None
        user = self.user(visit.token)
        if user is None or user.name != visit.account:
            self._visits.end(visit.digest)
            return None
        return Visitor(
            account=visit.account,
            principal=self._service.principal(visit.account),
            token=visit.token,
            visit=visit.digest,
            xsrf=self._keys.xsrf_token(visit.digest),
        )

    def user(self, token: str) -> HubUser | None:
        """Whom a token stands for, as the hub said at most `user_cache_s` ago; None without access here."""
        cached = self._users.get(token)
        if cached is not None:
            return cached
        user = self._hub.user(token)
        if user is None or not ACCESS_SCOPES.intersection(user.scopes):
            return None
        self._users.put(token, user)
        return user

    def forget(self, visitor: Visitor) -> None:
        """End a visit now."""
        self._users.drop(visitor.token)
        self._visits.end(visitor.visit)

    def resolve_principal(self, request: Request) -> Principal | None:
        """Who calls an API: a visit, else a hub token with access to this service, else nobody (None).

        Raises
        ------
        fastapi.HTTPException
            401 for a token that is none, 503 when the hub does not answer.
        """
        header = request.headers.get("authorization")
        try:
            if header is None:
                visitor = self.of(request)
                return visitor.principal if visitor is not None else None
            kind, _, token = header.partition(" ")
            token = token.strip()
            if kind.lower() not in ("bearer", "token") or not 0 < len(token) <= MAX_TOKEN_LENGTH:
                raise HTTPException(401, "The Authorization header is not 'Bearer TOKEN'.", _CHALLENGE)
            user = self.user(token) if token.isascii() and token.isprintable() else None
        except Unavailable as error:
            raise HTTPException(503, str(error)) from None
        if user is None:
            raise HTTPException(401, "The token is unknown or has no access to this service.", _CHALLENGE)
        return self._service.principal(user.name)

    def check_form(self, visitor: Visitor, token: str | None) -> bool:
        """Whether a form came from one of this visit's own pages."""
        return token is not None and hmac.compare_digest(token.encode(), visitor.xsrf.encode())


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class _UserCache:
    """The hub's latest answers by SHA-256 of the token; only positive ones, dropped after their time."""

    def __init__(self, lifetime_s: float) -> None:
        self._lifetime_s = lifetime_s
        self._lock = threading.Lock()  # protects the dict below: handlers run in threads
        self._users: OrderedDict[str, tuple[float, HubUser]] = OrderedDict()

    def get(self, token: str) -> HubUser | None:
        with self._lock:
            found = self._users.get(_key(token))
        if found is None or time.monotonic() - found[0] > self._lifetime_s:
            return None
        return found[1]

    def put(self, token: str, user: HubUser) -> None:
        with self._lock:
            self._users.pop(_key(token), None)
            self._users[_key(token)] = (time.monotonic(), user)
            while len(self._users) > MAX_CACHED_USERS:
                self._users.popitem(last=False)

    def drop(self, token: str) -> None:
        with self._lock:
            self._users.pop(_key(token), None)


def _key(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
