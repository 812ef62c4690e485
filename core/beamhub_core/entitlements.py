"""Entitlements of AARC communities as groups: parsed strictly, compared whole, never guessed.

Grammar: `<NAMESPACE>:group:<GROUP>[:<SUBGROUP>]*[:role=<ROLE>][#<AUTHORITY>]`.
Source: AARC-G069 (doi 10.5281/zenodo.6533400); AARC-G002 for the authority; RFC 8141 for URNs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from beamhub_core.identity import Entitlement

MAX_VALUES = 2000
"""More values than any community sends; the rest is counted as ignored."""
MAX_LENGTH = 1024

# One component of a URN's name between two colons: RFC 3986 pchar without ':' and '=', or %xx.
_COMPONENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;@/-]|%[0-9A-Fa-f]{2})+")
_NAMESPACE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_ROLE = "role="


@dataclass(frozen=True, slots=True)
class ParsedEntitlements:
    """What the values of a claim say, and how many of them said nothing to us."""

    entitlements: tuple[Entitlement, ...]
    ignored: int


def parse_entitlement(value: str, namespaces: Iterable[str]) -> Entitlement | None:
    """The group membership that one value asserts in one of these namespaces, else None.

    The namespace must be one of the list as a whole: a longer one does not satisfy a shorter one.
    The value is split before anything is decoded, so a group called `a%3Arole%3Dadmin` stays a
    group and becomes no role; components keep their percent-encoding (see `display_text`), with the
    hexadecimal digits in upper case. `urn` and the namespace identifier ignore letter case; the
    rest does not. The authority and RFC 8141's other components take no part in the comparison.

    Never raises for any text.
    """
    if len(value) > MAX_LENGTH or not value.isprintable():
        return None
    rest, _, authority = value.partition("#")
    name, question, component = rest.partition("?")
    if question and component[:1] not in ("+", "="):
        return None
    parts = [_PERCENT.sub(lambda match: match.group().upper(), part) for part in name.split(":")]
    if not _is_urn(parts):
        return None
    for namespace in namespaces:
        n = len(namespace.split(":"))
        if _same_namespace(parts[:n], namespace.split(":")) and parts[n : n + 1] == ["group"]:
            return _membership(namespace, parts[n + 1 :], authority or None)
    return None


def _is_urn(parts: list[str]) -> bool:
    return len(parts) > 3 and parts[0].lower() == "urn" and _NAMESPACE_ID.fullmatch(parts[1]) is not None


def _same_namespace(parts: list[str], prefix: list[str]) -> bool:
    """Whether both name the same namespace; 'urn' and the identifier after it ignore letter case."""
    return [part.lower() for part in parts[:2]] == [part.lower() for part in prefix[:2]] and (
        parts[2:] == prefix[2:]
    )


def _membership(namespace: str, parts: list[str], authority: str | None) -> Entitlement | None:
    """The group, subgroups and role after `:group:`; the role belongs to the rightmost group."""
    role = None
    if parts and parts[-1].startswith(_ROLE):
        role = parts.pop()[len(_ROLE) :]
    named = [*parts, role] if role is not None else parts
    if not parts or not all(_COMPONENT.fullmatch(part) for part in named):
        return None
    return Entitlement(
        namespace=namespace, group=parts[0], subgroups=tuple(parts[1:]), role=role, authority=authority
    )


def parse_entitlements(values: object, namespaces: Iterable[str]) -> ParsedEntitlements:
    """The group memberships in a claim as a provider sent it.

    A string stands for a list of one. Whatever does not parse is skipped and counted; one bad value
    never spoils the others. Equal memberships (whatever their authority) are kept once.

    Never raises for any JSON value.
    """
    wanted = tuple(namespaces)
    if values is None:
        return ParsedEntitlements((), 0)
    items = [values] if isinstance(values, str) else values
    if not isinstance(items, (list, tuple)):
        return ParsedEntitlements((), 1)
    found: dict[tuple[object, ...], Entitlement] = {}
    ignored = max(0, len(items) - MAX_VALUES)
    for item in items[:MAX_VALUES]:
        entitlement = parse_entitlement(item, wanted) if isinstance(item, str) else None
        if entitlement is None:
            ignored += 1
        else:
            key = (entitlement.namespace, entitlement.group, entitlement.subgroups, entitlement.role)
            found.setdefault(key, entitlement)
    return ParsedEntitlements(tuple(found.values()), ignored)


def display_text(component: str) -> str:
    """A group, subgroup or role as people read it; never to be compared or split again."""
    return unquote(component, errors="replace")
