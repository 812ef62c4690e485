"""Storage pools, and the places and profiles that sessions run with."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.config.limits import IdleConfig, LimitsConfig, PreStartConfig, QueueConfig
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
    access: Literal["rw", "ro"] = Field(
        default="rw",
        description="How the places' hosts mount it. Of a pool that they mount read-only nothing is ever "
        "mounted writable into a session.",
    )
    squash: Literal["none", "root", "all"] = Field(
        default="none",
        description="Whom the file server takes for nobody: root (folders are then resolved and made as the "
        "person), or everybody (then nothing is mounted writable).",
    )
    propagation: Literal["private", "host_to_container"] = Field(
        default="private",
        description="Whether what the host mounts below it later appears in running sessions (automounters). "
        "Needs access: ro, because such a mount keeps the host's own mode.",
    )
    recursive_read_only: bool = Field(
        default=False,
        description="Sessions must see file systems that are mounted below its folders, read-only too. "
        "Needs engine 25 on Docker hosts; a place that cannot, as all on Kubernetes, is refused. Excludes "
        "propagation.",
    )
    must_be_mount: bool = Field(
        default=False,
        description="The root must be a mount point: an empty folder under a mount that is missing is a "
        "fault, not an empty pool.",
    )

    @model_validator(mode="after")
    def _demands_agree(self) -> Self:
        if self.propagation == "host_to_container" and self.recursive_read_only:
            raise ValueError(
                "propagation and recursive_read_only exclude each other: a mount that is recursively "
                "read-only takes no later mounts; drop one"
            )
        if self.propagation == "host_to_container" and self.access != "ro":
            raise ValueError(
                "propagation 'host_to_container' needs access 'ro': what the host mounts later keeps the "
                "host's mode, so have the host mount it read-only and declare that"
            )
        return self

    @property
    def takes_writes(self) -> bool:
        """Whether a session may have a folder of it to write to."""
        return self.access == "rw" and self.squash != "all"


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
    kubernetes: KubernetesPlaceConfig | None = Field(
        default=None, description="Which nodes and volumes it is; for kubernetes places, and only for them."
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
    idle_h: float | None = Field(
        default=None,
        gt=0,
        description="Hours without any activity after which a session is warned and then stopped; absent: "
        "it runs until its end.",
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
    desktop: bool = Field(
        default=False,
        description="Whether its image shows a desktop at `desktop/` of the server, as images/desktop does. "
        "Its sessions are opened there, too, and without a template at once.",
    )


class TemplateConfig(Section):
    """A notebook template."""

    name: SectionName = Field(description="Name of the template, in links and plans.")
    title: str = Field(description="What people choose by.")
    technique: str = Field(description="PaNET term it fits.")
    file: str = Field(description="File below `templates_folder`.")


class HomesConfig(Section):
    """What the homes in `homes_folder` may hold, and where accounts without a number have theirs."""

    unmapped_folder: AbsolutePath | None = Field(
        default=None,
        description="Homes of accounts without a numeric identity at the facility; `homes_folder` when "
        "absent. Name a folder outside the facility's own storage.",
    )
    quota_gib: float | None = Field(default=None, gt=0, description="What one home may hold, GiB.")
    quota_command: tuple[str, ...] = Field(
        default=(),
        description="Program that sets the quota of a folder; run as root before each start with three more "
        "arguments: uid, path, bytes. Without it the limit is measured and shown, not enforced.",
    )

    @model_validator(mode="after")
    def _command_is_runnable(self) -> Self:
        _check_quota_command(self.quota_command, self.quota_gib)
        return self


class ScratchConfig(Section):
    """Space for intermediate results that nobody keeps."""

    folder: AbsolutePath = Field(description="Folder of the accounts' scratch folders on the places' hosts.")
    quota_gib: float | None = Field(default=None, gt=0, description="What one scratch folder may hold, GiB.")
    quota_command: tuple[str, ...] = Field(default=(), description="As in `homes`.")
    lifetime_days: int | None = Field(
        default=None, ge=1, description="Days after its last use for which a file is kept; ever when absent."
    )

    @model_validator(mode="after")
    def _command_is_runnable(self) -> Self:
        _check_quota_command(self.quota_command, self.quota_gib)
        return self


def _check_quota_command(command: tuple[str, ...], quota_gib: float | None) -> None:
    if command and not command[0].startswith("/"):
        raise ValueError(f"quota_command: {command[0]!r} is not an absolute path")
    if command and quota_gib is None:
        raise ValueError("quota_command needs quota_gib: there is no limit to set")


class SessionsConfig(Section):
    """Where and how sessions run."""

    places: tuple[PlaceConfig, ...] = Field(min_length=1)
    profiles: tuple[ProfileConfig, ...] = Field(min_length=1)
    environments: tuple[EnvironmentConfig, ...] = Field(min_length=1)
    templates: tuple[TemplateConfig, ...] = ()
    templates_folder: AbsolutePath = Field(description="Folder of the notebook templates.")
    homes_folder: AbsolutePath = Field(description="Folder of the accounts' homes on the places' machines.")
    homes: HomesConfig = Field(
        default=HomesConfig(), description="What homes may hold, and where some of them lie instead."
    )
    scratch: ScratchConfig | None = Field(
        default=None, description="Scratch folders of the accounts; none when absent."
    )
    state_folder: AbsolutePath = Field(
        description="Run-time files of sessions: pid files, session files, logs, and the numbers given to "
        "accounts that have none."
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
    unknown_limit_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds that a place may stay silent before its sessions are shown as `unknown`.",
    )
    limits: LimitsConfig = LimitsConfig()
    queue: QueueConfig = QueueConfig()
    idle: IdleConfig = IdleConfig()
    pre_start: PreStartConfig | None = Field(
        default=None,
        description="Lets people have a session prepared before they open it; absent: nobody can.",
    )
