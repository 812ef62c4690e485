"""A mapping applied to one open NeXus file, in the confined child: only small fields are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beamhub_catalogue.file_report import (
    MAX_PARAMETERS,
    MAX_PEOPLE,
    MAX_TEXT,
    MAX_UNMAPPED,
    ReportedParameter,
    ReportedPerson,
    ReportedSample,
    UnmappedField,
)
from beamhub_catalogue.nexus_mapping import NexusMapping, ParameterRule
from beamhub_core.orcid import is_orcid
from beamhub_reduction.nexus import NexusError, NexusFile, Node, Target, as_text

PANET = "http://purl.org/pan-science/PaNET/"
MAX_LOOKS = 20_000
MAX_VALUES = 100_000
MAX_DEPTH = 8
MAX_WALKED = 5_000


@dataclass(slots=True)
class MappedFields:
    """What a mapping found in a file; `found_at` says where."""

    fields: dict[str, str] = field(default_factory=dict)
    parameters: list[ReportedParameter] = field(default_factory=list)
    samples: list[ReportedSample] = field(default_factory=list)
    people: list[ReportedPerson] = field(default_factory=list)
    found_at: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """A dataset, or an attribute of a group or dataset."""

    node: Node
    attribute: str | None

    @property
    def path(self) -> str:
        """As it is shown."""
        return self.node.target.path + (f"@{self.attribute}" if self.attribute else "")

    def text(self) -> str | None:
        """Its text; a whole number counts as its digits."""
        if self.attribute is not None:
            return as_text(self.node.attribute(self.attribute), MAX_TEXT)
        if not self.node.is_dataset or not 0 < self.node.size <= MAX_LOOKS:
            return None
        if self.node.item.dtype.kind in "iu":
            return str(int(np.asarray(self.node.values()).flat[0]))
        return as_text(self.node.values(), MAX_TEXT)

    def numbers(self) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        """Its finite values; None when it holds none, no numbers, or too many."""
        if self.attribute is not None:
            value = self.node.attribute(self.attribute)
            array = np.asarray(value) if isinstance(value, int | float | np.number | np.ndarray) else None
        elif self.node.is_dataset and 0 < self.node.size <= MAX_VALUES:
            array = np.asarray(self.node.values()) if self.node.item.dtype.kind in "iuf" else None
        else:
            array = None
        if array is None or array.dtype.kind not in "iuf":
            return None
        finite = array.astype(np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        return finite if finite.size else None


class FieldFinder:
    """Finds what selectors name, within one number of looks for the whole file."""

    def __init__(self, nexus: NexusFile, entry: Node) -> None:
        self._nexus, self._entry = nexus, entry
        self._looks = 0
        self._members: dict[tuple[Target, str], Node | None] = {}

    def places(self, selector: str, start: Node | None = None) -> Iterator[_Place]:
        """Every place that a selector names, in the file's order."""
        path, at, attribute = selector.partition("@")
        first = self._nexus.node("/") if path.startswith("/") else start or self._entry
        for node in self._nodes(first, [step for step in path.split("/") if step]):
            if at or node.is_dataset:
                yield _Place(node, attribute if at else None)

    def groups(self, selectors: tuple[str, ...]) -> list[Node]:
        """The groups of the first selector that names any."""
        for selector in selectors:
            steps = [step for step in selector.split("/") if step]
            found = [node for node in self._nodes(self._entry, steps) if not node.is_dataset]
            if found:
                return found[:MAX_PEOPLE]
        return []

    def first_text(self, selectors: tuple[str, ...], start: Node | None = None) -> tuple[str, str] | None:
        """The first text that is there, and its path."""
        for selector in selectors:
            for place in self.places(selector, start):
                try:
                    text = place.text()
                except NexusError:  # external storage, a damaged value: the next one may do
                    continue
                if text:
                    return text[:MAX_TEXT], place.path
        return None

    def _nodes(self, start: Node, steps: list[str]) -> Iterator[Node]:
        self._looks += 1
        if self._looks > MAX_LOOKS:
            return
        if not steps:
            yield start
            return
        if start.is_dataset:
            return
        if steps[0].startswith("NX"):
            members = start.groups(steps[0])
        else:
            member = self._member(start, steps[0])
            members = [member] if member is not None else []
        for member in members:
            yield from self._nodes(member, steps[1:])

    def _member(self, group: Node, name: str) -> Node | None:
        """A member, links followed; most names are not there, and to look for one is cheap."""
        key = group.target, name
        if key not in self._members:
            there = group.item.id.links.exists(name.encode())
            self._members[key] = group.get(name) if there else None
        return self._members[key]


def map_fields(nexus: NexusFile, entry: Node, mapping: NexusMapping) -> MappedFields:
    """What a mapping finds in an entry; what cannot be read counts as absent."""
    finder, found = FieldFinder(nexus, entry), MappedFields()
    for name, selectors in mapping.fields.items():
        hit = finder.first_text(selectors)
        if hit is not None:
            found.fields[name] = hit[0]
            found.found_at.append((name, hit[1]))
    _map_technique(finder, mapping, found)
    for rule in mapping.parameters:
        _map_parameter(finder, rule, found)
    for group in finder.groups(mapping.samples.groups):
        called = finder.first_text(mapping.samples.name, group)
        if called is not None:
            about = finder.first_text(mapping.samples.description, group)
            found.samples.append(ReportedSample(name=called[0], description=about[0] if about else None))
            found.found_at.append(("sample", called[1]))
    for group in finder.groups(mapping.people.groups):
        _map_person(finder, mapping, group, found)
    return found


def find_unmapped(nexus: NexusFile, entry: Node, mapping: NexusMapping) -> list[UnmappedField]:
    """The fields below an entry that no rule names, by classes, each shape of place once."""
    known = {place.path for place in _named_places(FieldFinder(nexus, entry), mapping)}
    found: dict[str, UnmappedField] = {}
    pending = [(entry, "", 0)]
    walked = 0
    while pending and len(found) < MAX_UNMAPPED:
        group, path, depth = pending.pop(0)
        for name, link in group.links().items():
            walked += 1
            if walked > MAX_WALKED:
                return list(found.values())
            child = group.get(name) if link is None else None  # a link's target is listed where it stands
            if child is None or f"{group.target.path}/{name}" in known:
                continue
            if child.is_dataset:
                where = f"{path}{name}"[:MAX_TEXT]
                found.setdefault(where, UnmappedField(path=where, kind=_kind(child)))
            elif depth < MAX_DEPTH:
                pending.append((child, f"{path}{child.nx_class or name}/", depth + 1))
    return list(found.values())


def _map_technique(finder: FieldFinder, mapping: NexusMapping, found: MappedFields) -> None:
    """The first rule that fits, where the file does not name its technique itself."""
    if "technique_pid" in found.fields:
        return
    probe = finder.first_text(mapping.probe)
    for rule in mapping.techniques:
        hit = finder.first_text(rule.sources)
        if hit is not None and rule.fits(hit[0], probe[0] if probe else ""):
            found.fields |= {"technique_pid": PANET + rule.technique, "technique_name": rule.label}
            found.found_at.append(("technique", hit[1]))
            return


def _map_parameter(finder: FieldFinder, rule: ParameterRule, found: MappedFields) -> None:
    for selector in rule.sources:
        for place in finder.places(selector):
            try:
                made = _parameters(place, rule)
            except NexusError:
                continue
            if made and len(found.parameters) + len(made) <= MAX_PARAMETERS // 2:
                found.parameters += made
                found.found_at.append((rule.name, place.path))
                return


def _parameters(place: _Place, rule: ParameterRule) -> list[ReportedParameter]:
    numbers = place.numbers()
    if numbers is None:
        text = place.text()
        return [ReportedParameter(name=rule.name, value=text[:MAX_TEXT])] if text else []
    told = place.node.attribute_text("units") if place.attribute is None else None
    unit = (told or rule.unit or "")[:60] or None
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        return [ReportedParameter(name=rule.name, value=low, unit=unit)]
    mean = float(np.mean(numbers / numbers.size) * numbers.size)  # no sum that overflows
    values = {"": mean, "_min": low, "_max": high}
    return [ReportedParameter(name=rule.name + end, value=v, unit=unit) for end, v in values.items()]


def _map_person(finder: FieldFinder, mapping: NexusMapping, group: Node, found: MappedFields) -> None:
    rule = mapping.people
    name = finder.first_text(rule.name, group)
    if name is None:
        return
    told = {key: finder.first_text(getattr(rule, key), group) for key in ("role", "orcid", "affiliation")}
    orcid = told["orcid"][0].rpartition("/")[2].strip() if told["orcid"] else ""
    found.people.append(
        ReportedPerson(
            name=name[0],
            role=told["role"][0] if told["role"] else None,
            orcid=orcid if is_orcid(orcid) else None,
            affiliation=told["affiliation"][0] if told["affiliation"] else None,
        )
    )
    found.found_at.append(("person", name[1]))


def _named_places(finder: FieldFinder, mapping: NexusMapping) -> Iterator[_Place]:
    """Every place that some rule names, whether or not it came first."""
    selectors = [s for names in mapping.fields.values() for s in names]
    selectors += [s for rule in mapping.parameters for s in rule.sources]
    selectors += [s for rule in mapping.techniques for s in rule.sources]
    selectors += [*mapping.probe, *mapping.ignored]
    for part in (mapping.samples, mapping.people):
        members = [s for name, names in part if name != "groups" for s in names]
        selectors += [f"{group}/{member}" for group in part.groups for member in members]
    for selector in dict.fromkeys(selectors):
        yield from finder.places(selector)


def _kind(node: Node) -> str:
    """E.g. 'float64, deg' or 'uint16 (3, 16, 16)'."""
    shape = f" {node.shape}" if node.shape else ""
    units = node.attribute_text("units")
    return f"{node.item.dtype}{shape}{f', {units}' if units else ''}"[:MAX_TEXT]
