"""Which fields of a NeXus file the catalogue keeps: a table of rules, read from YAML, first match wins.

`beamhub_catalogue.mapped_fields` applies it. docs/reference/nexus-mapping.md describes it for operators.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from beamhub_core.errors import ConfigInvalid
from beamhub_core.word import Word

MAX_RULES = 400
MAX_STEPS = 12
MAX_MAPPING_BYTES = 1_000_000
PANET_TERM = re.compile(r"PaNET[0-9]{5}")
_STEP = re.compile(r"[^/@\x00-\x1f]{1,200}")


def _selector(text: str) -> str:
    """Refuse what is no path of steps with at most one attribute at its end."""
    path, at, attribute = text.partition("@")
    steps = [step for step in path.strip("/").split("/") if step]
    if len(steps) > MAX_STEPS or not all(_STEP.fullmatch(step) for step in steps):
        raise ValueError(f"{text!r} is no path of at most {MAX_STEPS} steps")
    if (at and not _STEP.fullmatch(attribute)) or not (steps or at):
        raise ValueError(f"{text!r} names neither a member nor an attribute")
    return text


def _panet(text: str) -> str:
    if not PANET_TERM.fullmatch(text):
        raise ValueError(f"{text!r} is no PaNET term: it is written as PaNET01207")
    return text


Selector = Annotated[str, Field(max_length=1_000), AfterValidator(_selector)]
"""A path from the entry: a step that begins with NX names a class, any other one a member.

An attribute stands last behind `@`; a path that begins with `/` counts from the file's root.
"""
Selectors = Annotated[tuple[Selector, ...], Field(min_length=1, max_length=20)]
FieldName = Literal[
    "title",
    "description",
    "start_time",
    "end_time",
    "experiment_identifier",
    "definition",
    "instrument",
    "technique_pid",
    "technique_name",
]


class ParameterRule(Word):
    """A parameter; `unit` counts where the file gives none.

    Arrays give NAME (their mean), NAME_min and NAME_max.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,99}$")]
    sources: Selectors
    unit: Annotated[str, Field(max_length=60)] | None = None


class TechniqueRule(Word):
    """A technique for files whose text at one of `sources` equals or contains words, in any case.

    With `probe`, only for files whose source says that word too ('x-ray', 'neutron'): several application
    definitions serve both.
    """

    sources: Selectors = ("definition",)
    equals: Annotated[str, Field(max_length=200)] | None = None
    contains: Annotated[str, Field(max_length=200)] | None = None
    probe: Annotated[str, Field(max_length=60)] | None = None
    technique: Annotated[str, AfterValidator(_panet)]
    label: Annotated[str, Field(min_length=1, max_length=200)]

    def fits(self, text: str, probe: str) -> bool:
        """Whether the rule holds for a text and a probe; one without a condition fits nothing."""
        plain = text.casefold()
        if self.probe is not None and self.probe.casefold() not in probe.casefold():
            return False
        if self.equals is not None:
            return plain == self.equals.casefold()
        return self.contains is not None and self.contains.casefold() in plain


class SampleRule(Word):
    """What is kept of each sample."""

    groups: Selectors = ("NXsample",)
    name: Selectors = ("name",)
    description: Selectors = ("description", "chemical_formula")


class PersonRule(Word):
    """What is kept of each person: never an address."""

    groups: Selectors = ("NXuser",)
    name: Selectors = ("name",)
    role: Selectors = ("role",)
    orcid: Selectors = ("ORCID", "orcid")
    affiliation: Selectors = ("affiliation",)


class NexusMapping(Word):
    """The whole table."""

    version: Literal[1]
    fields: dict[FieldName, Selectors] = Field(default={}, max_length=20)
    parameters: tuple[ParameterRule, ...] = Field(default=(), max_length=MAX_RULES)
    techniques: tuple[TechniqueRule, ...] = Field(default=(), max_length=MAX_RULES)
    samples: SampleRule = SampleRule()
    probe: Selectors = ("NXinstrument/NXsource/probe", "NXsource/probe")
    people: PersonRule = PersonRule()
    ignored: tuple[Selector, ...] = Field(default=(), max_length=MAX_RULES)
    """Known and not catalogued: a dry run does not list them as unmapped."""


def default_mapping() -> NexusMapping:
    """The mapping that comes with the package."""
    text = resources.files("beamhub_catalogue").joinpath("data/nexus-mapping.yaml").read_text("utf-8")
    return NexusMapping.model_validate(yaml.safe_load(text))


def read_mapping(path: Path | None) -> NexusMapping:
    """The mapping in a file; the package's own for None.

    Raises
    ------
    ConfigInvalid
        With every problem of the file.
    """
    if path is None:
        return default_mapping()
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MAPPING_BYTES + 1)
        told: Any = yaml.safe_load(raw) if len(raw) <= MAX_MAPPING_BYTES else None
    except OSError as error:
        raise ConfigInvalid(str(path), (f"cannot be read: {error.strerror}",)) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigInvalid(str(path), (f"is no YAML: {type(error).__name__}",)) from None
    if not isinstance(told, dict):
        raise ConfigInvalid(str(path), ("holds no table of rules, or is longer than 1 MB",))
    try:
        return NexusMapping.model_validate(told)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc'])) or 'mapping'}: {p['msg']}" for p in error.errors())
        raise ConfigInvalid(str(path), tuple(problems)) from None
