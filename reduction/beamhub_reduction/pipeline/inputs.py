"""What the units of a reduction read: files by identity, a digest of their chunk indexes, how sure it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beamhub_reduction.pipeline.amount import segment_groups
from beamhub_reduction.pipeline.digest import content_digest
from beamhub_reduction.pipeline.units import Segment

MAX_FILES = 1000


@dataclass(frozen=True, slots=True)
class FileFact:
    """One file as it was when it was planned; `mtime_ns` since 1970."""

    name: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that was planned to be read.

    `integrity` is 'checksummed' when every chunk of every dataset carries a checksum of its data, else
    'not verifiable': then a flipped byte that still decodes changes counts and nobody can notice.
    """

    files: tuple[FileFact, ...]
    n_files: int
    n_chunks: int
    stored_bytes: int
    decoded_bytes: int
    index_digest: str
    integrity: str
    unverifiable: tuple[str, ...]
    read_by: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the product."""
        return {
            "files": [[fact.name, fact.size_bytes, fact.mtime_ns] for fact in self.files],
            "n_files": self.n_files,
            "n_chunks": self.n_chunks,
            "stored_bytes": self.stored_bytes,
            "decoded_bytes": self.decoded_bytes,
            "index_digest": self.index_digest,
            "integrity": self.integrity,
            "not_verifiable": list(self.unverifiable),
            "read_by": list(self.read_by),
        }


def inputs_of(units: Sequence[Any]) -> Inputs | None:
    """What the units read; None when they hold no segments."""
    segments = [s for unit in units for group in segment_groups(unit) for s in group]
    if not segments:
        return None
    whole = hashlib.sha256()
    files: dict[str, FileFact] = {}
    weak: set[str] = set()
    ways: set[str] = set()
    for segment in segments:
        index = segment.index
        files.setdefault(index.file, FileFact(Path(index.file).name, index.identity[3], index.identity[2]))
        whole.update(_of_segment(segment).encode())
        ways.add(index.rung)
        if index.integrity != "checksummed":
            weak.add(f"{Path(index.file).name}:{index.dataset}")
    return Inputs(
        files=tuple(files[name] for name in sorted(files))[:MAX_FILES],
        n_files=len(files),
        n_chunks=sum(s.index.numbers.size for s in segments),
        stored_bytes=sum(_stored(s) for s in segments),
        decoded_bytes=sum(s.n_rows * s.index.row_bytes for s in segments),
        index_digest=f"sha256:{whole.hexdigest()}",
        integrity="not verifiable" if weak else "checksummed",
        unverifiable=tuple(sorted(weak))[:100],
        read_by=tuple(sorted(ways)),
    )


def _of_segment(segment: Segment) -> str:
    """A digest of where the rows lie and how they are stored, whatever the file's folder is called."""
    index = segment.index
    return content_digest(
        Path(index.file).name, index.identity[3], index.dataset, index.shape, index.dtype, index.chunk_shape,
        index.filters, index.numbers, index.offsets, index.sizes, index.filter_masks,
        segment.start, segment.stop,
    )  # fmt: skip


def _stored(segment: Segment) -> int:
    index = segment.index
    if not index.filters and index.chunk_shape == index.shape:
        return segment.n_rows * index.row_bytes
    return int(index.sizes.sum())
