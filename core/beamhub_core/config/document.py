"""A YAML text as plain data, strictly: what a person may have meant otherwise is a problem, not a guess.

The rules are YAML 1.2's core schema, cut down: `no` and `on` are words, `010` and `12:30` are
text, dates are text. Refused are a key that stands twice (the second one would win silently),
tags, keys that are no words, and documents that grow: a few hundred bytes of nested aliases
can stand for gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_NODES = 20_000
MAX_DEPTH = 30

Location = tuple[int | str, ...]
"""The way to a value: keys and positions from the top of the document."""

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,3})?")
_KNOWN_TAGS = frozenset(
    "tag:yaml.org,2002:" + name for name in ("null", "bool", "int", "float", "str", "seq", "map")
)


class _CoreLoader(yaml.SafeLoader):
    """Resolves null, true, false and decimal numbers; everything else is text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _tag, _pattern, _first in (
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    # `0755` starts a number in YAML 1.1 (octal) and in YAML 1.2 (decimal): it stays text here.
    ("int", re.compile(f"(?:{_INT.pattern})$"), list("-+0123456789")),
    ("float", re.compile(r"(?![-+]?0[0-9])(?:" + _FLOAT.pattern + ")$"), list("-+.0123456789")),
):
    _CoreLoader.add_implicit_resolver(
        "tag:yaml.org,2002:" + _tag, re.compile(f"(?:{_pattern.pattern})$"), _first
    )


class DocumentRefused(Exception):
    """The text is no document that we would read; `reason` and `line` say why and where."""

    def __init__(self, reason: str, line: int | None) -> None:
        super().__init__(reason, line)
        self.reason, self.line = reason, line

    def __str__(self) -> str:
        return self.reason if self.line is None else f"{self.reason}, line {self.line}"


@dataclass(slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) with the line of each value.

    `problems` are duplicate keys, tags and control characters: the rest of the data is there
    nevertheless, so that one reading reports everything.
    """

    data: Any
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[tuple[Location, str]] = field(default_factory=list)

    def line_of(self, location: Location) -> int | None:
        """The line of a value, or of the nearest thing around it that stands in the file."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.lines:
                return self.lines[location[:end]]
        return None


def read_document(text: str) -> Document:
    """The one YAML document of a text.

    Raises
    ------
    DocumentRefused
        If the text is no YAML, holds several documents, nests deeper than MAX_DEPTH, or stands
        for more than MAX_NODES values once its aliases are written out.
    """
    try:
        _refuse_depth(text)
        node = _CoreLoader(text).get_single_node()
        document = Document(None)
        if node is not None:
            _refuse_growth(node)
            document.data = _plain(node, (), document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise DocumentRefused(f"is not YAML: {error.problem or error.context}", line) from None
    except yaml.YAMLError as error:
        raise DocumentRefused(f"is not YAML: {str(error).splitlines()[0]}", None) from None
    return document


def _refuse_depth(text: str) -> None:
    """Look at the flat stream of events first: composing a deep document would recurse."""
    depth = count = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        line = event.start_mark.line + 1 if event.start_mark is not None else None
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH:
            raise DocumentRefused(f"nests deeper than {MAX_DEPTH} levels", line)
        if count > MAX_NODES:
            raise DocumentRefused(f"holds more than {MAX_NODES} values", line)


def _refuse_growth(root: Node) -> None:
    """Count values with aliases written out, each node once, so that a bomb costs nothing."""
    measured: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def measure(node: Node) -> tuple[int, int]:
        """How many values a node stands for, and how deep they nest."""
        key, line = id(node), node.start_mark.line + 1
        if key in open_nodes:
            raise DocumentRefused("holds an alias of something it is a part of", line)
        if key not in measured:
            open_nodes.add(key)
            parts = [measure(child) for child in _children(node)]
            open_nodes.discard(key)
            measured[key] = (1 + sum(n for n, _ in parts), 1 + max((d for _, d in parts), default=0))
        size, depth = measured[key]
        if size > MAX_NODES:
            raise DocumentRefused(
                f"stands for more than {MAX_NODES} values with its aliases written out", line
            )
        if depth > MAX_DEPTH + 1:
            raise DocumentRefused(f"nests deeper than {MAX_DEPTH} levels with its aliases written out", line)
        return size, depth

    measure(root)


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


def _plain(node: Node, location: Location, document: Document) -> Any:
    document.lines.setdefault(location, node.start_mark.line + 1)
    if node.tag not in _KNOWN_TAGS:
        document.problems.append((location, f"the tag {node.tag!r} has no meaning here; remove it"))
        return None
    if isinstance(node, MappingNode):
        return _mapping(node, location, document)
    if isinstance(node, SequenceNode):
        return [_plain(child, (*location, i), document) for i, child in enumerate(node.value)]
    return _scalar(node, location, document)


def _mapping(node: MappingNode, location: Location, document: Document) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(key_node, location, document) if isinstance(key_node, ScalarNode) else None
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            document.problems.append((location, f"the key in line {line} is no word; put it in quotes"))
            continue
        here = (*location, key)
        if key == "<<":
            document.problems.append((here, "merge keys ('<<') are not read; write the values out"))
        elif key in found:
            document.problems.append(
                (here, f"stands twice, in lines {document.lines[here]} and {line}; remove one")
            )
        else:
            document.lines[here] = line
            found[key] = _plain(value_node, here, document)
    return found


def _scalar(node: Node, location: Location, document: Document) -> Any:
    value: str = node.value
    name = node.tag.rpartition(":")[2]
    try:
        if name == "null":
            return None
        if name == "bool":
            return {"true": True, "false": False}[value.lower()]
        if name == "int" and _INT.fullmatch(value):
            return int(value)
        if name == "float" and _FLOAT.fullmatch(value):
            return float(value)
    except KeyError:
        pass  # an explicit tag on a word that is none of its values: it is text, and the model says so
    if any(
        (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in value
    ):
        document.problems.append((location, "holds a control character or half of a surrogate pair"))
        return ""
    return value
