"""The base of every word that travels between rooms, and its canonical form."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Word(BaseModel):
    """A frozen value that crosses a border: HTTP, a file, a form."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_timedelta="float")


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, UTF-8.

    Numbers keep Python's shortest round-trip form, which agrees with RFC 8785 for the
    integers and finite decimals that our words hold.

    Raises
    ------
    ValueError
        If the value holds NaN or an infinity.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(word: Word) -> str:
    """SHA-256 of a word's canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(word.model_dump(mode="json"))).hexdigest()
