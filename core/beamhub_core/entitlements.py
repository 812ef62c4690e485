"""Entitlements of AARC communities as groups and capabilities: parsed strictly, compared whole.

Grammar of a group: `<NAMESPACE>:group:<GROUP>[:<SUBGROUP>]*[:role=<ROLE>][#<AUTHORITY>]`.
Grammar of a capability: `<NAMESPACE>:res:<RESOURCE>[:<CHILD>]*[:act:<ACTION>[,<ACTION>]*]#<AUTHORITY>`.
Source: AARC-G069 (doi 10.5281/zenodo.6533400) and AARC-G002 for groups, AARC-G027 for capabilities, RFC 8141
for URNs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from beamhub_core.identity import Capability, Entitlement

MAX_VALUES = 2000
"""More different values than any community sends; the rest is counted as ignored."""
MAX_LENGTH = 1024

Fault = Literal["not_text", "malformed", "foreign", "surplus"]
"""Why a value gives nothing: no string; not by the grammar; of no namespace that counts; one too many."""

# One component of a URN's name between two colons: RFC 3986 pchar without ':' and '=', or %xx.
_COMPONENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;@/-]|%[0-9A-Fa-f]{2})+")
_NAMESPACE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_ROLE = "role="
_ACTIONS = "act"


@dataclass(frozen=True, slots=True)
class Ignored:
    """How many values of a claim gave nothing, by their fault."""

    not_text: int = 0
    malformed: int = 0
    foreign: int = 0
    surplus: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.not_text + self.malformed + self.foreign + self.surplus


@dataclass(frozen=True, slots=True)
class ParsedEntitlements:
    """What the values of a claim say, sorted, and how many of them said nothing to us."""

    entitlements: tuple[Entitlement, ...]
    capabilities: tuple[Capability, ...]
    faults: Ignored

    @property
    def ignored(self) -> int:
        """How many values gave nothing."""
        return self.faults.total


@dataclass(frozen=True, slots=True)
class _Namespace:
    name: str
    parts: list[str]


def parse_entitlement(value: str, namespaces: Iterable[str]) -> Entitlement | None:
    """The group membership that one value asserts in one of these namespaces, else None.

    The namespace must be one of the list as a whole: a longer one does not satisfy a shorter one.
    The value is split before anything is decoded, so a group called `a%3Arole%3Dadmin` stays a
    group and becomes no role; components keep their percent-encoding (see `display_text`), with the
    hexadecimal digits in upper case. `urn` and the namespace identifier ignore letter case; the
    rest does not. The authority and RFC 8141's other components take no part in the comparison.

    Never raises for any text.
    """
    found = _read(value, _prepared(namespaces))
    return found if isinstance(found, Entitlement) else None


def parse_capability(value: str, namespaces: Iterable[str]) -> Capability | None:
    """The capability that one value asserts in one of these namespaces, else None.

    Split and compared as a group is, but never taken for one. The authority is mandatory. The actions belong
    to the rightmost child; they come back sorted, each once. `act` is the word before them and stands nowhere
    else, so no value can be read in two ways.

    Never raises for any text.
    """
    found = _read(value, _prepared(namespaces))
    return found if isinstance(found, Capability) else None


def parse_entitlements(values: object, namespaces: Iterable[str]) -> ParsedEntitlements:
    """The group memberships and capabilities in a claim as a provider sent it.

    A string stands for a list of one. Whatever does not parse is skipped and counted, once for each time that
    it stands there; one bad value never spoils the others. What is equal (whatever its authority) is kept
    once, and the order of the values does not matter, up to `MAX_VALUES` different ones.

    Never raises for any JSON value.
    """
    if values is None:
        return ParsedEntitlements((), (), Ignored())
    items = [values] if isinstance(values, str) else values
    if not isinstance(items, (list, tuple)):
        return ParsedEntitlements((), (), Ignored(not_text=1))
    wanted = _prepared(namespaces)
    known: dict[str, Entitlement | Capability | Fault] = {}
    faults: Counter[Fault] = Counter()
    for item in items:
        reading: Entitlement | Capability | Fault
        if not isinstance(item, str):
            reading = "not_text"
        elif item in known:
            reading = known[item]
        elif len(known) >= MAX_VALUES:
            reading = "surplus"
        else:
            reading = known[item] = _read(item, wanted)
        if isinstance(reading, str):
            faults[reading] += 1
    counted = Ignored(faults["not_text"], faults["malformed"], faults["foreign"], faults["surplus"])
    return _sorted_out(known.values(), counted)


def _sorted_out(readings: Iterable[Entitlement | Capability | Fault], faults: Ignored) -> ParsedEntitlements:
    """Each meaning once; of equal ones the first authority in alphabetical order, so that no order counts."""
    groups: dict[tuple[object, ...], Entitlement] = {}
    capabilities: dict[tuple[object, ...], Capability] = {}
    for found in readings:
        if isinstance(found, Entitlement):
            key = (found.namespace, found.group, found.subgroups, found.role is not None, found.role or "")
            if key not in groups or (found.authority or "") < (groups[key].authority or ""):
                groups[key] = found
        elif isinstance(found, Capability):
            name = (found.namespace, found.resource, found.children, found.actions)
            if name not in capabilities or found.authority < capabilities[name].authority:
                capabilities[name] = found
    return ParsedEntitlements(
        tuple(groups[key] for key in sorted(groups)),
        tuple(capabilities[name] for name in sorted(capabilities)),
        faults,
    )


def _prepared(namespaces: Iterable[str]) -> list[_Namespace]:
    return [_Namespace(name, _components(name)) for name in namespaces]


def _components(name: str) -> list[str]:
    """The text between the colons of a URN's name, in one form for equal names (RFC 8141, section 3)."""
    parts = [_PERCENT.sub(lambda match: match.group().upper(), part) for part in name.split(":")]
    return [part.lower() for part in parts[:2]] + parts[2:]


def _read(value: str, namespaces: Sequence[_Namespace]) -> Entitlement | Capability | Fault:
    """The one split of every value; groups and capabilities part only after it."""
    if len(value) > MAX_LENGTH or not value.isprintable():
        return "malformed"
    rest, _, authority = value.partition("#")
    name, question, component = rest.partition("?")
    if question and component[:1] not in ("+", "="):
        return "malformed"
    parts = _components(name)
    if len(parts) < 3 or parts[0] != "urn" or not _NAMESPACE_ID.fullmatch(parts[1]):
        return "foreign"
    for namespace in namespaces:
        n = len(namespace.parts)
        kind, path = parts[n : n + 1], parts[n + 1 :]
        if parts[:n] == namespace.parts and kind in (["group"], ["res"]):
            read = _membership if kind == ["group"] else _capability
            return read(namespace.name, path, authority) or "malformed"
    return "foreign"


def _membership(namespace: str, path: list[str], authority: str) -> Entitlement | None:
    """The group, subgroups and role after `:group:`; the role belongs to the rightmost group."""
    role = path.pop()[len(_ROLE) :] if path and path[-1].startswith(_ROLE) else None
    named = [*path, role] if role is not None else path
    if not path or not all(_COMPONENT.fullmatch(part) for part in named):
        return None
    return Entitlement(
        namespace=namespace, group=path[0], subgroups=tuple(path[1:]), role=role, authority=authority or None
    )


def _capability(namespace: str, path: list[str], authority: str) -> Capability | None:
    """The resource, children and actions after `:res:`; the actions belong to the rightmost child."""
    actions: list[str] = []
    if len(path) > 2 and path[-2] == _ACTIONS:
        actions = path[-1].split(",")
        path = path[:-2]
    if not path or _ACTIONS in path or not authority.strip():
        return None
    if not all(_COMPONENT.fullmatch(part) for part in (*path, *actions)):
        return None
    return Capability(
        namespace=namespace,
        resource=path[0],
        children=tuple(path[1:]),
        actions=tuple(sorted(set(actions))),
        authority=authority,
    )


def satisfies(held: Entitlement, wanted: Entitlement) -> bool:
    """Whether a membership meets a demand.

    A demand without a role is met by any membership of that group or of a subgroup of it, with or without a
    role; a demand with a role by exactly this role in exactly this group. The authority takes no part.
    Source: AARC-G069 and its reference library.
    """
    if held.namespace != wanted.namespace:
        return False
    has, needs = (held.group, *held.subgroups), (wanted.group, *wanted.subgroups)
    if wanted.role is not None:
        return has == needs and held.role == wanted.role
    return has[: len(needs)] == needs


def allows(held: Iterable[Capability], namespace: str, resource: Sequence[str], action: str) -> bool:
    """Whether one of some capabilities names this very resource, down to its child, and this action.

    A capability without actions allows nothing: AARC-G027 leaves its meaning to the service, and ours is no.
    A capability for a parent says nothing of its children, nor the reverse.
    """
    path = tuple(resource)
    return any(
        (item.namespace, (item.resource, *item.children)) == (namespace, path) and action in item.actions
        for item in held
    )


def display_text(component: str) -> str:
    """A group, subgroup or role as people read it; never to be compared or split again."""
    return unquote(component, errors="replace")
