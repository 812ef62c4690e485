"""ICAT: datasets by the REST interface of icat.server.

Source: icat.server 6.0, ICAT REST interface (`session`, `entityManager`), ICAT schema 6.0 (Dataset,
Investigation, DatasetParameter). python-icat is not used here: it speaks SOAP and builds itself from the
server's WSDL, which no stand-in has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from beamhub_catalogue.api_shape import problem_text
from beamhub_catalogue.sources.asking import expect_list, open_asker
from beamhub_catalogue.sources.catalogue import CatalogueBroken, Cursor, Page
from beamhub_catalogue.sources.rest_fetch import FetchFailed, read_token
from beamhub_catalogue.told import ToldDataset
from beamhub_core.config.catalogue_sources import IcatSourceConfig

_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,15}(Z|[+-][0-9:]{4,6})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ /-]{0,99}")
INCLUDE = (
    "INCLUDE d.investigation AS i, i.investigationInstruments AS ii, ii.instrument, d.sample, "
    "d.parameters AS p, p.type"
)


class IcatSource:
    """An ICAT server as a source of datasets; a cursor is the last (modTime, id) that was read."""

    def __init__(self, config: IcatSourceConfig) -> None:
        self._config, self.name = config, config.name
        self._asker = open_asker(config)
        self._session_id: str | None = None

    def close(self) -> None:
        """End connections; the session ends by itself."""
        self._asker.close()

    # The server's query language has no parameters: what stands in a query is an instant or a number of ours.
    def changes(self, cursor: Cursor) -> Iterator[Page]:
        """Pages of datasets by modTime and id."""
        since, after = cursor.get("since"), cursor.get("after", 0)
        while True:
            where = ""
            if isinstance(since, str) and _INSTANT.fullmatch(since) and isinstance(after, int):
                where = f"WHERE d.modTime > {{ts {_ts(since)}}} OR "
                where += f"(d.modTime = {{ts {_ts(since)}}} AND d.id > {after}) "
            entries = self._ask(
                f"SELECT d FROM Dataset d {where}ORDER BY d.modTime, d.id LIMIT 0, {{n}} {INCLUDE}"  # noqa: S608
            )
            told = [entry["Dataset"] for entry in entries if isinstance(entry, dict) and "Dataset" in entry]
            if not told:
                return
            since, after = str(told[-1].get("modTime")), int(told[-1].get("id") or 0)
            yield self._told(told, {"since": since, "after": after})
            if len(entries) < self._config.page_size or not _INSTANT.fullmatch(since):
                return

    def ids(self) -> Iterator[str]:
        """The ids of all datasets."""
        after = 0
        while True:
            found = self._ask(f"SELECT d.id FROM Dataset d WHERE d.id > {after} ORDER BY d.id LIMIT 0, {{n}}")  # noqa: S608
            numbers = [number for number in found if isinstance(number, int)]
            yield from map(str, numbers)
            if len(found) < self._config.page_size or not numbers:
                return
            after = numbers[-1]

    def write_product(self, product: dict[str, Any]) -> str:
        """Make a dataset of the type 'processed' in the product's investigation."""
        proposal = product["proposal"]
        if not _NAME.fullmatch(proposal):
            raise CatalogueBroken(self.name, f"{proposal!r} is no name of an investigation")
        investigation = self._one(f"SELECT i.id FROM Investigation i WHERE i.name = '{proposal}'")  # noqa: S608
        kind = self._one("SELECT t.id FROM DatasetType t WHERE t.name = 'processed'")
        dataset = {
            "name": product["pid"][:255],
            "description": product["title"][:255],
            "complete": True,
            "location": product["folder"],
            "startDate": product["made_at"],
            "endDate": product["made_at"],
            "investigation": {"id": investigation},
            "type": {"id": kind},
        }
        form = {"sessionId": self._session(), "entities": json.dumps([{"Dataset": dataset}])}
        made = expect_list(self.name, self._asker.post("icat/entityManager", form=form))
        if len(made) != 1 or not isinstance(made[0], int):
            raise CatalogueBroken(self.name, "it names no id for a new dataset")
        return str(made[0])

    def _one(self, query: str) -> int:
        found = self._ask(query)
        if len(found) != 1 or not isinstance(found[0], int):
            raise CatalogueBroken(self.name, f"it has not one answer to {query!r}")
        return found[0]

    def _ask(self, query: str) -> list[Any]:
        asked = query.replace("{n}", str(self._config.page_size))
        answer = self._asker.get("icat/entityManager", {"sessionId": self._session(), "query": asked})
        return expect_list(self.name, answer)

    def _session(self) -> str:
        if self._session_id is None:
            try:
                password = read_token(self._config.password_file)
            except FetchFailed as failed:
                raise CatalogueBroken(self.name, f"it {failed.reason}") from None
            told = {
                "plugin": self._config.plugin,
                "credentials": [{"username": self._config.username}, {"password": password}],
            }
            answer = self._asker.post("icat/session", form={"json": json.dumps(told)})
            session = answer.get("sessionId") if isinstance(answer, dict) else None
            if not isinstance(session, str) or not 0 < len(session) <= 200:
                raise CatalogueBroken(self.name, "it gives no session")
            self._session_id = session
        return self._session_id

    def _told(self, entries: list[Any], cursor: Cursor) -> Page:
        records: list[ToldDataset] = []
        problems: list[tuple[str, str]] = []
        for entry in entries:
            try:
                records.append(_record(entry))
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                problems.append((str(entry.get("id"))[:300], problem_text(ValueError(str(error)[:200]))))
        return Page(tuple(records), cursor, problems=tuple(problems))


def _record(entry: dict[str, Any]) -> ToldDataset:
    investigation = entry["investigation"]
    instruments = [one["instrument"] for one in investigation.get("investigationInstruments") or ()]
    sample = entry.get("sample")
    doi = entry.get("doi")
    return ToldDataset.model_validate(
        {
            "source_id": str(entry["id"]),
            "pid": doi or None,
            "doi": doi or None,
            "proposal": investigation["name"],
            "title": entry["name"],
            "description": entry.get("description") or "",
            "instrument": (instruments[0].get("name") or "")[:200] if instruments else "",
            "start": entry.get("startDate"),
            "end": entry.get("endDate"),
            "size_bytes": entry.get("fileSize") or 0,
            "folder": entry.get("location"),
            "closed_until": _closed_until(investigation.get("releaseDate")),
            "samples": [{"pid": sample.get("pid"), "name": sample["name"]}] if sample else [],
            "parameters": [_parameter(one) for one in entry.get("parameters") or ()],
        }
    )


def _closed_until(release: Any) -> date:
    """The day before the release; the last of all days where none is told."""
    if not isinstance(release, str):
        return date.max
    return datetime.fromisoformat(release).date() - timedelta(days=1)


def _parameter(told: dict[str, Any]) -> dict[str, Any]:
    """One of three columns holds the value, by its type."""
    values = (told.get("numericValue"), told.get("stringValue"), told.get("dateTimeValue"))
    kind = told["type"]
    unit = kind.get("units")
    value = next(value for value in values if value is not None)
    return {"name": kind["name"], "value": value, "unit": unit if unit and unit != "NA" else None}


def _ts(instant: str) -> str:
    """An instant as the server's queries take it."""
    return datetime.fromisoformat(instant).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
