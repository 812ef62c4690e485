"""Another beamhub, or any service with the PaNOSC search API: its public and granted datasets.

Source: PaNOSC search API, data model and `filter` (where, include, order, limit).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from beamhub_catalogue.api_shape import dataset_of, problem_text
from beamhub_catalogue.sources.asking import expect_list, open_asker
from beamhub_catalogue.sources.catalogue import CatalogueBroken, Cursor, Page
from beamhub_catalogue.told import ToldDataset
from beamhub_core.config.catalogue_sources import BeamhubSourceConfig

RELATIONS = ("documents", "techniques", "instrument", "files", "parameters", "samples")


class PanoscSource:
    """A search API as a source of datasets; it tells no changes, so every pass reads all, by pid.

    A cursor is the last pid of an unfinished pass.
    """

    def __init__(self, config: BeamhubSourceConfig) -> None:
        self._config, self.name = config, config.name
        self._asker = open_asker(config, config.token_file)

    def close(self) -> None:
        """End connections."""
        self._asker.close()

    def changes(self, cursor: Cursor) -> Iterator[Page]:
        """Pages of datasets by pid, with everything that hangs on them."""
        after = cursor.get("after")
        while True:
            entries = self._page(after if isinstance(after, str) else None, RELATIONS)
            pids = [e["pid"] for e in entries if isinstance(e, dict) and isinstance(e.get("pid"), str)]
            ended = len(entries) < self._config.page_size or not pids
            after = pids[-1] if pids else None
            yield self._told(entries, {} if ended else {"after": after})
            if ended:
                return

    def ids(self) -> Iterator[str]:
        """The pids of all datasets that are shown to us."""
        after: str | None = None
        while True:
            entries = self._page(after, ())
            pids = [e["pid"] for e in entries if isinstance(e, dict) and isinstance(e.get("pid"), str)]
            yield from pids
            if len(entries) < self._config.page_size or not pids:
                return
            after = pids[-1]

    def write_product(self, product: dict[str, Any]) -> str:
        """A search API takes nothing.

        Raises
        ------
        CatalogueBroken
        """
        raise CatalogueBroken(self.name, f"it takes no products, so {product['pid']!r} stays here only")

    def _page(self, after: str | None, relations: tuple[str, ...]) -> list[Any]:
        told: dict[str, Any] = {"order": "pid ASC", "limit": self._config.page_size}
        if after is not None:
            told["where"] = {"pid": {"gt": after}}
        if relations:
            told["include"] = [{"relation": name} for name in relations]
        return expect_list(self.name, self._asker.get("api/Datasets", {"filter": json.dumps(told)}))

    def _told(self, entries: list[Any], cursor: Cursor) -> Page:
        records: list[ToldDataset] = []
        problems: list[tuple[str, str]] = []
        for entry in entries:
            try:
                records.append(dataset_of(entry).model_copy(update={"closed_until": _closed_until(entry)}))
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                named = entry.get("pid") if isinstance(entry, dict) else None
                fault = error if isinstance(error, ValueError) else ValueError(str(error)[:200])
                problems.append((str(named)[:300], problem_text(fault)))
        return Page(tuple(records), cursor, problems=tuple(problems))


def _closed_until(entry: dict[str, Any]) -> date | None:
    """None for what is public there; else the day before its release, or the last of all days."""
    if entry.get("isPublic") is True:
        return None
    releases = [document.get("releaseDate") for document in entry.get("documents") or ()]
    days = [datetime.fromisoformat(text).date() for text in releases if isinstance(text, str)]
    return max(days) - timedelta(days=1) if days else date.max
