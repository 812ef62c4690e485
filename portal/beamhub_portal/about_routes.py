"""What this installation enforces, and whether it works."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from beamhub_core.landlock import available_abi, promises
from beamhub_portal.portal import Portal

PROMISE_WORDS = {
    "raw_read_only": "Raw data cannot be written, renamed or deleted from a session.",
    "ungranted_unreadable": "A session cannot read data that its plan does not grant.",
    "other_processes_unreadable": "A session cannot look into the memory of other processes.",
    "signals_scoped": "A session cannot signal processes outside itself.",
    "abstract_sockets": "A session cannot reach abstract sockets of processes outside itself.",
    "device_ioctl": "A session cannot command devices.",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that is, or is not, enforced here."""

    words: str
    kept: bool


def about_router(portal: Portal) -> APIRouter:
    """`about` and `health`."""
    router = APIRouter()

    @router.get("/about")
    def about(request: Request) -> Response:
        local = any(place.backend == "local" for place in portal.config.sessions.places)
        kept = promises(available_abi()) if local else {}
        health = portal.service.health()
        return portal.pages.answer(
            request,
            "about.html",
            portal.visitors.of(request),
            places=portal.config.sessions.places,
            local=local,
            promises=tuple(
                Promise(PROMISE_WORDS.get(name, name.replace("_", " ")), value)
                for name, value in kept.items()
            ),
            policy_version=health.policy_version,
            offices=health.offices,
            profiles=portal.config.sessions.profiles,
            audit_months=portal.config.catalogue.audit.security_log_months,
        )

    @router.get("/health")
    def health() -> Response:
        # Counts would tell what is hidden; operators read them on the internal address.
        found = portal.service.health()
        return JSONResponse(
            {"status": "ok" if found.ok else "degraded", "database": found.database},
            status_code=200 if found.database == "ok" else 503,
        )

    return router
