"""myMdC: the runs of proposals by its REST API.

Source: metadata_client 4.2.2 (MIT), routes and fields of `runs/runs_by_proposal`, pages by `page` and
`page_size`. The client itself is not used: it holds one OAuth session for the process and bounds no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from beamhub_catalogue.api_shape import problem_text
from beamhub_catalogue.sources.asking import expect_list, open_asker
from beamhub_catalogue.sources.catalogue import CatalogueBroken, Cursor, Page
from beamhub_catalogue.told import ToldDataset
from beamhub_core.config.catalogue_sources import MymdcSourceConfig

MAX_PAGES = 100_000


class MymdcSource:
    """A myMdC service as a source of datasets, each a run; it tells no changes, so every pass reads all.

    A cursor is the place of the proposal in the configuration, and the page, that come next.
    """

    def __init__(self, config: MymdcSourceConfig) -> None:
        self._config, self.name = config, config.name
        self._asker = open_asker(config, config.token_file)

    def close(self) -> None:
        """End connections."""
        self._asker.close()

    def changes(self, cursor: Cursor) -> Iterator[Page]:
        """Pages of runs, proposal by proposal."""
        done, page = int(cursor.get("done", 0)), int(cursor.get("page", 1))
        for number, proposal in enumerate(self._config.proposals):
            if number < done:
                continue
            while page <= MAX_PAGES:
                entries = self._page(proposal, page)
                ended = len(entries) < self._config.page_size
                place = {"done": number + 1, "page": 1} if ended else {"done": number, "page": page + 1}
                is_last = ended and number + 1 == len(self._config.proposals)
                yield self._told(proposal, entries, {} if is_last else place)
                page += 1
                if ended:
                    break
            page = 1

    def ids(self) -> Iterator[str]:
        """The ids of all runs."""
        for page in self.changes({}):
            yield from (record.source_id for record in page.records)
            yield from (name for name, _ in page.problems)

    def write_product(self, product: dict[str, Any]) -> str:
        """myMdC takes no products.

        Raises
        ------
        CatalogueBroken
        """
        raise CatalogueBroken(self.name, f"it takes no products, so {product['pid']!r} stays here only")

    def _page(self, proposal: str, page: int) -> list[Any]:
        params = {"proposal_number": proposal, "page": str(page), "page_size": str(self._config.page_size)}
        answer = self._asker.get("api/runs/runs_by_proposal", params)
        return expect_list(self.name, answer.get("runs") if isinstance(answer, dict) else answer)

    def _told(self, proposal: str, entries: list[Any], cursor: Cursor) -> Page:
        records: list[ToldDataset] = []
        problems: list[tuple[str, str]] = []
        for entry in entries:
            try:
                records.append(_record(proposal, entry))
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                named = entry.get("id") if isinstance(entry, dict) else None
                problems.append((str(named)[:300], problem_text(ValueError(str(error)[:200]))))
        return Page(tuple(records), cursor, problems=tuple(problems))


def _record(proposal: str, entry: dict[str, Any]) -> ToldDataset:
    number = entry["run_number"]
    sample = entry.get("sample") or {}
    counted = (("first_train", None), ("last_train", None), ("num_files", None))
    return ToldDataset.model_validate(
        {
            "source_id": str(entry["id"]),
            "proposal": proposal,
            "title": entry.get("run_alias") or f"Run {number} of proposal {proposal}",
            "description": entry.get("remark") or "",
            "instrument": (entry.get("instrument_identifier") or "")[:200],
            "start": entry.get("begin_at"),
            "end": entry.get("end_at"),
            "size_bytes": entry.get("size") or 0,
            "techniques": [
                {"pid": t.get("identifier") or "", "label": t["name"]} for t in entry.get("techniques") or ()
            ],
            "samples": [{"name": sample["name"]}] if sample.get("name") else [],
            "parameters": [{"name": "run_number", "value": number}]
            + [
                {"name": name, "value": entry[name], "unit": unit}
                for name, unit in counted
                if entry.get(name) is not None
            ],
        }
    )
