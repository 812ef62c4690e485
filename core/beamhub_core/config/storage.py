"""Storage pools, and the places and profiles that sessions run with."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from beamhub_core.config.limits import LimitsConfig, QueueConfig
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


class DockerPlaceConfig(Section):
    """How to reach one Docker host."""

    url: str = Field(description="Docker endpoint, e.g. 'unix:///var/run/docker.sock'.")
    image: str | None = Field(default=None, description="Overrides the environment's image on this host.")
    network: str = Field(
        default="bridge", min_length=1, max_length=64, description="Docker network that sessions join."
    )
    hub_api_url: HttpUrl | None = Field(
        default=None,
        description="The hub's API as containers reach it, e.g. 'http://172.17.0.1:8081/hub/api'; "
        "the hub's own idea of its address when absent.",
    )
    tmp_mib: int = Field(default=1024, ge=16, description="Size of a session's /tmp, in memory, MiB.")
    timeout_s: float = Field(default=30.0, gt=0, description="Limit of one call to the engine.")


class PlaceConfig(Section):
    """Somewhere a session can run."""

    name: SectionName = Field(description="Name of the place.")
    backend: Literal["local", "docker", "kubernetes"] = Field(
        description="What runs sessions there; all places of one hub have the same."
    )
    pools: tuple[SectionName, ...] = Field(min_length=1, description="Storage pools this place mounts.")
    capacity: int = Field(default=8, gt=0, description="Sessions at once.")
    gpus: int = Field(default=0, ge=0, description="Graphics processors that the place offers.")
    memory_gib: float | None = Field(
        default=None, gt=0, description="Memory that sessions may use there together, GiB; absent: unbounded."
    )
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
    gpus: int = Field(default=0, ge=0, description="Whole graphics processors of one server.")
    lifetime_h: float = Field(default=12.0, gt=0, description="Hours until the session ends by itself.")
    max_lifetime_h: float | None = Field(
        default=None,
        gt=0,
        description="Hours up to which a person may extend a session; absent: no extension.",
    )
    workers: int = Field(default=2, ge=0, description="Dask workers a session may have.")
    roles: tuple[str, ...] = Field(
        default=("everyone",),
        description="Facility roles that may use it, or 'everyone'; an empty list lets nobody.",
    )
    environments: tuple[SectionName, ...] | None = Field(
        default=None,
        description="Environments that may run in it; absent: all that are open to the person, "
        "an empty list: none.",
    )

    @model_validator(mode="after")
    def _extends_only_forward(self) -> ProfileConfig:
        if self.max_lifetime_h is not None and self.max_lifetime_h < self.lifetime_h:
            raise ValueError(
                f"'max_lifetime_h' {self.max_lifetime_h:g} is below 'lifetime_h' {self.lifetime_h:g}"
            )
        return self


class EnvironmentConfig(Section):
    """An allowed software environment."""

    name: SectionName = Field(description="Name of the environment, in links and plans.")
    title: str = Field(description="What people choose by.")
    image: str = Field(description="Image by digest, or 'local' for the platform's own Python.")
    roles: tuple[str, ...] = Field(
        default=("everyone",),
        description="Facility roles that may use it, or 'everyone'; an empty list lets nobody.",
    )


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
        default=4,
        ge=1,
        description="Sessions that one person may have at once, where `limits` says nothing of the "
        "person's roles.",
    )
    limits: LimitsConfig = LimitsConfig()
    queue: QueueConfig = QueueConfig()
