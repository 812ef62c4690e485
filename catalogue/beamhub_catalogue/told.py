"""Records as other catalogues and files of JSON tell them, in bounded words."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from beamhub_core.orcid import is_orcid
from beamhub_core.word import Word, digest

MAX_TEXT = 20_000
MAX_CHILDREN = 20_000


def _plain(text: str) -> str:
    """Refuse what no database keeps."""
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("holds a zero character or half of a character")
    return text


def _value(value: object) -> object:
    """Whole numbers and yes or no as numbers and words; a list as its text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _aware(when: datetime) -> datetime:
    """Refuse an instant without a zone, which would have to be guessed."""
    if when.tzinfo is None:
        raise ValueError("has no time zone")
    return when.astimezone(UTC)


def _orcid(text: str | None) -> str | None:
    """The iD alone; what is none is left out, for it would name somebody else."""
    plain = (text or "").rpartition("/")[2].strip()
    return plain if is_orcid(plain) else None


def _text(limit: int, least: int = 0) -> Any:
    return Field(min_length=least, max_length=limit)


Plain = Annotated[str, AfterValidator(_plain)]
Pid = Annotated[Plain, _text(300, 1)]
Name = Annotated[Plain, _text(200, 1)]
LongText = Annotated[Plain, _text(MAX_TEXT)]
Instant = Annotated[datetime, AfterValidator(_aware)]
Orcid = Annotated[str | None, BeforeValidator(_orcid)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class ToldParameter(Word):
    """A number with its unit, or a word."""

    name: Annotated[Plain, _text(120, 1)]
    value: Annotated[Number | LongText, BeforeValidator(_value)]
    unit: Annotated[Plain, _text(60)] | None = None


class ToldFile(Word):
    """A file; `path` is as its catalogue tells it."""

    name: Annotated[Plain, _text(1_000, 1)]
    path: Annotated[Plain, _text(4_000)] = ""
    size_bytes: int = Field(default=0, ge=0, lt=2**62)
    checksum: Annotated[Plain, _text(160)] | None = None


class ToldTechnique(Word):
    """A technique; `pid` is a PaNET term or empty."""

    pid: Annotated[Plain, _text(200)] = ""
    label: Name


class ToldSample(Word):
    """A sample."""

    pid: Pid | None = None
    name: Annotated[Plain, _text(1_000, 1)]
    description: LongText = ""


class ToldPerson(Word):
    """An author."""

    name: Annotated[Plain, _text(500, 1)]
    orcid: Orcid = None
    role: Annotated[Plain, _text(60)] | None = None
    affiliation: Annotated[Plain, _text(1_000)] | None = None
    first_name: Annotated[Plain, _text(300)] | None = None
    last_name: Annotated[Plain, _text(300)] | None = None


class ToldDataset(Word):
    """A dataset of another catalogue.

    `source_id` names it there; `pid` is what it is known by everywhere, where it has that. `folder` is an
    absolute path. `closed_until` is the last day on which that catalogue keeps it closed: the last of all
    days where it says no end, None where it is open there or says nothing.
    """

    source_id: Pid
    pid: Pid | None = None
    proposal: Name
    title: Annotated[Plain, _text(MAX_TEXT, 1)]
    description: LongText = ""
    keywords: tuple[Name, ...] = Field(default=(), max_length=200)
    instrument: Annotated[Plain, _text(200)] = ""
    start: Instant | None = None
    end: Instant | None = None
    size_bytes: int = Field(default=0, ge=0, lt=2**62)
    folder: Annotated[Plain, _text(4_000)] | None = None
    doi: Pid | None = None
    license: Annotated[Plain, _text(120)] | None = None
    closed_until: date | None = None
    techniques: tuple[ToldTechnique, ...] = Field(default=(), max_length=50)
    samples: tuple[ToldSample, ...] = Field(default=(), max_length=200)
    parameters: tuple[ToldParameter, ...] = Field(default=(), max_length=2_000)
    files: tuple[ToldFile, ...] = Field(default=(), max_length=MAX_CHILDREN)
    people: tuple[ToldPerson, ...] = Field(default=(), max_length=500)

    @property
    def told_digest(self) -> str:
        """Changes when anything of the record does."""
        return digest(self)


class ToldDocument(Word):
    """A proposal or publication as a document. A proposal is described by it, never made or opened."""

    pid: Pid
    type: Annotated[Plain, _text(60, 1)]
    title: Annotated[Plain, _text(MAX_TEXT, 1)]
    summary: LongText = ""
    doi: Pid | None = None
    license: Annotated[Plain, _text(120)] | None = None
    keywords: tuple[Name, ...] = Field(default=(), max_length=200)
    released_at: Instant | None = None
    datasets: tuple[Pid, ...] = Field(default=(), max_length=MAX_CHILDREN)


class ToldInstrument(Word):
    """An instrument."""

    name: Name
    pid: Pid | None = None
    facility: Annotated[Plain, _text(200)] = ""


class Gone(Word):
    """A dataset that its catalogue no longer has."""

    source_id: Pid
