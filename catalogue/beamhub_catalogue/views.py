"""What the portal's pages show, made for one reader: nothing in a view is hidden from that reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from beamhub_core.long_job import JobReport
from beamhub_core.rights import RefusalCode
from beamhub_core.session import PlannedDataset, SessionState

DatasetKind = Literal["raw", "product"]
EmbargoState = Literal["open", "embargoed", "running", "withdrawn"]
"""`running` is a proposal without an end date: its embargo has not begun to count."""


@dataclass(frozen=True, slots=True)
class EmbargoView:
    """Where a dataset stands on its way to being open."""

    state: EmbargoState
    opens_at: datetime | None
    """First instant at which everybody may read; aware, in the facility's zone. None: not known yet."""
    policy_class: str
    license: str | None


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """What narrows a search besides its text; None leaves a field free."""

    technique: str | None = None
    """PaNET term."""
    instrument: str | None = None
    proposal: str | None = None
    kind: DatasetKind | None = None
    readable_only: bool = False
    """Only datasets that the reader may open now."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One line of a result list."""

    pid: str
    kind: DatasetKind
    title: str
    proposal: str
    technique: str
    technique_label: str
    instrument: str
    start: datetime | None
    end: datetime | None
    embargo: EmbargoView
    may_read: bool
    has_preview: bool
    """True only where the reader may see the preview."""


@dataclass(frozen=True, slots=True)
class Facet:
    """A value of a field and how many visible datasets of the result have it."""

    value: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of results; `page` counts from 1."""

    hits: tuple[SearchHit, ...]
    total: int
    page: int
    page_size: int
    n_pages: int
    techniques: tuple[Facet, ...] = ()
    instruments: tuple[Facet, ...] = ()


@dataclass(frozen=True, slots=True)
class FileView:
    """A file of a dataset; `path` is relative to the dataset's pool."""

    name: str
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ParameterView:
    """A named value from the file's header."""

    name: str
    value: float | str
    unit: str | None


@dataclass(frozen=True, slots=True)
class RelatedDataset:
    """A dataset at the other end of *made from / used by* that this reader may know of."""

    pid: str
    title: str
    kind: DatasetKind
    technique_label: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a product was made; only for readers of the product."""

    who: str
    made_at: datetime
    software: tuple[tuple[str, str], ...]
    parameters: tuple[tuple[str, str], ...]
    environment: str
    image: str
    plan_id: str | None
    sha256: str
    evidence: tuple[tuple[str, str], ...] = ()
    """What it says of how sure it is: see `evidence_figures`."""


@dataclass(frozen=True, slots=True)
class DatasetView:
    """A dataset's page for one reader.

    Where `full` is False the reader sees only what policy opens early: `files`, `parameters`,
    `size_bytes`, `sample`, `proposal_role` and the preview are then empty.
    """

    pid: str
    kind: DatasetKind
    full: bool
    may_read: bool
    """The reader may look at all of it now."""
    may_open: bool
    """The reader may open it in a session now, after login where there is none yet."""
    may_write: bool
    """The reader may write to the proposal's processed folder."""
    because: str | None
    """Why the reader may read, in words for people."""
    refusal: str | None
    """Why the reader may not read, or open it, in words that the policy allows."""
    refusal_code: RefusalCode | None
    title: str
    proposal: str
    proposal_title: str
    team: tuple[str, ...]
    """Names, principal investigator first."""
    technique: str
    technique_label: str
    instrument: str
    facility: str
    start: datetime | None
    end: datetime | None
    embargo: EmbargoView
    preview_available: bool
    made_from: tuple[RelatedDataset, ...]
    used_by: tuple[RelatedDataset, ...]
    size_bytes: int | None = None
    sample: str | None = None
    files: tuple[FileView, ...] = ()
    parameters: tuple[ParameterView, ...] = ()
    missing_links: tuple[str, ...] = ()
    provenance: Provenance | None = None
    private: bool = False
    """A product in its maker's home, seen by the maker alone."""
    step_up: tuple[str, ...] = ()
    """Authentication contexts of which a new login needs one to read it; empty where that would not help."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """One of a person's sessions."""

    plan_id: str
    server_name: str
    state: SessionState
    live: bool
    place: str
    backend: str
    profile: str
    environment: str
    template: str | None
    url: str | None
    reason: str | None
    created_at: datetime
    expires_at: datetime
    last_seen: datetime
    datasets: tuple[PlannedDataset, ...]
    because: str
    """Why it runs in this place."""
    why: tuple[str, ...] = ()
    """The same for every place, in lines."""
    idle_stop_at: datetime | None = None
    """When it is stopped because nothing happens in it; None while something does."""
    prepared_until: datetime | None = None
    """Until when it waits to be opened; None for one that somebody opened."""
    jobs: tuple[JobReport, ...] = ()
    """Its long jobs, as far as they were when it reported last."""


@dataclass(frozen=True, slots=True)
class ProblemView:
    """A file or row that needs a person; for operators, never for visitors."""

    source: str
    """`harvest:<pool>`, `user_office:<name>` or `policy`."""
    file: str
    reason: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class OfficeView:
    """How a user office stands: what it said last is in force until it says something else."""

    name: str
    kind: str
    """`csv` or `rest`."""
    read_at: datetime | None
    """When the state in force was read; None: never."""
    checked_at: datetime | None
    """When the office last answered, changed or not."""
    ok: bool
    """Whether the state in force is what the office says now."""
    n_problems: int
    """All of them, also those that are not kept."""


@dataclass(frozen=True, slots=True)
class Health:
    """What works now."""

    ok: bool
    database: Literal["ok", "down"]
    n_datasets: int
    policy_version: str
    user_office_read_at: datetime | None
    """Of the user office whose state is oldest; None while one was never read."""
    last_scan_at: datetime | None
    problems: tuple[ProblemView, ...] = field(default=())
    offices: tuple[OfficeView, ...] = field(default=())
