"""NeXus application definitions as tables of what a file must have, read from NXDL files.

Source: NXDL 3.1 (nxdl.xsd): in an application definition everything is required unless it says otherwise.
A definition is a file of the installation or of its operator, never of a stranger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from beamhub_core.errors import BeamhubError

NXDL = "{http://definition.nexusformat.org/nxdl/3.1}"
MAX_BYTES = 2_000_000
MAX_ANCESTORS = 8
Need = Literal["required", "recommended", "optional"]


class DefinitionUnknown(BeamhubError):
    """There is no such definition, or it cannot be read."""

    exit_code = 3

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"The definition {self.name!r} {self.reason}."


@dataclass(frozen=True, slots=True)
class Rule:
    """A group, field or attribute of a definition; `any_name` when its class alone says what is meant."""

    kind: Literal["group", "field", "attribute"]
    name: str
    type: str
    need: Need
    any_name: bool = False
    units: str = ""
    rank: int | None = None
    values: tuple[str, ...] = ()
    children: tuple[Rule, ...] = ()

    @property
    def shown(self) -> str:
        """As it stands in a path."""
        return f"@{self.name}" if self.kind == "attribute" else self.name or self.type


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition by name: what it says of the groups at the file's root."""

    name: str
    rules: tuple[Rule, ...]


class Definitions:
    """The definitions of the package, and those of a folder, which come first."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """All that there are."""
        own = self._folder.glob("*.nxdl.xml") if self._folder is not None else ()
        packaged = (one.name for one in _packaged().iterdir() if one.name.endswith(".nxdl.xml"))
        return sorted({name.removesuffix(".nxdl.xml") for name in (*packaged, *(one.name for one in own))})

    def read(self, name: str) -> Definition:
        """A definition, with what it takes over from those that it extends.

        Raises
        ------
        DefinitionUnknown
        """
        rules: tuple[Rule, ...] = ()
        current = name
        for _ in range(MAX_ANCESTORS):
            element = self._element(current)
            rules = _merged(_children(element), rules)
            current = element.get("extends", "NXobject")
            if current == "NXobject":
                return Definition(name, rules)
        raise DefinitionUnknown(name, f"extends more than {MAX_ANCESTORS} others")

    def _element(self, name: str) -> ET.Element:
        if not name.isidentifier() or not name.startswith("NX"):
            raise DefinitionUnknown(name[:100], "has no name of a definition, such as NXmx")
        file: Traversable | None = None
        for folder in (self._folder, _packaged()):
            if folder is not None and file is None:
                candidate = folder / f"{name}.nxdl.xml"
                file = candidate if candidate.is_file() else None
        if file is None:
            raise DefinitionUnknown(
                name, "is not among those that are known; put its .nxdl.xml into a folder"
            )
        raw = file.read_bytes()
        if len(raw) > MAX_BYTES:
            raise DefinitionUnknown(name, f"is longer than {MAX_BYTES} bytes")
        try:
            element = ET.fromstring(raw)  # noqa: S314  # the operator's own file, and expat bounds entities
        except ET.ParseError as error:
            raise DefinitionUnknown(name, f"is no XML: {error}") from None
        if element.tag != f"{NXDL}definition":
            raise DefinitionUnknown(name, "is no NXDL 3.1 definition")
        return element


def _packaged() -> Traversable:
    return resources.files("beamhub_catalogue") / "data" / "definitions"


def _children(element: ET.Element) -> tuple[Rule, ...]:
    """Groups, fields and attributes; of a choice each is optional, for one of them is enough."""
    found: list[Rule] = []
    for child in element:
        kind = child.tag.removeprefix(NXDL)
        if kind == "choice":
            found += [replace(rule, need="optional") for rule in _children(child)]
        elif kind in ("group", "field", "attribute"):
            found.append(_rule(child, kind))
    return tuple(found)


def _rule(element: ET.Element, kind: str) -> Rule:
    name = element.get("name", "")
    default = "NX_CHAR" if kind != "group" else ""
    name_type = element.get("nameType", "any" if kind == "group" and not name else "specified")
    dimensions = element.find(f"{NXDL}dimensions")
    rank = dimensions.get("rank", "") if dimensions is not None else ""
    return Rule(
        kind=kind,  # type: ignore[arg-type]  # one of three, as the caller found
        name=name,
        type=element.get("type", default),
        need=_need(element),
        any_name=name_type != "specified",
        units=element.get("units", ""),
        rank=int(rank) if rank.isdigit() else None,
        values=_values(element),
        children=_children(element),
    )


def _need(element: ET.Element) -> Need:
    if element.get("recommended") == "true":
        return "recommended"
    if element.get("optional") == "true" or element.get("minOccurs") == "0":
        return "optional"
    return "required"


def _values(element: ET.Element) -> tuple[str, ...]:
    """The values that are allowed; none where others are too."""
    enumeration = element.find(f"{NXDL}enumeration")
    if enumeration is None or enumeration.get("open") == "true":
        return ()
    return tuple(item.get("value", "") for item in enumeration.findall(f"{NXDL}item"))


def _merged(base: tuple[Rule, ...], own: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """What is taken over, as changed and with what is added by the one that extends it."""
    mine = {(rule.kind, rule.name or rule.type): rule for rule in own}
    merged: list[Rule] = []
    for rule in base:
        other = mine.pop((rule.kind, rule.name or rule.type), None)
        if other is None:
            merged.append(rule)
        else:
            merged.append(replace(other, children=_merged(rule.children, other.children)))
    return (*merged, *mine.values())
