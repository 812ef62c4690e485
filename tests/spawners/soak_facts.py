"""What every soak's result says of where and when it ran."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def soak_facts(module: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Machine, date and command of this process, then what it found."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        **found,
    }
