"""One session: what was asked for, what was planned, what became of it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from beamhub_core.rights import PoolPath, RelativePath
from beamhub_core.word import Word

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
BackendKind = Literal["local", "docker", "kubernetes"]
MountMode = Literal["ro", "rw"]
Propagation = Literal["private", "host_to_container"]
SessionState = Literal["planned", "starting", "running", "unknown", "stopping", "ended", "failed"]
LIVE_STATES: tuple[SessionState, ...] = ("planned", "starting", "running", "unknown", "stopping")


def server_name_for(pids: tuple[str, ...]) -> str:
    """The server that an *Open* of these datasets starts or finds again; order does not matter."""
    return "d-" + hashlib.sha256("\n".join(sorted(pids)).encode()).hexdigest()[:10]


class SessionRequest(Word):
    """The validated `user_options`: names only, never a path, id, image or mode."""

    datasets: tuple[
        Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")], ...
    ] = Field(default=(), max_length=64)
    profile: Name | None = None
    environment: Name | None = None
    template: Name | None = None
    prepare: bool = Field(
        default=False, description="Start it before anybody opens it; it gives way to those who wait."
    )

    @model_validator(mode="after")
    def _each_dataset_once(self) -> SessionRequest:
        if len(set(self.datasets)) != len(self.datasets):
            raise ValueError("a dataset is named twice")
        return self


class Limits(Word):
    """What one server may use."""

    cpu: float = Field(gt=0)
    memory_gib: float = Field(gt=0)
    pids: int = Field(default=512, gt=0)
    gpus: int = Field(default=0, ge=0, description="Whole graphics processors.")


class ClusterLimits(Word):
    """What the Dask clusters of one session may use together."""

    max_workers: int = Field(ge=0)
    threads_per_worker: int = Field(ge=1)
    memory_gib: float = Field(gt=0)


class Place(Word):
    """Somewhere a session can run, as the inventory knows it now."""

    name: Name
    site: str = "main"
    backend: BackendKind
    fault: str | None = Field(
        default=None, description="Why nothing can be started there now, in plain words; None: something can."
    )
    pools: tuple[Name, ...] = Field(description="Storage pools it mounts.")
    healthy_pools: tuple[Name, ...]
    pool_faults: dict[str, str] = Field(
        default={}, description="Why a pool that it should mount cannot be used there now, in plain words."
    )
    read_only_pools: tuple[Name, ...] = Field(
        default=(), description="Of the healthy pools, those that nothing can be written to there now."
    )
    capacity: int = Field(ge=0, description="Sessions it can hold.")
    running: int = Field(default=0, ge=0)
    warm: int = Field(default=0, ge=0)
    gpus: int = Field(default=0, ge=0)
    gpus_used: int = Field(default=0, ge=0, description="Of them, those of running sessions.")
    memory_free_gib: float | None = Field(
        default=None, description="Memory that sessions may still take, GiB; None: not bounded."
    )
    image_faults: dict[str, str] = Field(
        default={}, description="Images that the place cannot have, and why, in plain words."
    )
    images: tuple[str, ...] = Field(default=(), description="Image references already present.")
    link_costs: dict[str, float] = Field(
        default={}, description="Cost per byte of a pool reached over the network."
    )


class PlaceVerdict(Word):
    """What placement thought of one place."""

    place: str
    fits: bool
    reasons: tuple[str, ...] = Field(description="Why it was ruled out, or what its score is made of.")
    bytes_local: int = 0
    link_cost: float = 0.0


class ExplainRecord(Word):
    """Why a session runs here and not there; for people and for the audit."""

    chosen: str
    because: str
    verdicts: tuple[PlaceVerdict, ...]
    notes: tuple[str, ...] = Field(
        default=(), description="What the person should know of this session, in plain words."
    )


class Mount(Word):
    """One folder as the session sees it."""

    pool: str = Field(description="Storage pool, or 'home' / 'scratch' for what belongs to the person.")
    path: RelativePath
    source: str = Field(description="Absolute path on the place's machines.")
    target: str = Field(description="Absolute path in the session: the facility's own.")
    mode: MountMode
    purpose: Literal["raw", "processed", "home", "scratch"]
    propagation: Propagation = Field(
        default="private",
        description="Whether what the host mounts below it later appears in the session (automounter pools).",
    )
    pid: str | None = None
    proposal: str | None = None


class PlannedDataset(Word):
    """A dataset as the session's notebooks name it."""

    pid: str
    title: str
    proposal: str
    technique: str
    instrument: str
    file: str = Field(description="Absolute path of the master file in the session.")
    missing: tuple[str, ...] = Field(
        default=(), description="Linked files that are absent or not granted, by name."
    )


class PlannedTemplate(Word):
    """The notebook to open, by content, and its parameters."""

    name: Name
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the notebook file.")
    file: str = Field(
        description="File below the templates folder, e.g. 'powder_diffraction/powder_diffraction.ipynb'."
    )
    parameters: dict[str, str | int | float | bool]


class SessionPlan(Word):
    """Everything one session is. Stored before anything is created; never a secret."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    account: str
    server_name: str
    display_name: str
    principal_label: str = Field(description="Issuer and subject's readable label, for provenance.")
    place: Place
    environment: str
    image: str = Field(description="Image by digest, or 'local' for a server without one.")
    profile: str
    mounts: tuple[Mount, ...]
    datasets: tuple[PlannedDataset, ...]
    ungranted_links: tuple[PoolPath, ...] = ()
    template: PlannedTemplate | None
    uid: int | None
    gid: int | None
    gids: tuple[int, ...] = ()
    limits: Limits
    cluster_limits: ClusterLimits
    environment_variables: dict[str, str]
    created_at: datetime
    expires_at: datetime
    policy_version: str
    explain: ExplainRecord
    trace_id: str = Field(
        default="",
        pattern=r"^([0-9a-f]{32})?$",
        description="One id over plan, create, boot, ready, route and first cell (W3C Trace Context).",
    )
    is_rescue: bool = Field(
        default=False, description="The home is full: the session writes to memory only, to clear it up."
    )
    is_prepared: bool = Field(
        default=False, description="Started before anybody opened it: ended again where nobody does."
    )


class SessionRecord(Word):
    """The mutable side of a session."""

    plan_id: str
    plan_hash: str
    account: str
    server_name: str
    state: SessionState
    token_digest: str | None = Field(
        default=None, description="SHA-256 of the server's hub token, hexadecimal."
    )
    backend_id: str | None = Field(default=None, description="Process, container or pod.")
    url: str | None = None
    reason: str | None = None
    created_at: datetime
    last_seen: datetime
    expires_at: datetime | None = Field(
        default=None, description="When it ends now: an extension moves it, the plan stays as it is."
    )


class SessionUpdate(Word):
    """What the hub tells web of a session; absent fields stay as they are."""

    state: SessionState | None = None
    token_digest: str | None = None
    backend_id: str | None = None
    url: str | None = None
    reason: str | None = None
    phases_s: dict[Name, Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        default=None, max_length=16, description="Seconds that each phase of the start took."
    )


class StoredSession(Word):
    """A plan with its record, as web hands it out."""

    plan: SessionPlan
    record: SessionRecord

    @property
    def ends_at(self) -> datetime:
        """When the session ends by itself: what the record says, else the plan."""
        return self.record.expires_at or self.plan.expires_at


class SessionVerdict(Word):
    """What a re-check of a live session's rights asks the hub to do."""

    plan_id: str
    account: str
    server_name: str
    action: Literal["none", "notify", "warn", "stop"]
    reason: str
    deadline: datetime | None = None


class SessionInfo(Word):
    """What a running server knows of itself: the file named by BEAMHUB_SESSION_FILE."""

    plan_id: str
    plan_hash: str
    account: str
    who: str
    place: str
    datasets: tuple[PlannedDataset, ...]
    processed: dict[str, str] = Field(description="Writable processed folder of each proposal, absolute.")
    home: str
    scratch: str | None = Field(default=None, description="The person's scratch folder, absolute.")
    template: PlannedTemplate | None
    environment: str
    image: str
    cluster_limits: ClusterLimits
    expires_at: datetime
    enforced: dict[str, bool] = Field(
        default={}, description="Which promises the place enforces, e.g. 'raw_read_only'."
    )
    is_rescue: bool = Field(
        default=False, description="The home is full: the server's own files lie in memory."
    )
    notes: tuple[str, ...] = Field(default=(), description="What the person should know of this session.")
