"""Plans, grants and datasets of a few words, for the laws about plans."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.rights import DatasetRef, Grant, GrantAnswer, PoolPath
from beamhub_core.session import Place, SessionPlan, SessionRequest
from beamhub_spawners.plan import Occasion, session_plan
from contracts.spawner_parts import (
    ACCOUNT,
    EXPLAIN,
    GRANTED_PID,
    OCCASION,
    PLACE,
    facility_fields,
    granted_answer,
    principal,
)

NOW = OCCASION.now
FIELDS = facility_fields(Path("/srv"), hub_url="http://hub", web_url="http://web")
CONFIG = FacilityConfig.model_validate(FIELDS)


def plan(
    answer: GrantAnswer | None = None,
    request: SessionRequest | None = None,
    *,
    place: Place = PLACE,
    occasion: Occasion = OCCASION,
    **person: Any,
) -> SessionPlan:
    return session_plan(
        answer if answer is not None else granted_answer(),
        request if request is not None else SessionRequest(datasets=(GRANTED_PID,)),
        CONFIG,
        principal(**person),
        (place, EXPLAIN),
        occasion,
    )


def grant(path: str, mode: str = "ro", *, pool: str = "hall-a", until: datetime | None = None) -> Grant:
    return Grant.model_validate(
        {
            "account": ACCOUNT,
            "folder": {"pool": pool, "path": path},
            "mode": mode,
            "because": "membership",
            "detail": "",
            "until": until,
            "proposal": path.split("/")[0],
        }
    )


def dataset(path: str, *closure: str) -> DatasetRef:
    return (
        granted_answer()
        .datasets[0]
        .model_copy(
            update={
                "pid": f"demo:{path}",
                "proposal": path.split("/")[0],
                "folder": PoolPath(pool="hall-a", path=path),
                "file": f"{path}/scan.h5",
                "link_closure": tuple(PoolPath(pool="hall-a", path=one) for one in closure),
            }
        )
    )


def answer_of(datasets: list[DatasetRef], grants: list[Grant]) -> GrantAnswer:
    return granted_answer().model_copy(
        update={"datasets": tuple(datasets), "grants": tuple(grants), "ungranted_links": ()}
    )
