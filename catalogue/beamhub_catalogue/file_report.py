"""What the confined child tells of one file: the only thing of a file that the catalogue's process sees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from beamhub_catalogue.nexus_mapping import NexusMapping
from beamhub_core.word import Word

MAX_TEXT = 1_000
MAX_PATH = 4_096
MAX_LINKED = 20_000
MAX_MISSING = 200
MAX_PROVENANCE = 1_000_000
MAX_FIGURES = 40
MAX_PARAMETERS = 400
MAX_PEOPLE = 100
MAX_UNMAPPED = 2_000

Text = Annotated[str, Field(max_length=MAX_TEXT)]
FilePath = Annotated[str, Field(max_length=MAX_PATH)]


class ReportedParameter(Word):
    """A number with its unit, or a word."""

    name: Annotated[str, Field(max_length=120)]
    value: float | Text
    unit: Annotated[str, Field(max_length=60)] | None = None


class ReportedSample(Word):
    """A sample by name."""

    name: Text
    description: Text | None = None


class ReportedPerson(Word):
    """Somebody whom a file names; `orcid` has a valid check digit."""

    name: Text
    role: Text | None = None
    orcid: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]$")] | None = None
    affiliation: Text | None = None


class UnmappedField(Word):
    """A field of a file that no rule of the mapping names, and what kind of value it holds."""

    path: Text
    kind: Text


class ReportedLink(Word):
    """A link that leads nowhere; `file` is its target file as an absolute path, where it names one."""

    target: Text
    reason: Text
    file: FilePath | None = None


class FileReport(Word):
    """A file's header, cut to what the catalogue stores; every text is data, never markup."""

    is_nexus: bool
    title: Text | None = None
    description: Text | None = None
    start_time: Text | None = None
    end_time: Text | None = None
    experiment_identifier: Text | None = None
    definition: Text | None = None
    instrument: Text | None = None
    samples: tuple[ReportedSample, ...] = Field(default=(), max_length=MAX_PEOPLE)
    people: tuple[ReportedPerson, ...] = Field(default=(), max_length=MAX_PEOPLE)
    technique_pid: Text | None = None
    technique_name: Text | None = None
    parameters: tuple[ReportedParameter, ...] = Field(default=(), max_length=MAX_PARAMETERS)
    linked_files: tuple[tuple[FilePath, int], ...] = Field(default=(), max_length=MAX_LINKED)
    missing_links: tuple[ReportedLink, ...] = Field(default=(), max_length=MAX_MISSING)
    provenance: Annotated[str, Field(max_length=MAX_PROVENANCE)] | None = None
    evidence: tuple[tuple[Text, Text], ...] = Field(default=(), max_length=MAX_FIGURES)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    has_preview: bool = False
    found_at: tuple[tuple[Text, Text], ...] = Field(default=(), max_length=MAX_PARAMETERS)
    """For a dry run: what was mapped, and from which path."""
    unmapped: tuple[UnmappedField, ...] = Field(default=(), max_length=MAX_UNMAPPED)

    @property
    def sample(self) -> str | None:
        """The name of the first sample."""
        return self.samples[0].name if self.samples else None

    @property
    def has_identity(self) -> bool:
        """Whether it says of itself what it is; a detector's own file has frames and no more."""
        return bool(self.definition or self.technique_pid or self.sample or self.instrument)


class FileRequest(Word):
    """What the parent asks of one file."""

    path: FilePath
    preview: FilePath | None = None
    hash: bool = False
    explain: bool = False
    """Say also where each value was found and what was not mapped."""


class FileAnswer(Word):
    """A report, or why there is none."""

    outcome: Literal["read", "damaged"]
    report: FileReport | None = None
    reason: Text | None = None


class ChildSettings(Word):
    """The child's first line: where it may read and write, and how much it may use."""

    roots: tuple[FilePath, ...]
    scratch: FilePath
    cache: FilePath
    mapping: NexusMapping
    memory_bytes: int = Field(gt=0)
    cpu_seconds: int = Field(gt=0)


def short_text(text: str | None, limit: int) -> str | None:
    """A text without control characters, cut to a limit; JSON and pages take it as it is."""
    if text is None:
        return None
    clean = "".join(c if c.isprintable() else " " for c in text[: limit * 2])
    return clean.strip()[:limit] or None
