"""Where a reader meets the catalogue: policy refreshed, memberships joined, one instant for all questions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from beamhub_catalogue.database import Database
from beamhub_catalogue.metrics import WebMetrics
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.people import as_of_now, find_principal, reader_of
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.rules import RuleBook
from beamhub_core.clock import Clock
from beamhub_core.config.facility import FacilityConfig
from beamhub_core.identity import Principal


class Desk:
    """Makes catalogues for readers.

    `clock` is the policy's present and may be shifted in a demonstration; `wall_clock` is the machine's, by
    which other processes stamp what they send.
    """

    def __init__(
        self, database: Database, config: FacilityConfig, rules: RuleBook, clock: Clock, wall_clock: Clock
    ) -> None:
        self.database, self.config, self.rules = database, config, rules
        self.clock, self.wall_clock = clock, wall_clock
        self.metrics = WebMetrics()
        self.room_freed = threading.Event()
        """Set when a session ended or somebody joined the queue: whoever starts the next looks now."""

    @contextmanager
    def reading(self, principal: Principal | None) -> Iterator[Catalogue]:
        """The catalogue of a reader, for looking only."""
        self.rules.refresh()
        with self.database.reading() as session:
            yield self.catalogue(session, principal)

    def catalogue(self, session: Session, principal: Principal | None) -> Catalogue:
        """The catalogue of a reader in a transaction that is open already.

        Call `rules.refresh()` before the transaction begins: a changed file is read in one of its own.
        """
        now, policy = self.clock(), self.rules.policy
        person = as_of_now(principal, self.config.login, self.wall_clock())
        reader = reader_of(session, person, self.config.login, now)
        return Catalogue(session, reader, policy, now, self.config.name)

    def readable(self, session: Session, account: str, rows: list[DatasetRow]) -> list[DatasetRow]:
        """Of these datasets, those that an account may read, as far as the hub knows it."""
        principal = find_principal(session, account)
        if principal is None:
            return []
        judge = self.catalogue(session, principal).judge
        return [row for row in rows if judge.on_dataset(row).may_read]

    def may_read_all(self, session: Session, account: str, rows: list[DatasetRow]) -> bool:
        """Whether an account, as far as the hub knows it, may read all these datasets."""
        return bool(rows) and len(self.readable(session, account, rows)) == len(rows)
