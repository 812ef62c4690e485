"""Acts upon proposals over the internal API, and what the catalogue then shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from beamhub_catalogue.views import DatasetView, SearchFilters
from beamhub_core.config import FacilityConfig
from beamhub_core.identity import Principal
from catalogue.catalogue_api_parts import RAW, Api, Stocked, copy_of, serve
from catalogue.catalogue_parts import CLASSES, Facility, person

EXTENDABLE = CLASSES | {"standard": CLASSES["standard"] | {"extension_months": [12, 6]}}
SUPPORT = person("uma", role="support")
OPENS = datetime(2028, 10, 9, 22, tzinfo=UTC)


class ActingFacility(Facility):
    """A facility whose hub may tell acts."""

    def config(self) -> FacilityConfig:
        """The configuration with the hub's further scope."""
        words = super().config().model_dump(mode="json")
        words["web"]["clients"][0]["scopes"].append("acts:write")
        return FacilityConfig.model_validate(words)


def act(kind: str, proposal: str = "MA-2", number: int = 1, **said: Any) -> dict[str, Any]:
    """An act as the internal API takes it."""
    return {"id": f"{number:032x}", "proposal": proposal, "kind": kind, "reason": "decided"} | said


def tell(api: Api, who: Principal | None, told: dict[str, Any]) -> tuple[int, str]:
    """Status of an act that somebody, None for an operator, makes, and why not."""
    body = {"act": told} | ({"account": who.account} if who else {})
    answer = api.ask("PUT", f"/acts/{told['id']}", body)
    refused = answer.json() or {}
    return answer.status_code, refused.get("refusal", {}).get("reason", "") if refused else ""


def revoke(api: Api, number: int = 1, who: Principal | None = None) -> int:
    """Status of taking an act back, by somebody or, with None, by an operator."""
    query = f"?account={who.account}" if who else ""
    return api.ask("DELETE", f"/acts/{number:032x}{query}").status_code


def view(stocked: Stocked, who: Principal | None, pid: str = RAW) -> DatasetView:
    """A dataset's page as somebody sees it."""
    found = stocked.service.dataset_page(who, pid)
    assert isinstance(found, DatasetView)
    return found


def reads(stocked: Stocked, who: Principal | None, pid: str = RAW) -> bool:
    """Whether somebody reads a dataset, as its page and as the list of what may be read say."""
    listed = stocked.service.search(who, filters=SearchFilters(readable_only=True)).hits
    found = stocked.service.dataset_page(who, pid)
    may = isinstance(found, DatasetView) and found.may_read
    assert may == (pid in {hit.pid for hit in listed})
    return may


@contextmanager
def open_acting(prepared: Path, folder: Path) -> Iterator[Stocked]:
    """A copy of the prepared facility whose hub may tell acts, with everybody logged in."""
    facility = ActingFacility(copy_of(prepared, folder).folder)
    facility.write_policy(EXTENDABLE)
    with serve(facility) as stocked:
        stocked.api.push(SUPPORT)
        yield stocked
