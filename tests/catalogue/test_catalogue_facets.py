"""Counts of what: exact for every reader, whether a proposal was counted before or is stale."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from beamhub_catalogue.counts import count_again
from beamhub_catalogue.models import DatasetRow, StaleCountRow
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import INES, OSCAR, SAM, Facility  # the folder of these tests, not the room
from catalogue.catalogue_reader_parts import Api, furnish, running_api  # likewise

READERS = (None, OSCAR, INES, SAM)


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Facility]]:
    """The API, and the facility behind it."""
    made = Facility(tmp_path_factory.mktemp("facility"))
    made.prepare()
    service = made.service()
    try:
        furnish(service)
        with running_api(service) as api:
            yield api, service
    finally:
        service.stop()


def truth(api: Api, who: Principal | None) -> dict[str, Counter[str]]:
    """What the lists hold, counted one by one."""
    found: dict[str, Counter[str]] = {
        name: Counter() for name in ("instrument", "technique", "access", "year")
    }
    wanted = json.dumps({"include": ["instrument", "techniques"]})
    for item in api.items("Datasets", who, filter=wanted):
        found["instrument"][item["instrument"]["name"]] += 1
        found["technique"][item["techniques"][0]["pid"]] += 1
        found["access"]["open" if item["isPublic"] else "restricted"] += 1
        found["year"][item["creationDate"][:4]] += 1
    return found


def told(api: Api, who: Principal | None, **query: str) -> dict[str, Counter[str]]:
    """What the facets say of the same."""
    facets = api.get("Datasets/facets", who, **query).json()["facets"]
    return {
        name: Counter({one["value"]: one["count"] for one in facets[name]})
        for name in ("instrument", "technique", "access", "year")
    }


def test_facets_and_counts_are_those_of_the_lists_at_every_stage_of_counting(
    facility: tuple[Api, Facility],
) -> None:
    api, service = facility
    for stage in ("all are stale", "counted", "one changed"):
        with service.database.writing() as session:
            if stage == "counted":
                assert count_again(session) > 0
                assert count_again(session) == 0
            if stage == "one changed":
                session.execute(
                    update(DatasetRow).where(DatasetRow.pid == "t:OP-1:a").values(instrument="bl10")
                )
                assert list(session.scalars(select(StaleCountRow.proposal))) == ["OP-1"]
        for who in READERS:
            assert told(api, who) == truth(api, who), stage
            n = len(api.items("Datasets", who))
            assert api.get("Datasets/count", who).json() == {"count": n}
            assert api.get("Datasets/facets", who).json()["total"] == n
            some = json.dumps({"where": {"title": {"ilike": "si"}}})
            assert api.get("Datasets/facets", who, filter=some).json()["total"] == len(
                api.items("Datasets", who, filter=some)
            )
