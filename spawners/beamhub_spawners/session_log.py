"""What a session said last, kept for the facility after its container or pod is gone."""

from __future__ import annotations

import os
from pathlib import Path


def keep_log(folder: Path, plan_id: str, said: bytes) -> None:
    """Write what a session said into the state folder, for the facility only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / f"{Path(plan_id).name}.log"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(said)
