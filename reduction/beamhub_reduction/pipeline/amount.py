"""How much one unit is: rows, bytes, the memory that it takes, and where it lies. For any kind of unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beamhub_reduction.pipeline.units import Segment
from beamhub_reduction.storage_chunks import ChunkIndex

BATCH_ROWS = 16
"""Frames that are decoded at once; the default of `frame_batches`."""
COPIES = 4
"""How often the decoded values of a batch stand in memory: as read, good ones, widened, reduced."""


@dataclass(frozen=True, slots=True)
class Amount:
    """One unit in numbers. A kind of unit that knows better has a property `amount`.

    `n_rows` are frames, events or spectra; `n_bytes` are decoded; `working_bytes` is what it takes while it
    runs; `where` names file, dataset and rows for people.
    """

    n_rows: int
    n_bytes: int
    working_bytes: int
    where: str


def amount_of(unit: Any) -> Amount:
    """What a unit says of itself, else what its segments add up to; zeros for one without any."""
    given = getattr(unit, "amount", None)
    if isinstance(given, Amount):
        return given
    groups = segment_groups(unit)
    segments = [segment for group in groups for segment in group]
    if not segments:
        return Amount(0, 0, 0, "no file")
    n_bytes = sum(s.n_rows * s.index.row_bytes for s in segments)
    is_frames = len(groups) == 1 and len(segments[0].index.shape) > 1
    row_bytes = max(s.index.row_bytes for s in segments)
    held = min(n_bytes, BATCH_ROWS * row_bytes) if is_frames else n_bytes
    working = COPIES * held + 2 * max(_chunk_bytes(s.index) for s in segments)
    return Amount(sum(s.n_rows for s in groups[0]), n_bytes, working, _where(segments))


def segment_groups(unit: Any) -> list[list[Segment]]:
    """The segments of a unit, for each of its fields that holds any."""
    if isinstance(unit, Segment):
        return [[unit]]
    if not is_dataclass(unit):
        return []
    found = ([*_segments(getattr(unit, field.name))] for field in fields(unit))
    return [group for group in found if group]


def _segments(value: Any) -> Iterator[Segment]:
    if isinstance(value, Segment):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _segments(item)
    elif is_dataclass(value) and not isinstance(value, (type, ChunkIndex)):
        for field in fields(value):
            yield from _segments(getattr(value, field.name))


def _chunk_bytes(index: ChunkIndex) -> int:
    """Decoded bytes of one storage chunk; without filters rows are read, not chunks."""
    if not index.filters and index.chunk_shape == index.shape:
        return 0
    return int(np.prod(index.chunk_shape, dtype=np.int64)) * np.dtype(index.dtype).itemsize


def _where(segments: list[Segment]) -> str:
    first, last = segments[0], segments[-1]
    text = f"{Path(first.index.file).name}:{first.index.dataset}, rows {first.start} to "
    if last.index.file != first.index.file:
        text += f"{first.stop - 1}, and on to {Path(last.index.file).name}:{last.index.dataset}, row "
    elif last.index.dataset != first.index.dataset:
        text += f"{first.stop - 1}, and {last.index.dataset}, rows {last.start} to "
    return text + str(last.stop - 1)


def bytes_of(value: Any) -> int:
    """Bytes of all arrays in a part."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (tuple, list)):
        return sum(bytes_of(item) for item in value)
    if isinstance(value, dict):
        return sum(bytes_of(item) for item in value.values())
    if is_dataclass(value) and not isinstance(value, type):
        return sum(bytes_of(getattr(value, field.name)) for field in fields(value))
    return 0
