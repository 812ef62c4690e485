"""Scans that are still being written: the frames that are surely there, and more of them as they come."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from threading import Event

import h5py
import numpy as np

from beamhub_reduction.nexus.access import OpenFiles, Roots, reading, real_file
from beamhub_reduction.nexus.boxes import Piece
from beamhub_reduction.nexus.errors import (
    FileDamaged,
    FileMissing,
    FileShrank,
    FramePositionUnknown,
    FramesDisagree,
    LinkMissing,
    NexusError,
    NodeMissing,
    NoFrames,
)
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack
from beamhub_reduction.nexus.tree import NexusFile

POLL_S = 0.5
_NOT_YET = (
    FileDamaged, FileMissing, FramePositionUnknown, FramesDisagree, LinkMissing, NodeMissing, NoFrames,
)  # fmt: skip


def written_prefix(stack: FrameStack) -> FrameStack:
    """The stack cut behind the last frame before which nothing is missing.

    A frame is there when all storage chunks of all its tiles are allocated and end inside their file. A
    contiguous dataset shows no progress: all of it counts, once it has storage.

    Raises
    ------
    FileDamaged
        If a file cannot be read at this moment.
    """
    n_frames = 0
    files = OpenFiles()
    known: dict[tuple[str, str], int] = {}
    try:
        for run in stack.present:
            if run.at > n_frames:
                break
            ready = min(_ready(tile, files, known, stack) for tile in run.tiles)
            n_frames = run.at + ready
            if ready < run.n_rows:
                break
    finally:
        files.close()
    return first_frames(stack, n_frames)


def first_frames(stack: FrameStack, n_frames: int) -> FrameStack:
    """The stack without the frames from `n_frames` on, and without what is missing behind them."""
    kept = [
        piece if piece.at + piece.n_rows <= n_frames else replace(piece, n_rows=n_frames - piece.at)
        for piece in stack.pieces
        if piece.at < n_frames and piece.n_rows
    ]
    return replace(stack, pieces=tuple(kept), n_frames=min(n_frames, stack.n_frames))


def _ready(tile: Piece, files: OpenFiles, known: dict[tuple[str, str], int], stack: FrameStack) -> int:
    """How many leading frames of a tile are on disk."""
    key = (tile.file, tile.dataset)
    if key not in known:
        with files.lend(tile.file) as handle, reading(tile.file):
            known[key] = _written_frames(handle[tile.dataset], Path(tile.file).stat().st_size, stack)
    return max(0, min(tile.n_rows, known[key] - tile.first))


def _written_frames(dataset: h5py.Dataset, n_bytes: int, stack: FrameStack) -> int:
    """Leading frames of a dataset all of whose chunks are allocated inside the file."""
    shape = tuple(int(n) for n in dataset.shape)
    n_axes = 3 if stack.n_modules > 1 and shape[-2] != stack.shape[0] else 2
    lead = shape[:-n_axes]
    n_frames = prod(lead)
    if not dataset.chunks:
        offset = dataset.id.get_offset()
        compact = dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
        return n_frames if compact or (offset is not None and offset + dataset.nbytes <= n_bytes) else 0
    chunks = tuple(int(n) for n in dataset.chunks)
    grid = tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    there = np.zeros(grid[: len(lead)] or (1,), dtype=np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= n_bytes:
            place = tuple(o // c for o, c in zip(chunk.chunk_offset, chunks, strict=True))
            if all(p < n for p, n in zip(place, grid, strict=True)):
                there[place[: len(lead)] or (0,)] += 1

    dataset.id.chunk_iter(note)
    full = there == prod(grid[len(lead) :])
    for axis in range(len(lead)):
        full = np.repeat(full, chunks[axis], axis=axis).take(range(lead[axis]), axis=axis)
    flat = full.ravel()
    return n_frames if flat.all() else int(np.argmin(flat))


@dataclass(slots=True)
class _Watch:
    """What was seen of each file: (device, inode) and size must not go back."""

    seen: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def check(self, file: str) -> None:
        try:
            status = os.stat(file)  # noqa: PTH116  # the three numbers of one call
        except OSError as error:
            if file in self.seen:
                raise FileShrank(file, "it is gone") from error
            return
        now = (status.st_dev, status.st_ino, status.st_size)
        before = self.seen.get(file)
        if before is not None and before[:2] != now[:2]:
            raise FileShrank(file, "another file took its place")
        if before is not None and now[2] < before[2]:
            raise FileShrank(file, f"it shrank from {before[2]} to {now[2]} bytes")
        self.seen[file] = now


def follow(
    path: str | os.PathLike[str],
    dataset: str | None = None,
    *,
    roots: Roots = None,
    timeout_s: float = 60.0,
    poll_s: float = POLL_S,
    stop: Event | None = None,
) -> Iterator[FrameStack]:
    """The frames of a scan while it is written: a longer prefix each time there is one.

    A writer without SWMR may have entered a chunk in its index before its values are on disk; so while
    the scan goes on, a frame is given only when it was there at the look before as well. The end is
    `end_time` of the entry, or as many frames as were planned; then all frames are given. Without an end,
    the last prefix stands when nothing new came for `timeout_s`.

    Parameters
    ----------
    dataset:
        As in `read_frame_stack`.
    timeout_s:
        How long to wait for the file, or for something new in it.
    stop:
        Ends the waiting when it is set.

    Raises
    ------
    FileShrank
        If a file was replaced, or lost frames or bytes.
    NexusError
        What stood in the way of any frame, when there was none until the timeout.
    """
    watch, waiting = _Watch(), stop or Event()
    given = seen = 0
    error: NexusError | None = None
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            stack, ended = _look(path, dataset, roots, watch)
        except _NOT_YET as problem:
            error, stack, ended = problem, None, False
        if stack is not None:
            if stack.n_frames < given:
                raise FileShrank(stack.file, f"it had {given} frames and has {stack.n_frames}")
            settled = stack.n_frames if ended else min(seen, stack.n_frames)
            if stack.n_frames > seen or settled > given:
                deadline = time.monotonic() + timeout_s
            seen = stack.n_frames
            if settled > given:
                given = settled
                yield first_frames(stack, settled)
                deadline = time.monotonic() + timeout_s  # what the caller did meanwhile is not silence
            if ended:
                return
        if time.monotonic() >= deadline or waiting.wait(poll_s):
            if not given and error is not None:
                raise error
            return


def _look(
    path: str | os.PathLike[str], dataset: str | None, roots: Roots, watch: _Watch
) -> tuple[FrameStack, bool]:
    """The frames that are there now, and whether the scan has ended."""
    real = real_file(path, roots) if not watch.seen else os.fspath(path)
    watch.check(real_file(real, roots) if Path(real).exists() else next(iter(watch.seen), real))
    with NexusFile(real, roots) as nexus:
        stack = read_frame_stack(nexus, dataset)
        ended = nexus.node(stack.entry).text("end_time") is not None
    for file in sorted({piece.file for piece in stack.pieces if piece.missing is None}):
        watch.check(file)
    prefix = written_prefix(stack)
    planned = stack.n_expected is not None and prefix.n_frames >= stack.n_expected
    return prefix, planned or ended
