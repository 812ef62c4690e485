"""A user office that answers over HTTP in the shape of docs/reference/user-office.md."""

from __future__ import annotations

import hashlib
import threading
from typing import Literal

from beamhub_catalogue.sources.contract import SourceBroken, SourceProblem, SourceReading
from beamhub_catalogue.sources.rest_fetch import (
    Deadline,
    Fetcher,
    FetchFailed,
    new_client,
    read_token,
)
from beamhub_catalogue.sources.rest_shape import MAX_ROWS, NotInShape, Page, read_page
from beamhub_catalogue.sources.tables import Row, Table, reading_of
from beamhub_core.config.catalogue import RestOfficeConfig

TABLES = ("proposals", "members", "staff")
MAX_PAGE_BYTES = 32_000_000
MAX_STATE_BYTES = 128_000_000
NO_ETAG = "-"


class RestUserOffice:
    """Proposals, members and staff from pages over HTTP.

    `poll` fetches the state, all pages of it or nothing; an office that answers "not modified" costs one
    small request. Anything wrong with an answer makes the reading fail, so that the last good state stays.
    What is wrong in one row is judged by `beamhub_catalogue.sources.tables`, as for every office.

    The fingerprint is the entity tag of the last good state and a digest of its pages, and while the office
    is broken what is wrong with it besides.
    """

    kind: Literal["rest"] = "rest"

    def __init__(self, config: RestOfficeConfig) -> None:
        self._config = config
        self._polling = (
            threading.Lock()
        )  # one poll at a time; the attributes below are replaced, never changed
        self._good = ""
        self._held: SourceReading | None = None
        self._broken: SourceBroken | None = None

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self._config.name

    @property
    def poll_interval_s(self) -> float:
        """As in the configuration."""
        return self._config.poll_interval_s

    def resume(self, fingerprint: str) -> None:
        """Ask only for what came after a state that is kept; nothing once a state came."""
        self._good = self._good or fingerprint

    def fingerprint(self) -> str:
        """Of the last good state and of what is wrong since."""
        broken = self._broken
        return self._good if broken is None else f"{self._good} !{broken.problems[0].reason}"

    def poll(self) -> bool:
        """Fetch the state where it changed; whether the office answered well."""
        with self._polling:
            etag = self._good.partition(" ")[0]
            self._poll(None if etag in ("", NO_ETAG) else etag, hold=False)
            return self._broken is None

    def read(self) -> SourceReading:
        """The state of the last poll, once; asked for again where it was handed over before.

        Raises
        ------
        SourceBroken
            If the last poll got no state.
        """
        with self._polling:
            if self._held is None and self._broken is None:
                self._poll(None, hold=True)
            held, self._held = self._held, None
            if self._broken is not None or held is None:
                raise self._broken or self._problem("gave no state")
            return held

    def _poll(self, etag: str | None, *, hold: bool) -> None:
        """Ask, and hold the state for `read` where it changed, or in any case."""
        try:
            state = self._fetch(etag)
        except (FetchFailed, NotInShape) as error:
            self._broken = self._problem(error.reason)
            return
        self._broken, self._held = None, None
        if state is not None and (hold or state.fingerprint != self._good):
            self._held, self._good = state.reading(), state.fingerprint

    def _fetch(self, etag: str | None) -> _State | None:
        """All pages of the state; None where it is the one of the entity tag."""
        config = self._config
        token = read_token(config.token_file) if config.token_file is not None else None
        url = f"{config.url.rstrip('/')}/v1/state"
        with Deadline(config.timeout_s) as deadline, new_client(url) as client:
            fetcher = Fetcher(client, deadline, MAX_PAGE_BYTES, MAX_STATE_BYTES, token)
            answer = fetcher.get(url, {"page": "1"}, etag)
            if answer.body is None:
                return None
            state = _State(answer.body, answer.etag)
            for page in range(2, state.first.pages + 1):
                more = fetcher.get(url, {"page": str(page), "state": state.first.state})
                state.add(more.body or b"", page)
        state.check_totals()
        return state

    def _problem(self, reason: str) -> SourceBroken:
        return SourceBroken(self.name, (SourceProblem("state", None, reason),))


class _State:
    """The pages of one state as they come."""

    def __init__(self, body: bytes, etag: str | None) -> None:
        self._etag = etag or NO_ETAG
        self._digest = hashlib.sha256()
        self._rows: dict[str, list[Row]] = {table: [] for table in TABLES}
        self.first = self._taken(body)
        self._check(self.first, 1)

    @property
    def fingerprint(self) -> str:
        """The entity tag and a digest: an office may change what it says and forget to change its tag."""
        return f"{self._etag} {self._digest.hexdigest()}"

    def add(self, body: bytes, number: int) -> None:
        """Take a further page; NotInShape where it is none of this state."""
        self._check(self._taken(body), number)

    def check_totals(self) -> None:
        """NotInShape unless all rows came that were promised."""
        for table, rows in self._rows.items():
            promised = getattr(self.first.totals, table)
            if len(rows) != promised:
                raise NotInShape(f"promises {promised} rows of {table} and gives {len(rows)}")

    def reading(self) -> SourceReading:
        """What the state says."""
        return reading_of(*(Table(table, "row", rows) for table, rows in self._rows.items()))

    def _taken(self, body: bytes) -> Page:
        page = read_page(body)
        self._digest.update(body)
        for table, rows in self._rows.items():
            rows += enumerate(page.rows(table), len(rows) + 1)
            if len(rows) > MAX_ROWS:
                raise NotInShape(f"has more than {MAX_ROWS} rows of {table}")
        return page

    def _check(self, page: Page, number: int) -> None:
        if page.state != self.first.state:
            raise NotInShape("changed while its pages were read")
        if page.page != number:
            raise NotInShape(f"gives page {page.page} for page {number}")
        if (page.pages, page.totals) != (self.first.pages, self.first.totals):
            raise NotInShape("gives other totals on its later pages")
