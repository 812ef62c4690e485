"""The whole of `facility.yaml` as one model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from beamhub_core.config.catalogue import CatalogueConfig
from beamhub_core.config.document import Location
from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.config.login import LoginConfig
from beamhub_core.config.section import Section, SectionName, TimeZoneName
from beamhub_core.config.services import HubConfig, WebConfig
from beamhub_core.config.storage import PlaceConfig, PoolConfig, SessionsConfig
from beamhub_core.entitlements import parse_entitlement


class FacilityConfig(Section):
    """One facility's platform."""

    name: str = Field(min_length=1, max_length=120, description="Full name, shown on pages and in citations.")
    short_name: SectionName = Field(description="Used in pids of products.")
    timezone: TimeZoneName = Field(default="UTC", description="IANA zone in which embargo days end.")
    pools: tuple[PoolConfig, ...] = Field(
        min_length=1, description="The storage that datasets lie on; names are unique, roots apart."
    )
    login: LoginConfig
    hub: HubConfig
    web: WebConfig
    catalogue: CatalogueConfig
    sessions: SessionsConfig
    gateway: GatewayConfig | None = Field(
        default=None,
        description="Dask clusters beside the sessions; absent: sessions have none but their own.",
    )

    @model_validator(mode="after")
    def _sections_agree(self) -> FacilityConfig:
        found = list(disagreements({name: getattr(self, name) for name in type(self).model_fields}))
        if found:
            raise PydanticCustomError(
                "sections_disagree",
                "{text}",
                {"text": "; ".join(message for _, message in found), "found": found},
            )
        return self


def disagreements(sections: dict[str, Any]) -> Iterator[tuple[Location, str]]:
    """Where sections contradict each other or themselves: location and message of each case.

    A section that could not be read is absent, and what depends on it is left out: so these
    problems are reported together with the others, not after they are solved.
    """
    yield from _names_that_stand_twice(sections)
    login: LoginConfig | None = sections.get("login")
    if login is not None:
        yield from _provider_called_guest(login)
        yield from _role_rules_that_say_nothing(login)
    pools: tuple[PoolConfig, ...] | None = sections.get("pools")
    sessions: SessionsConfig | None = sections.get("sessions")
    catalogue: CatalogueConfig | None = sections.get("catalogue")
    if pools is not None:
        yield from _pools_that_meet(pools)
    if pools is not None and catalogue is not None:
        known = [pool.name for pool in pools]
        for i, root in enumerate(catalogue.harvest_roots):
            if root.pool not in known:
                place = ("catalogue", "harvest_roots", i, "pool")
                yield place, f"no pool is called {root.pool!r}{nearest(root.pool, known)}"
    if sessions is not None:
        yield from _places_that_cannot_be(sessions, pools)
        yield from _profiles_without_environment(sessions)


def _names_that_stand_twice(sections: dict[str, Any]) -> Iterator[tuple[Location, str]]:
    for path in (
        ("pools",),
        ("login", "providers"),
        ("web", "clients"),
        ("catalogue", "user_offices"),
        ("catalogue", "sources"),
        ("sessions", "places"),
        ("sessions", "profiles"),
        ("sessions", "environments"),
        ("sessions", "templates"),
        ("sessions", "limits", "people"),
        ("gateway", "limits", "groups"),
    ):
        value: Any = sections.get(path[0])
        if value is None:
            continue
        for step in path[1:]:
            value = getattr(value, step)
        key = "role" if path[-1] == "people" else "name"
        seen: set[str] = set()
        for i, item in enumerate(value):
            name = getattr(item, key)
            if name in seen:
                yield (*path, i, key), f"the {key} {name!r} stands twice"
            seen.add(name)


def _provider_called_guest(login: LoginConfig) -> Iterator[tuple[Location, str]]:
    for i, provider in enumerate(login.providers if login.guests is not None else ()):
        if provider.name == "guest":
            yield ("login", "providers", i, "name"), "the name 'guest' is that of the guests' login"


def _pools_that_meet(pools: tuple[PoolConfig, ...]) -> Iterator[tuple[Location, str]]:
    """The path is the authority for what a file belongs to, so no file may lie in two pools."""
    for key in ("root", "target"):
        for i, pool in enumerate(pools):
            for other in pools[:i]:
                if lies_in(getattr(pool, key), getattr(other, key)) or lies_in(
                    getattr(other, key), getattr(pool, key)
                ):
                    message = f"{str(getattr(pool, key))!r} and pool {other.name!r} lie in each other"
                    yield ("pools", i, key), message


def _places_that_cannot_be(
    sessions: SessionsConfig, pools: tuple[PoolConfig, ...] | None
) -> Iterator[tuple[Location, str]]:
    known = None if pools is None else {pool.name: pool for pool in pools}
    for i, place in enumerate(sessions.places):
        here = ("sessions", "places", i)
        for key, names in (("pools", place.pools), ("link_costs", tuple(place.link_costs))):
            for name in names if known is not None else ():
                if known is not None and name not in known:
                    yield (*here, key), f"no pool is called {name!r}{nearest(name, known)}"
        for name in place.pools if known is not None and place.backend == "local" else ():
            if known is not None and name in known and known[name].root != known[name].target:
                yield (*here, "pools"), f"a local place needs root = target in pool {name!r}"
        yield from _section_of_another_backend(here, place)
        yield from _folders_without_volume(here, place, sessions)
    if len({place.backend for place in sessions.places}) > 1:
        yield ("sessions", "places"), "one hub has one backend; give other backends a hub of their own"


def _folders_without_volume(
    here: Location, place: PlaceConfig, sessions: SessionsConfig
) -> Iterator[tuple[Location, str]]:
    if place.kubernetes is None:
        return
    for key, name, folder, volume in (
        (
            "unmapped_homes",
            "homes.unmapped_folder",
            sessions.homes.unmapped_folder,
            place.kubernetes.unmapped_homes,
        ),
        ("scratch", "scratch.folder", sessions.scratch, place.kubernetes.scratch),
    ):
        if folder is not None and volume is None:
            yield (*here, "kubernetes", key), f"'{name}' has no volume there"


def _section_of_another_backend(here: Location, place: PlaceConfig) -> Iterator[tuple[Location, str]]:
    for backend, section in (("docker", place.docker), ("kubernetes", place.kubernetes)):
        if place.backend == backend and section is None:
            yield here, f"a {backend} place needs a '{backend}' section"
        if place.backend != backend and section is not None:
            yield (*here, backend), f"a {place.backend} place has no '{backend}' section"
    if place.kubernetes is not None:
        for name in sorted({*place.pools} - {*place.kubernetes.volumes}):
            yield (*here, "kubernetes", "volumes"), f"pool {name!r} has no volume there"
        for name in sorted({*place.kubernetes.volumes} - {*place.pools}):
            yield (*here, "kubernetes", "volumes", name), f"the place mounts no pool called {name!r}"


def _profiles_without_environment(sessions: SessionsConfig) -> Iterator[tuple[Location, str]]:
    known = [environment.name for environment in sessions.environments]
    for i, profile in enumerate(sessions.profiles):
        for name in profile.environments or ():
            if name not in known:
                here = ("sessions", "profiles", i, "environments")
                yield here, f"no environment is called {name!r}{nearest(name, known)}"


def _role_rules_that_say_nothing(login: LoginConfig) -> Iterator[tuple[Location, str]]:
    """A rule that no login can meet: whoever wrote it believes that somebody has the role."""
    known = {provider.name: provider for provider in login.providers}
    for i, rule in enumerate(login.role_rules):
        here = ("login", "role_rules", i)
        provider = known.get(rule.provider)
        if provider is None:
            message = f"no provider is called {rule.provider!r}{nearest(rule.provider, known)}"
            yield (*here, "provider"), message
        elif provider.are_guests:
            yield (*here, "provider"), f"people of {rule.provider!r} are guests and have no other role"
        elif parse_entitlement(rule.entitlement, provider.entitlement_namespaces) is None:
            spaces = ", ".join(provider.entitlement_namespaces) or "none"
            message = (
                f"{rule.entitlement!r} is no group of a namespace of {rule.provider!r} (there: {spaces}); "
                "write <namespace>:group:<group>[:<subgroup>][:role=<role>]"
            )
            yield (*here, "entitlement"), message


def lies_in(path: PurePath, folder: PurePath) -> bool:
    """Whether a path is a folder or something below it, compared component by component."""
    return path.parts[: len(folder.parts)] == folder.parts


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to an unknown one, empty where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
