"""Storage pools, and the places and profiles that sessions run with."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.config.section import AbsolutePath, HttpUrl, Section, SectionName


class PoolConfig(Section):
    """A file system that places mount."""

    name: SectionName = Field(description="Name of the pool, used everywhere else in this file.")
    root: AbsolutePath = Field(description="Where this host sees the pool (for harvest and local sessions).")
    target: AbsolutePath = Field(
        description="The facility's own path, where sessions see it. Local places need target = root."
    )
    group_mode: Literal["server", "auth_sys"] = Field(
        default="server",
        description="Who expands supplementary groups: the file server, or AUTH_SYS with 16 at most.",
    )


class PlaceConfig(Section):
    """Somewhere a session can run."""

    name: SectionName = Field(description="Name of the place.")
    backend: Literal["local", "docker", "kubernetes"] = Field(
        description="What runs sessions there; all places of one hub have the same."
    )
    pools: tuple[SectionName, ...] = Field(min_length=1, description="Storage pools this place mounts.")
    capacity: int = Field(default=8, gt=0, description="Sessions at once.")
    gpus: int = Field(default=0, ge=0, description="Graphics processors that the place offers.")
    link_costs: dict[SectionName, float] = Field(
        default={}, description="Cost per byte of pools reached over the network."
    )
    docker: DockerPlaceConfig | None = Field(
        default=None, description="How to reach the Docker host; for docker places, and only for them."
    )


class ProfileConfig(Section):
    """A size of server that people may choose."""

    name: SectionName = Field(description="Name of the profile, in links and plans.")
    title: str = Field(description="What people choose by.")
    cpu: float = Field(gt=0, description="Processor cores of one server.")
    memory_gib: float = Field(gt=0, description="Memory limit of one server, GiB.")
    lifetime_h: float = Field(default=12.0, gt=0, description="Hours until the session ends by itself.")
    workers: int = Field(default=2, ge=0, description="Dask workers a session may have.")
    roles: tuple[str, ...] = Field(
        default=("everyone",), min_length=1, description="Facility roles that may use it, or 'everyone'."
    )


class EnvironmentConfig(Section):
    """An allowed software environment."""

    name: SectionName = Field(description="Name of the environment, in links and plans.")
    title: str = Field(description="What people choose by.")
    image: str = Field(description="Image by digest, or 'local' for the platform's own Python.")


class TemplateConfig(Section):
    """A notebook template."""

    name: SectionName = Field(description="Name of the template, in links and plans.")
    title: str = Field(description="What people choose by.")
    technique: str = Field(description="PaNET term it fits.")
    file: str = Field(description="File below `templates_folder`.")


class SessionsConfig(Section):
    """Where and how sessions run."""

    places: tuple[PlaceConfig, ...] = Field(min_length=1)
    profiles: tuple[ProfileConfig, ...] = Field(min_length=1)
    environments: tuple[EnvironmentConfig, ...] = Field(min_length=1)
    templates: tuple[TemplateConfig, ...] = ()
    templates_folder: AbsolutePath = Field(description="Folder of the notebook templates.")
    homes_folder: AbsolutePath = Field(description="Folder of the accounts' homes on the places' machines.")
    state_folder: AbsolutePath = Field(
        description="Run-time files of sessions: pid files, session files, logs."
    )
    web_url: HttpUrl = Field(description="The web service as a running session reaches it.")
    local_read_folders: tuple[AbsolutePath, ...] = Field(
        default=(), description="Software outside the system's folders that local sessions may read and run."
    )
    unmapped_uid_first: int = Field(
        default=200_000_000,
        ge=100_000,
        le=2_000_000_000,
        description="First of the million numeric identities of accounts that have none of their own.",
    )
    start_timeout_s: float = Field(
        default=120.0, gt=0, description="Seconds within which a started server must answer."
    )
    max_servers_per_person: int = Field(
        default=4, ge=1, description="Sessions that one person may have at once."
    )
    unknown_limit_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds that a place may stay silent before its sessions are shown as `unknown`.",
    )
