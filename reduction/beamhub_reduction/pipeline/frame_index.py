"""The chunk index of a dataset with many axes, seen as one of frames: (n, ny, nx)."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from beamhub_reduction.nexus.errors import UnsupportedLayout
from beamhub_reduction.storage_chunks import ChunkIndex


def frame_index(index: ChunkIndex, shape: tuple[int, ...]) -> ChunkIndex:
    """The index with all axes before the frame taken together.

    Parameters
    ----------
    index:
        Of a dataset of two axes (one frame), three, or more; the last ones are a frame of `shape`, or
        modules (n_modules, ny / n_modules, nx) of one.

    Raises
    ------
    UnsupportedLayout
        If a chunk holds values that do not lie together in that view.
    """
    if len(index.shape) <= 3 and index.shape[-2:] == tuple(shape):
        return index
    modules = index.shape[-2] != shape[0]
    n_axes = 3 if modules else 2
    ny, lead = index.shape[-2], index.shape[:-n_axes]
    n_frames = prod(lead)
    if index.way != "direct":
        raise UnsupportedLayout(index.file, index.dataset, f"{len(index.shape)} axes and {index.reason}")
    whole = (n_frames, *shape)
    if index.chunk_shape == index.shape:
        return replace(index, shape=whole, chunk_shape=whole)
    per_chunk = _frames_together(index.chunk_shape[:-n_axes], lead)
    height = index.chunk_shape[-2]
    if modules:
        height = _modules_together(index.chunk_shape[-3], height, (index.shape[-3], ny))
    if not per_chunk or not height:
        reason = f"storage chunks {index.chunk_shape} across frames of {index.shape}"
        raise UnsupportedLayout(index.file, index.dataset, reason)
    chunk = (per_chunk, height, index.chunk_shape[-1])
    places = np.stack(np.unravel_index(index.numbers, index.grid), axis=1)
    coords = places.astype(np.int64) * np.array(index.chunk_shape, dtype=np.int64)
    firsts = coords[:, : len(lead)]
    frames = np.ravel_multi_index(tuple(firsts.T), lead) if len(firsts) else np.zeros(0, dtype=np.int64)
    rows = coords[:, -2] + (coords[:, -3] * ny if modules else 0)
    grid = tuple(-(-n // c) for n, c in zip(whole, chunk, strict=True))
    at = np.stack([frames, rows, coords[:, -1]], axis=1) // np.array(chunk, dtype=np.int64)
    numbers = np.ravel_multi_index(tuple(at.T), grid) if len(at) else np.zeros(0, dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    return replace(
        index, shape=whole, chunk_shape=chunk, numbers=numbers[order].astype(np.int64),
        offsets=index.offsets[order], sizes=index.sizes[order], filter_masks=index.filter_masks[order],
    )  # fmt: skip


def _frames_together(chunk: tuple[int, ...], lead: tuple[int, ...]) -> int:
    """How many frames of a chunk follow each other in the stack, 0 when they do not."""
    inside = [i for i, n in enumerate(chunk) if n > 1]
    if not inside:
        return 1
    first = inside[0]
    if any(c != n for c, n in zip(chunk[first + 1 :], lead[first + 1 :], strict=True)):
        return 0
    # A chunk that hangs over the end of an inner axis would reach into the next one.
    return prod(chunk) if first == 0 or lead[first] % chunk[first] == 0 else 0


def _modules_together(n_modules: int, height: int, shape: tuple[int, int]) -> int:
    """How many pixel rows of a chunk of modules follow each other in the frame, 0 when they do not."""
    ny = shape[1]
    if n_modules == 1:
        return height if ny % height == 0 else 0
    return n_modules * height if height == ny and shape[0] % n_modules == 0 else 0
