"""Whether what a hub wants to create is what the stored plan says. Pure.

The agent renders the plan by the same function as the hub and compares the whole body. It then sends its own
rendering, never the caller's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.session import BackendKind, SessionPlan, StoredSession
from beamhub_core.word import digest
from beamhub_spawners.agent_routes import NotAdmitted
from beamhub_spawners.container_start import SESSION_INFO_VARIABLE
from beamhub_spawners.docker_render import Ground, container_fields
from beamhub_spawners.session_environment import OF_THE_HUB

MAX_VARIABLES = 200
MAX_VARIABLE = 16_384
MAX_DIFFERENCES = 20
SHOWN = 80
TO_BE_MADE = ("planned", "starting")


@dataclass(frozen=True, slots=True)
class Facility:
    """What an agent knows without asking: whose it is, and which place."""

    short_name: str
    place_name: str
    place: DockerPlaceConfig
    extra_variables: frozenset[str] = frozenset()


def check_stored(stored: StoredSession, facility: Facility, *, now: datetime) -> SessionPlan:
    """The plan, if something may be made of it here and now.

    Raises
    ------
    NotAdmitted
        If the plan is not the one that was stored, not this place's, over, or ended.
    """
    return check_plan(stored, place=facility.place_name, backend="docker", now=now)


def check_plan(stored: StoredSession, *, place: str, backend: BackendKind, now: datetime) -> SessionPlan:
    """The plan, if something may be made of it now in a place of a backend.

    Raises
    ------
    NotAdmitted
        If the plan is not the one that was stored, another place's, over, or ended.
    """
    plan = check_unchanged(stored, place=place, backend=backend)
    if plan.expires_at <= now:
        raise NotAdmitted(403, "the plan's time is over")
    if stored.record.state not in TO_BE_MADE:
        raise NotAdmitted(403, f"the session is {stored.record.state}; a plan is made once")
    return plan


def check_unchanged(stored: StoredSession, *, place: str, backend: BackendKind) -> SessionPlan:
    """The plan, if it is the one that was stored, and of a place of a backend.

    Raises
    ------
    NotAdmitted
        If it is another, or another place's.
    """
    plan, record = stored.plan, stored.record
    if digest(plan) != record.plan_hash or plan.id != record.plan_id:
        raise NotAdmitted(403, "hash mismatch: the plan is not the one that was stored")
    if plan.place.name != place or plan.place.backend != backend:
        raise NotAdmitted(403, f"the plan is for the place {plan.place.name!r}")
    return plan


def rendered(
    asked: Any, stored: StoredSession, facility: Facility, ground: Ground
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body that the plan renders to, and how the asked one differs, without values that may be secret.

    Raises
    ------
    NotAdmitted
        If the asked body cannot be compared: no environment, a variable twice or of an unknown name.
    """
    plan = stored.plan
    environment = read_environment(asked, plan, facility)
    try:
        fields = container_fields(
            plan, facility.place, facility=facility.short_name, environment=environment, ground=ground
        )
    except ValueError as error:
        raise NotAdmitted(403, str(error)) from None
    return fields.body, tuple(differences(asked, fields.body))


def read_environment(asked: Any, plan: SessionPlan, facility: Facility) -> dict[str, str]:
    """The variables of an asked body that the plan does not give itself, each of a name that may pass."""
    lines = asked.get("Env") if isinstance(asked, dict) else None
    if not isinstance(lines, list) or len(lines) > MAX_VARIABLES:
        raise NotAdmitted(403, "the environment is no list of variables")
    found: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition("=") if isinstance(line, str) else ("", "", "")
        if not separator or name in found or "\0" in value or len(value) > MAX_VARIABLE:
            raise NotAdmitted(403, "the environment has a variable twice, or one that is none")
        found[name] = value
    own = {"HOME", SESSION_INFO_VARIABLE, *plan.environment_variables}
    outside = set(found) - own - OF_THE_HUB - facility.extra_variables
    if outside:
        raise NotAdmitted(403, f"the environment has variables that no plan has: {_names(outside)}")
    if "JUPYTERHUB_API_TOKEN" not in found:
        raise NotAdmitted(403, "the environment has no token of the session")
    who = {"JUPYTERHUB_USER": plan.account, "JUPYTERHUB_SERVER_NAME": plan.server_name}
    if any(found.get(name, value) != value for name, value in who.items()):
        raise NotAdmitted(403, "the environment is of another account or server")
    url = facility.place.hub_api_url
    if url is not None and found.get("JUPYTERHUB_API_URL") != url.rstrip("/"):
        raise NotAdmitted(403, "the environment names another hub")
    return {name: value for name, value in found.items() if name not in own}


def _names(names: set[str]) -> str:
    return ", ".join(ascii(name[:40]) for name in sorted(names)[:5])


def asked_gpus(asked: Any) -> tuple[str, ...]:
    """The graphics processors that a body asks for by name; whether it may is compared later."""
    host = asked.get("HostConfig") if isinstance(asked, dict) else None
    requests = host.get("DeviceRequests") if isinstance(host, dict) else None
    if not requests:
        return ()
    devices = (
        requests[0].get("DeviceIDs") if isinstance(requests, list) and isinstance(requests[0], dict) else None
    )
    if not isinstance(devices, list) or not all(isinstance(one, str) for one in devices) or len(devices) > 64:
        raise NotAdmitted(403, "the graphics processors are not asked for by name")
    return tuple(devices)


def differences(asked: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ, each with its path; values of the environment are not told."""
    if isinstance(asked, dict) and isinstance(expected, dict):
        for name in sorted(set(asked) | set(expected), key=str):
            here = f"{path}.{str(name)[:SHOWN]}".lstrip(".")
            if name not in asked:
                yield f"{here}: missing"
            elif name not in expected:
                yield f"{here}: not of the plan"
            else:
                yield from differences(asked[name], expected[name], here)
    elif path == "Env":
        yield from _differing_variables(asked, expected)
    elif isinstance(asked, list) and isinstance(expected, list) and len(asked) == len(expected):
        for i, pair in enumerate(zip(asked, expected, strict=True)):
            yield from differences(*pair, f"{path}[{i}]")
    elif type(asked) is not type(expected) or asked != expected:  # True is not 1 here
        if "token" in path:
            yield f"{path}: differs"
        else:
            yield f"{path}: {_shown(asked)} instead of {_shown(expected)}"


def _differing_variables(asked: Any, expected: Any) -> Iterator[str]:
    if not isinstance(asked, list) or not all(isinstance(line, str) for line in asked):
        yield "Env: no list of text"
        return
    if asked != expected:
        lines = set(asked).symmetric_difference(expected)
        yield f"Env: {_names({line.partition('=')[0] for line in lines}) or 'the order'} (values not shown)"


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def same_json(asked: Any, expected: Mapping[str, Any]) -> bool:
    """Whether a body is exactly the expected one."""
    return next(differences(asked, dict(expected)), None) is None
