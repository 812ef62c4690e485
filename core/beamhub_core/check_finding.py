"""What `beamhub check` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["problem", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: a problem stops the platform, a warning weakens it, a note is as it should be."""

    level: Level
    path: str
    message: str
    hint: str = ""
