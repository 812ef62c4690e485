"""A NeXus file beside its application definition: every miss, with its path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Literal

from beamhub_catalogue.nxdl import Definition, Definitions, DefinitionUnknown, Rule
from beamhub_reduction.nexus import NexusError, NexusFile, Node, as_text

MAX_MISSES = 5_000
MAX_SAME = 1_000
Severity = Literal["error", "warning"]
_KINDS = {
    "NX_FLOAT": "f",
    "NX_INT": "iu",
    "NX_POSINT": "iu",
    "NX_UINT": "iu",
    "NX_NUMBER": "iuf",
    "NX_CHAR": "SOU",
    "NX_DATE_TIME": "SOU",
    "ISO8601": "SOU",
    "NX_BOOLEAN": "biu",
    "NX_COMPLEX": "cV",
    "NX_CHAR_OR_NUMBER": "SOUiuf",
}
UNITLESS = frozenset(("", "NX_UNITLESS", "NX_DIMENSIONLESS", "NX_ANY"))


@dataclass(frozen=True, slots=True)
class Miss:
    """What is wrong at one path; a recommendation that is not followed is a warning."""

    path: str
    severity: Severity
    reason: str


@dataclass(slots=True)
class Validation:
    """What became of one file: each entry's definition by path, and all misses."""

    definitions: dict[str, str] = field(default_factory=dict)
    misses: list[Miss] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether there is no error and something was compared."""
        return bool(self.definitions) and all(miss.severity != "error" for miss in self.misses)


def validate_file(path: str, definitions: Definitions, name: str | None = None) -> Validation:
    """Compare every entry, and every subentry, that names a definition; all entries with `name`.

    Raises
    ------
    NexusError
        If the file cannot be read.
    DefinitionUnknown
        If the definition asked for is none; one that the file names is a miss.
    """
    found = Validation()
    with NexusFile(path) as nexus:
        entries = nexus.node("/").groups("NXentry")
        if not entries:
            found.misses.append(Miss("/", "error", "has no NXentry"))
        for entry in entries:
            for group in (entry, *entry.groups("NXsubentry")):
                called = name or group.text("definition")
                if called is None or (name is not None and group is not entry):
                    continue
                _compare(group, called, definitions, found, must_exist=name is not None)
        if entries and not found.definitions and not found.misses:
            found.misses.append(Miss("/", "warning", "names no definition, so nothing was compared"))
    return found


def _compare(
    group: Node, called: str, definitions: Definitions, found: Validation, *, must_exist: bool
) -> None:
    path = group.target.path
    try:
        definition = definitions.read(called)
    except DefinitionUnknown as error:
        if must_exist:
            raise
        found.misses.append(Miss(f"{path}/definition", "error", str(error)))
        return
    found.definitions[path] = called
    rules = _of_entry(definition)
    found.misses += islice(_misses(group, rules, path), MAX_MISSES - len(found.misses))


def _of_entry(definition: Definition) -> tuple[Rule, ...]:
    """What a definition says of an entry; some say it of a subentry."""
    entries = [r for r in definition.rules if r.type in ("NXentry", "NXsubentry")]
    return entries[0].children if entries else definition.rules


def _misses(group: Node, rules: tuple[Rule, ...], path: str) -> Iterator[Miss]:
    for rule in rules:
        if rule.kind == "attribute":
            yield from _attribute_misses(group, rule, path)
        elif rule.kind == "group":
            yield from _group_misses(group, rule, path)
        else:
            yield from _field_misses(group, rule, path)


def _group_misses(group: Node, rule: Rule, path: str) -> Iterator[Miss]:
    if rule.any_name:
        members = group.groups(rule.type)
    else:
        member = group.get(rule.name)
        members = [member] if member is not None and not member.is_dataset else []
        if members and rule.type and members[0].nx_class != rule.type:
            is_class = members[0].nx_class or "no class"
            yield Miss(f"{path}/{rule.name}", "error", f"is of {is_class}, not {rule.type}")
    if not members:
        yield from _absent(rule, path)
    for member in members[:MAX_SAME]:
        yield from _misses(member, rule.children, f"{path}/{member.name}")


def _field_misses(group: Node, rule: Rule, path: str) -> Iterator[Miss]:
    if rule.any_name:
        return  # any field may be meant, or none
    node = group.get(rule.name)
    if node is None:
        yield from _absent(rule, path)
        return
    where = f"{path}/{rule.name}"
    if not node.is_dataset:
        yield Miss(where, "error", "is a group, not a field")
        return
    try:
        yield from _value_misses(node, rule, where)
    except NexusError as error:
        yield Miss(where, "error", f"cannot be read: {error}")
    yield from _misses(node, rule.children, where)


def _value_misses(node: Node, rule: Rule, where: str) -> Iterator[Miss]:
    kind = node.item.dtype.kind
    allowed = _KINDS.get(rule.type)
    if allowed is not None and kind not in allowed:
        yield Miss(where, "error", f"holds {node.item.dtype}, not {rule.type}")
        return
    if rule.rank is not None and len(node.shape) != rule.rank and node.size > 1:
        yield Miss(where, "error", f"has {len(node.shape)} axes, not {rule.rank}")
    if rule.units not in UNITLESS and kind in "iuf" and not node.attribute_text("units"):
        yield Miss(f"{where}@units", "error", f"is missing; a unit of {rule.units} is asked for")
    if kind in "SOU" and 0 < node.size <= MAX_SAME:
        yield from _text_misses(as_text(node.values()), rule, where)
    elif rule.values and kind in "iu" and node.size == 1:
        yield from _text_misses(str(int(node.values().flat[0] if node.shape else node.values())), rule, where)


def _text_misses(text: str | None, rule: Rule, where: str) -> Iterator[Miss]:
    if rule.values and text not in rule.values:
        yield Miss(where, "error", f"is {text!r:.100}, none of {', '.join(rule.values)[:300]}")
    if rule.type in ("NX_DATE_TIME", "ISO8601") and not _is_time(text):
        yield Miss(where, "error", f"is {text!r:.100}, no time as ISO 8601 writes it")


def _attribute_misses(node: Node, rule: Rule, path: str) -> Iterator[Miss]:
    value = node.attribute(rule.name)
    if value is None:
        if not rule.any_name:
            yield from _absent(rule, path)
        return
    text = as_text(value)
    if rule.values and text is not None and text not in rule.values:
        yield from _text_misses(text, rule, f"{path}@{rule.name}")


def _absent(rule: Rule, path: str) -> Iterator[Miss]:
    if rule.need == "optional":
        return
    where = f"{path}{'' if rule.kind == 'attribute' else '/'}{rule.shown}"
    what = f" ({rule.type})" if rule.name and rule.type else ""
    is_error = rule.need == "required"
    reason = f"is missing{what}" if is_error else f"is missing{what}; it is recommended"
    yield Miss(where, "error" if is_error else "warning", reason)


def _is_time(text: str | None) -> bool:
    try:
        datetime.fromisoformat((text or "").strip())
    except ValueError:
        return False
    return True
