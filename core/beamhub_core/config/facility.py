"""The whole of `facility.yaml`, and the one function that reads it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from beamhub_core.config.catalogue import CatalogueConfig
from beamhub_core.config.login import LoginConfig
from beamhub_core.config.section import Section, SectionName
from beamhub_core.config.services import HubConfig, WebConfig
from beamhub_core.config.storage import PoolConfig, SessionsConfig
from beamhub_core.errors import ConfigInvalid

MAX_CONFIG_BYTES = 1_000_000


class FacilityConfig(Section):
    """One facility's platform."""

    name: str = Field(min_length=1, max_length=120, description="Full name, shown on pages and in citations.")
    short_name: SectionName = Field(description="Used in pids of products.")
    timezone: str = Field(default="UTC", description="IANA zone in which embargo days end.")
    pools: tuple[PoolConfig, ...] = Field(min_length=1)
    login: LoginConfig
    hub: HubConfig
    web: WebConfig
    catalogue: CatalogueConfig
    sessions: SessionsConfig

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is not an IANA time zone, e.g. 'Europe/Paris'") from error
        return name

    @model_validator(mode="after")
    def _names_agree(self) -> FacilityConfig:
        problems = list(_disagreements(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _disagreements(config: FacilityConfig) -> Iterator[str]:
    pools = {pool.name: pool for pool in config.pools}
    named = [
        ("pools", [pool.name for pool in config.pools]),
        ("sessions.places", [place.name for place in config.sessions.places]),
        ("sessions.profiles", [profile.name for profile in config.sessions.profiles]),
        ("sessions.environments", [environment.name for environment in config.sessions.environments]),
        ("sessions.templates", [template.name for template in config.sessions.templates]),
        ("login.providers", [provider.name for provider in config.login.providers]),
    ]
    for path, names in named:
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{path}: the name {name!r} stands twice"
    for i, place in enumerate(config.sessions.places):
        for pool in (*place.pools, *place.link_costs):
            if pool not in pools:
                yield f"sessions.places[{i}]: no pool is called {pool!r}{_nearest(pool, pools)}"
            elif place.backend == "local" and pools[pool].root != pools[pool].target:
                yield f"sessions.places[{i}]: a local place needs root = target in pool {pool!r}"
        if (place.backend == "docker") != (place.docker is not None):
            yield f"sessions.places[{i}]: a docker place, and no other, has a 'docker' section"
    for i, root in enumerate(config.catalogue.harvest_roots):
        if root.pool not in pools:
            yield f"catalogue.harvest_roots[{i}]: no pool is called {root.pool!r}{_nearest(root.pool, pools)}"
    if len({place.backend for place in config.sessions.places}) > 1:
        yield "sessions.places: one hub has one backend; give other backends a hub of their own"


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def read_config(path: Path) -> FacilityConfig:
    """The configuration in a YAML file.

    Raises
    ------
    ConfigInvalid
        With every problem of the file, each with its path and, for an unknown key, the nearest known one.
    """
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise ConfigInvalid(str(path), (f"the file has {size} bytes, more than {MAX_CONFIG_BYTES}",))
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(str(path), (f"cannot be read: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(str(path), (f"is not UTF-8 (byte {error.start})",)) from error
    except yaml.YAMLError as error:
        raise ConfigInvalid(str(path), (f"is not YAML: {error}",)) from error
    if not isinstance(data, dict):
        raise ConfigInvalid(str(path), ("holds no mapping of sections; see docs/reference/facility.md",))
    try:
        return FacilityConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigInvalid(str(path), tuple(_problems(error))) from None


def _problems(error: ValidationError) -> Iterator[str]:
    for item in error.errors(include_url=False, include_input=True):
        where = _dotted(item["loc"]) or "(top)"
        if item["type"] == "extra_forbidden":
            siblings = _keys_at(item["loc"][:-1])
            yield f"{where}: unknown key{_nearest(str(item['loc'][-1]), siblings)}"
        elif item["type"] == "missing":
            yield f"{where}: is missing"
        elif item["type"] == "value_error":
            message = item["msg"].removeprefix("Value error, ")
            yield from (message.split("; ") if where == "(top)" else [f"{where}: {message}"])
        else:
            yield f"{where}: {item['msg']} (got {_short(item['input'])})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    """The known keys of the section at a place in the file."""
    model: Any = FacilityConfig
    for part in loc:
        if isinstance(part, str):
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                return []
            model = model.model_fields[part].annotation if part in model.model_fields else None
        model = _section_in(model)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _section_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _section_in(argument)
        if found is not None:
            return found
    return None


def json_schema() -> dict[str, Any]:
    """JSON Schema of the configuration, for editors and the chart."""
    return FacilityConfig.model_json_schema()
