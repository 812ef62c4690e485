"""What the machine could do at most with these very chunks: read from the page cache and decode, no more.

The limit is a rate of one thread for reading and decoding alone, measured on the first chunks of the run
(warm). A reduction also computes, so its share of the limit is below one; a share above one means that the
first chunks were slower than the rest. It says nothing about cold storage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from beamhub_reduction.pipeline.amount import segment_groups
from beamhub_reduction.storage_chunks import open_descriptor, read_rows

MAX_S = 0.2
MAX_BYTES = 256 * 1024**2

_measured: dict[tuple[Any, ...], Limit] = {}  # by kind of storage; written by any thread, last one stays


@dataclass(frozen=True, slots=True)
class Limit:
    """Bytes a second of one thread: stored bytes read, and decoded bytes read and decoded.

    `share` is what the reduction achieved, per thread, of `decode_bytes_per_s`; 0 until it is known.
    """

    read_bytes_per_s: float
    decode_bytes_per_s: float
    n_chunks: int
    threads: int = 1
    share: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the product."""
        meaning = "one thread, first chunks, page cache: stored bytes read; decoded bytes read and decoded"
        return {**asdict(self), "meaning": meaning}


def measure_limit(units: Sequence[Any]) -> Limit | None:
    """The limit for what the first unit reads; None where there is nothing to read.

    Takes at most a little over 0.2 s (one chunk at least), once per kind of storage and process.
    """
    groups = segment_groups(units[0]) if units else []
    if not groups:
        return None
    segment = groups[0][0]
    index = segment.index
    kind = (index.way, index.filters, index.dtype, index.chunk_shape)
    if kind in _measured:
        return _measured[kind]
    step = max(1, index.rows_per_chunk if index.filters else min(segment.n_rows, 16))
    began = time.perf_counter()
    n_rows = n_chunks = 0
    row = segment.start
    read_rows(index, row, min(row + step, segment.stop))  # warm: libraries loaded, pages present
    decode_began = time.perf_counter()
    while row < segment.stop and n_rows * index.row_bytes < MAX_BYTES:
        high = min(row + step, segment.stop)
        read_rows(index, row, high)
        n_rows, n_chunks, row = n_rows + high - row, n_chunks + 1, high
        if time.perf_counter() - began > 0.7 * MAX_S:
            break
    decode_s = max(1e-9, time.perf_counter() - decode_began)
    limit = Limit(_read_rate(index), n_rows * index.row_bytes / decode_s, n_chunks)
    _measured[kind] = limit
    return limit


def _read_rate(index: Any) -> float:
    """Bytes a second of positional reads of the first chunks into one buffer; 0 where HDF5 must read."""
    if index.way != "direct" or not len(index.sizes):
        return 0.0
    began, done = time.perf_counter(), 0
    buffer = bytearray(min(int(index.sizes.max()), MAX_BYTES))

    with open_descriptor(index.file) as descriptor:
        for offset, size in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True):
            done += os.preadv(descriptor, [memoryview(buffer)[: min(size, len(buffer))]], offset)
            if time.perf_counter() - began > 0.2 * MAX_S:
                break
    return done / max(1e-9, time.perf_counter() - began)
