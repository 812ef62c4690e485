"""The sets of the OAI-PMH provider: facility, instrument, technique and year, and that of OpenAIRE.

A name that a setSpec cannot hold is written with `~` and the hexadecimal digits of each byte, so that
different names never make one set. Source: OAI-PMH 2.0, section 2.6 and the type setSpecType of OAI-PMH.xsd.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from beamhub_catalogue.publishing.record import PANET

OPENAIRE_DATA = "openaire_data"
"""Source: OpenAIRE Guidelines for Data Archives 2.0, 'OpenAIRE OAI set'."""
KINDS = {
    "facility": "Everything of the facility",
    "instrument": "By instrument",
    "technique": "By technique (PaNET)",
    "year": "By year of the measurement",
}
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
MAX_SET_SPEC = 700


@dataclass(frozen=True, slots=True)
class SetChoice:
    """The set that a harvester asks for: all of a kind, or one value of it."""

    kind: str
    value: str | None = None


def encoded(name: str) -> str:
    """A name as one step of a setSpec."""
    return "".join(chr(byte) if byte in _PLAIN else f"~{byte:02x}" for byte in name.encode())


def decoded(step: str) -> str | None:
    """The name behind a step; None for what no name is written as."""
    if not re.fullmatch(r"(?:[A-Za-z0-9_.-]|~[0-9a-f]{2})+", step):
        return None
    raw = bytearray()
    position = 0
    while position < len(step):
        if step[position] == "~":
            raw.append(int(step[position + 1 : position + 3], 16))
            position += 3
        else:
            raw += step[position].encode()
            position += 1
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return None
    return name if encoded(name) == step else None


def technique_id(term: str) -> str:
    """What names a technique in a set: the PaNET id, or the whole term of another vocabulary."""
    return term.removeprefix(PANET)


def parse_set(spec: str) -> SetChoice | None:
    """What a setSpec asks for; None for a set that there is not."""
    if spec == OPENAIRE_DATA:
        return SetChoice(OPENAIRE_DATA)
    kind, colon, step = spec[:MAX_SET_SPEC].partition(":")
    if kind not in KINDS:
        return None
    if not colon:
        return SetChoice(kind)
    value = decoded(step)
    if value is None or (kind == "year" and not re.fullmatch("[0-9]{4}", value)):
        return None
    return SetChoice(kind, value)


def set_specs(facility: str, kind: str, instrument: str, technique: str, year: int | None) -> list[str]:
    """The sets that a record's header lists: the lowest of each branch."""
    specs = [f"facility:{encoded(facility)}"]
    if kind == "dataset":
        specs.append(OPENAIRE_DATA)
    if instrument:
        specs.append(f"instrument:{encoded(instrument)}")
    if technique:
        specs.append(f"technique:{encoded(technique)}")
    if year is not None:
        specs.append(f"year:{year:04d}")
    return specs
