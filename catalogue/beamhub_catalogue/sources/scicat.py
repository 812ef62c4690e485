"""SciCat: datasets by its REST API, v3 (catamel) or v4 (backend).

Source: SciCat backend 4.x, OpenAPI of `datasets` (fields, `filter` with `where` and `limits`); LoopBack 3
filters for v3. The official Python client is not used: it puts the access token into the address of every
request, where logs keep it, and bounds no answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from beamhub_catalogue.api_shape import problem_text
from beamhub_catalogue.sources.asking import expect_list, open_asker
from beamhub_catalogue.sources.catalogue import CatalogueBroken, Cursor, Page
from beamhub_catalogue.told import ToldDataset
from beamhub_core.config.catalogue_sources import ScicatSourceConfig

MAX_IDS = 20_000_000


class ScicatSource:
    """A SciCat backend as a source of datasets; a cursor is the last `updatedAt` that was read."""

    def __init__(self, config: ScicatSourceConfig) -> None:
        self._config, self.name = config, config.name
        self._asker = open_asker(config, config.token_file)
        self._instruments: dict[str, str] | None = None
        self._path = "Datasets" if config.version == "v3" else "datasets"

    def close(self) -> None:
        """End connections."""
        self._asker.close()

    def changes(self, cursor: Cursor) -> Iterator[Page]:
        """Pages of datasets, the oldest change first; those of the cursor's own instant come again."""
        since = str(cursor.get("since", ""))
        skip = 0
        while True:
            where = {"updatedAt": {"gte" if self._config.version == "v3" else "$gte": since}} if since else {}
            entries = self._page(where, skip, "updatedAt")
            if not entries:
                return
            last = max((str(e.get("updatedAt", "")) for e in entries if isinstance(e, dict)), default=since)
            n_last = sum(isinstance(e, dict) and str(e.get("updatedAt", "")) == last for e in entries)
            since, skip = (last, n_last) if last > since else (since, skip + len(entries))
            yield self._told(entries, {"since": since})
            if len(entries) < self._config.page_size:
                return

    def ids(self) -> Iterator[str]:
        """The pids of all datasets."""
        for skip in range(0, MAX_IDS, self._config.page_size):
            entries = self._page({}, skip, "pid", ["pid"])
            yield from (str(e["pid"]) for e in entries if isinstance(e, dict) and e.get("pid"))
            if len(entries) < self._config.page_size:
                return

    def write_product(self, product: dict[str, Any]) -> str:
        """Make a derived dataset."""
        body = {
            "type": "derived",
            "datasetName": product["title"][:200],
            "description": product["title"],
            "owner": product["who"],
            "contactEmail": self._config.contact,
            "investigator": self._config.contact,
            "ownerGroup": product["proposal"],
            "accessGroups": [],
            "sourceFolder": product["folder"],
            "creationTime": product["made_at"],
            "inputDatasets": product["inputs"],
            "usedSoftware": product["software"],
            "jobParameters": product["parameters"],
            "isPublished": False,
            "keywords": [],
        }
        answer = self._asker.post(self._path, body=body)
        if not isinstance(answer, dict) or not isinstance(answer.get("pid"), str):
            raise CatalogueBroken(self.name, "it names no pid for a new dataset")
        return str(answer["pid"])

    def _page(
        self, where: dict[str, Any], skip: int, order: str, fields: list[str] | None = None
    ) -> list[Any]:
        size = self._config.page_size
        told: dict[str, Any] = {"where": where} | ({"fields": fields} if fields else {})
        if self._config.version == "v3":
            told |= {"limit": size, "skip": skip, "order": f"{order} ASC"}
        else:
            told |= {"limits": {"limit": size, "skip": skip, "order": f"{order}:asc"}}
        return expect_list(self.name, self._asker.get(self._path, {"filter": json.dumps(told)}))

    def _told(self, entries: list[Any], cursor: Cursor) -> Page:
        records: list[ToldDataset] = []
        problems: list[tuple[str, str]] = []
        for entry in entries:
            pid = entry.get("pid") if isinstance(entry, dict) else None
            try:
                records.append(self._record(entry))
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                problems.append((str(pid)[:300], problem_text(ValueError(str(error)[:200]))))
        return Page(tuple(records), cursor, problems=tuple(problems))

    def _record(self, entry: dict[str, Any]) -> ToldDataset:
        proposal = entry.get("proposalId") or next(iter(entry.get("proposalIds") or ()), None)
        if not proposal:
            raise ValueError("names no proposal")
        instruments = entry.get("instrumentIds") or [entry.get("instrumentId")]
        owner = entry.get("owner")
        person = {"name": owner, "orcid": entry.get("orcidOfOwner"), "role": "owner"}
        return ToldDataset.model_validate(
            {
                "source_id": entry["pid"],
                "pid": entry["pid"],
                "proposal": proposal,
                "title": entry.get("datasetName") or entry["pid"],
                "description": entry.get("description") or "",
                "keywords": entry.get("keywords") or (),
                "instrument": self._instrument(instruments[0]),
                "start": entry.get("creationTime"),
                "end": entry.get("endTime"),
                "size_bytes": entry.get("size") or 0,
                "folder": entry.get("sourceFolder"),
                "license": entry.get("license"),
                "closed_until": None if entry.get("isPublished") is True else date.max,
                "techniques": [
                    {"pid": t.get("pid") or "", "label": t.get("name") or t.get("pid")}
                    for t in entry.get("techniques") or ()
                ],
                "samples": [{"name": s} for s in _strings(entry, "sampleIds", "sampleId")],
                "parameters": list(_parameters(entry.get("scientificMetadata"))),
                "people": [person] if isinstance(owner, str) and owner else [],
            }
        )

    def _instrument(self, pid: str | None) -> str:
        """The name of an instrument; its pid where the catalogue does not say it."""
        if not pid:
            return ""
        if self._instruments is None:
            path = "Instruments" if self._config.version == "v3" else "instruments"
            entries = expect_list(self.name, self._asker.get(path, {"filter": "{}"}))
            self._instruments = {
                str(e.get("pid")): str(e.get("name"))
                for e in entries
                if isinstance(e, dict) and e.get("name")
            }
        return self._instruments.get(pid, pid)[:200]


def _strings(entry: dict[str, Any], many: str, one: str) -> list[str]:
    found = entry.get(many) or ([entry[one]] if entry.get(one) else [])
    return [name for name in found if isinstance(name, str) and name]


def _parameters(metadata: Any) -> Iterator[dict[str, Any]]:
    """Scientific metadata: a value with a unit, or a plain value; deeper tables are left out."""
    if not isinstance(metadata, dict):
        return
    for name, told in list(metadata.items())[:2_000]:
        value, unit = (told.get("value"), told.get("unit")) if isinstance(told, dict) else (told, None)
        if isinstance(value, bool | int | float | str) and isinstance(name, str) and 0 < len(name) <= 120:
            yield {"name": name, "value": value, "unit": unit if isinstance(unit, str) and unit else None}
