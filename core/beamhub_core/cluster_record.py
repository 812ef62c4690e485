"""Where a session keeps word of its Dask clusters: a file each, for the server that shows their dashboards.

A notebook writes it, the session's server reads it; both are the same person's. The folder is the server's
runtime folder, which belongs to one session and ends with it; in a container it lies in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from beamhub_core.word import Word

FOLDER = "beamhub-clusters"
RUNTIME_VARIABLE = "JUPYTER_RUNTIME_DIR"
MAX_RECORD_BYTES = 64 * 1024
MAX_RECORDS = 64

ClusterKind = Literal["gateway", "threads", "processes"]
"""Workers beside the session, threads of the notebook, or processes of the notebook's machine."""


class ClusterRecord(Word):
    """One cluster, and the door of its scheduler.

    The door speaks TLS both ways with the cluster's own certificate: it opens to whoever holds this record,
    and whoever holds it notices when somebody else listens there.
    """

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    kind: ClusterKind
    made_at: datetime
    host: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.:-]{0,252}$")
    port: int = Field(ge=1, le=65535)
    certificate: str = Field(max_length=16_384, repr=False)
    key: str = Field(max_length=16_384, repr=False)


def records_folder(environment: Mapping[str, str]) -> Path | None:
    """Where the records of this session lie; None outside of a session."""
    runtime = environment.get(RUNTIME_VARIABLE)
    return Path(runtime) / FOLDER if runtime and Path(runtime).is_absolute() else None


def write_record(folder: Path, record: ClusterRecord) -> None:
    """Keep a record for its owner only.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    hidden = folder / f".{record.id}.{os.getpid()}"
    handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(record.model_dump_json())
    hidden.replace(folder / f"{record.id}.json")


def remove_record(folder: Path, cluster: str) -> None:
    """Forget a cluster; one that is forgotten already is fine."""
    with suppress(OSError):
        (folder / f"{cluster}.json").unlink(missing_ok=True)


def read_records(folder: Path) -> tuple[ClusterRecord, ...]:
    """The clusters of a session, the oldest first; what is no record is left out."""
    return tuple(sorted(_records(folder), key=lambda record: (record.made_at, record.id)))


def _records(folder: Path) -> Iterator[ClusterRecord]:
    try:
        files = sorted(folder.glob("*.json"))[:MAX_RECORDS]
    except OSError:
        return
    for file in files:
        with suppress(OSError, ValidationError):
            handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as stream:
                record = ClusterRecord.model_validate_json(stream.read(MAX_RECORD_BYTES))
            if file.stem == record.id and record.made_at.tzinfo is not None:
                yield record
