"""Browser visits: what the server keeps of a login, so that the cookie holds only a random name."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Column, Engine, Float, LargeBinary, MetaData, String, Table, delete, insert, select

from beamhub_catalogue.postgresql import VISITS_LOCK
from beamhub_core.clock import Clock

VISIT_LIFETIME = timedelta(hours=12)
MAX_NAME_LENGTH = 100

_metadata = MetaData()
_visits = Table(
    "portal_visits",
    _metadata,
    Column("digest", String(64), primary_key=True),
    Column("account", String(255), nullable=False, index=True),
    Column("token", LargeBinary, nullable=False),
    Column("ends_at", Float, nullable=False, index=True),
)


@dataclass(frozen=True, slots=True)
class Visit:
    """A login that still counts here; whether it counts at the hub is asked there."""

    digest: str
    account: str
    token: str


class Visits:
    """The visits of every browser, in web's database.

    The name in the cookie is stored as its SHA-256 and the hub token encrypted, so that a copy of the
    database opens no visit.
    """

    def __init__(self, engine: Engine, tokens: Fernet, clock: Clock) -> None:
        self._engine, self._tokens, self._clock = engine, tokens, clock
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # where two processes cannot make one table at once
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({VISITS_LOCK})")
            _metadata.create_all(connection)

    def close(self) -> None:
        """Give the database connections back."""
        self._engine.dispose()

    def begin(self, account: str, token: str) -> str:
        """A new visit; the answer is the cookie's value. Visits past their end are dropped on the way."""
        name = secrets.token_urlsafe(32)
        now = self._clock()
        with self._engine.begin() as connection:
            connection.execute(delete(_visits).where(_visits.c.ends_at < _seconds(now)))
            connection.execute(
                insert(_visits).values(
                    digest=digest_of(name),
                    account=account,
                    token=self._tokens.encrypt(token.encode()),
                    ends_at=_seconds(now + VISIT_LIFETIME),
                )
            )
        return name

    def find(self, name: str | None) -> Visit | None:
        """The visit that a cookie names; None for any other text."""
        if not name or len(name) > MAX_NAME_LENGTH:
            return None
        with self._engine.connect() as connection:
            row = connection.execute(select(_visits).where(_visits.c.digest == digest_of(name))).one_or_none()
        if row is None or row.ends_at < _seconds(self._clock()):
            return None
        try:
            token = self._tokens.decrypt(row.token).decode()
        except InvalidToken:
            return None  # the cookie secret changed: everybody logs in again
        return Visit(row.digest, row.account, token)

    def end(self, digest: str) -> None:
        """Forget a visit; no error when there is none."""
        with self._engine.begin() as connection:
            connection.execute(delete(_visits).where(_visits.c.digest == digest))


def digest_of(name: str) -> str:
    """How a visit's name is stored."""
    return hashlib.sha256(name.encode()).hexdigest()


def _seconds(instant: datetime) -> float:
    return instant.timestamp()
