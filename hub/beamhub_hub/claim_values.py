"""Single claims read as what they should be; a value that makes no sense counts as not said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

Claims = Mapping[str, object]

MIN_ID, MAX_ID = 1000, 2**31 - 1
"""Numeric ids that a claim may give. Lower ones are the system's own (Debian policy, 9.2.2); higher ones do
not fit every file system's and program's idea of an id."""
NOBODYS_IDS = (65534, 65535)
"""The overflow id that stands for nobody, and what is -1 in 16 bits (Debian policy, 9.2.2)."""
MAX_GROUP_IDS = 1024
_FACILITY_ACCOUNT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_ORCID = re.compile(r"(?:https?://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])", re.ASCII)


def texts_of(claims: Claims, name: str) -> list[str]:
    """All strings that a claim holds: itself, or those in its list; nothing of another type."""
    value = claims.get(name)
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def text_of(value: object, limit: int = 200) -> str:
    """One line of text that shows what it says: no control or direction-changing characters."""
    if not isinstance(value, str):
        return ""
    plain = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in value[: 4 * limit])
    return " ".join(plain.split())[:limit].rstrip()


def display_name(claims: Claims, subject: str) -> str:
    """What a person is called on pages; never a key of anything."""
    given_and_family = f"{text_of(claims.get('given_name'))} {text_of(claims.get('family_name'))}".strip()
    for candidate in (
        text_of(claims.get("name")),
        given_and_family[:200],
        text_of(claims.get("preferred_username")),
    ):
        if candidate:
            return candidate
    return subject if len(subject) <= 40 else subject[:39] + "…"


def orcid_of(value: object) -> str | None:
    """A researcher's ORCID iD whose check digit fits, else None.

    Source: ISO/IEC 7064 MOD 11-2, as ORCID uses it.
    """
    match = _ORCID.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    digits = match[1].replace("-", "")
    total = 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    check = (12 - total % 11) % 11
    return match[1] if digits[-1] == ("X" if check == 10 else str(check)) else None


def facility_account_of(value: object) -> str | None:
    """An account at the facility, letter case kept."""
    return value if isinstance(value, str) and _FACILITY_ACCOUNT.fullmatch(value) else None


def id_of(value: object) -> int | None:
    """A numeric user or group id, also as a string of digits; None for ids that no person has."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None  # true is no id, and 1000.0 is nobody's way to write one
    return value if MIN_ID <= value <= MAX_ID and value not in NOBODYS_IDS else None


def ids_of(value: object) -> tuple[int, ...]:
    """Numeric group ids, sorted, each once; what is no id is left out, and so are more than MAX_GROUP_IDS."""
    items = value if isinstance(value, list) else [value]
    found = {number for item in items if (number := id_of(item)) is not None}
    return tuple(sorted(found))[:MAX_GROUP_IDS]
