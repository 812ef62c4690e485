"""A facility whose places are nodes of a cluster, and plans for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.rights import GrantAnswer
from beamhub_core.session import SessionPlan, SessionRequest
from beamhub_spawners.plan import session_plan
from contracts.spawner_parts import (
    EXPLAIN,
    GRANTED_PID,
    OCCASION,
    PLACE,
    facility_fields,
    granted_answer,
    principal,
)

IMAGE = "registry.example.org/base@sha256:" + "5" * 64
PLACES: dict[str, dict[str, Any]] = {
    name: {
        "namespace": "sessions",
        "volumes": {name: {"claim": name}},
        "homes": {"claim": "homes"},
        "node_labels": {"facility.example/storage": node},
        "hub_api_url": "http://hub.beamhub:8081/hub/api",
    }
    for name, node in (("hall-a", "node-a"), ("hall-b", "node-b"))
}


def kubernetes_facility(
    folder: Path = Path("/srv"),
    *,
    hub_url: str = "http://hub",
    web_url: str = "http://web",
    **changes: Any,
) -> dict[str, Any]:
    """The fields of a facility with two places on one cluster, each with these changes of its section."""
    fields = facility_fields(folder, hub_url=hub_url, web_url=web_url, target="/data")
    for place in fields["sessions"]["places"]:
        place.update(backend="kubernetes", kubernetes={**PLACES[place["name"]], **changes})
    fields["sessions"]["environments"][0]["image"] = IMAGE
    return fields


def kubernetes_plan(
    fields: dict[str, Any], answer: GrantAnswer | None = None, *, profile: str | None = None, **person: Any
) -> tuple[SessionPlan, FacilityConfig, KubernetesPlaceConfig]:
    """A plan for the first place, of a person with these changes, with what it is rendered with."""
    config = FacilityConfig.model_validate(fields)
    placed = (PLACE.model_copy(update={"backend": "kubernetes"}), EXPLAIN)
    request = SessionRequest(datasets=(GRANTED_PID,), profile=profile)
    who = principal(**{"uid": 4711, "gid": 4700, "gids": (4701, 4702), **person})
    plan = session_plan(answer or granted_answer(), request, config, who, placed, OCCASION)
    place = config.sessions.places[0].kubernetes
    assert place is not None
    return plan, config, place
