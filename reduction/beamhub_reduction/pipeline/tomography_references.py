"""Reading the flats and darks of a scan, from itself or from other files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.nexus.access import Roots, real_file
from beamhub_reduction.nexus.errors import FramesDisagree
from beamhub_reduction.nexus.frames import FrameStack
from beamhub_reduction.nexus.scan_errors import ReferenceMissing
from beamhub_reduction.nexus.tomography import (
    DARK,
    FLAT,
    PROJECTION,
    TomographyScan,
    read_reference_stack,
    split_name,
)
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.frames import FrameBatch, frame_batches
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.tomography_plan import frame_unit
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray
from beamhub_reduction.steps.tomography import (
    FlatOrder,
    ReferencePlanes,
    build_planes,
    flat_minus_dark,
    group_flats,
    median_flat,
)

Average = Literal["mean", "median"]
MAX_MEDIAN_BYTES = 1024**3
"""A median needs all frames of a group at once, as float64; more than this is refused, a mean is not."""


@dataclass(frozen=True, slots=True)
class ReferenceChoice:
    """How the caller wants flats and darks: both None (in the scan), 'none' or FILE[::/path]."""

    flats: str | None
    darks: str | None
    average: Average
    order: FlatOrder
    bin: int
    corrupt: CorruptPolicy
    roots: Roots


@dataclass(frozen=True, slots=True)
class ScanReferences:
    """Planes for the kernel, where each group of flats stands in the scan, and what was used."""

    planes: ReferencePlanes
    positions: FloatArray
    n_flats: int
    n_darks: int


@dataclass(frozen=True, slots=True)
class _Frames:
    """Frames of one kind: a stack, their numbers in it, the flux of every frame of the stack."""

    stack: FrameStack
    numbers: IntArray
    flux: FloatArray
    kind: str


def read_references(
    scan: TomographyScan, choice: ReferenceChoice, *, flux: FloatArray, masked: BoolArray
) -> ScanReferences:
    """Average darks and flats, group by group, and bin them.

    Parameters
    ----------
    flux:
        Incident flux of every frame of the scan relative to the reference, shape (n_frames,).
    masked:
        Pixels never used, shape (raw_ny, raw_nx).

    Raises
    ------
    ReferenceMissing
        If the scan has none of a kind and the caller said nothing about it.
    FramesDisagree
        If another file's frames have another shape.
    NothingLeft
        If no frame of a kind can be read, or every pixel's flat is below its dark.
    BadParameter
        If a median needs too much memory.
    """
    shape = scan.stack.shape
    dark_frames = _frames_of_kind(scan, choice.darks, DARK, flux, choice.roots)
    dark, n_darks = np.zeros(shape), 0
    if dark_frames is not None:
        unlit = _Frames(dark_frames.stack, dark_frames.numbers, np.ones_like(dark_frames.flux), "darks")
        dark, n_darks = _average(unlit, unlit.numbers, np.zeros(shape), choice)
    flat_frames = _frames_of_kind(scan, choice.flats, FLAT, flux, choice.roots)
    if flat_frames is None:  # already divided by its flat: a flat of one everywhere
        groups: tuple[FloatArray, ...] = (np.ones(shape),)
        positions, n_flats = np.zeros(1), 0
    else:
        sets = [flat_frames.numbers]
        if flat_frames.stack is scan.stack and choice.order != "all":
            sets = group_flats(scan.keys == FLAT, is_projection=scan.keys == PROJECTION)
        averaged = [_average(flat_frames, numbers, dark, choice) for numbers in sets]
        kept = [i for i, (_, n) in enumerate(averaged) if n]
        groups = tuple(averaged[i][0] for i in kept)
        positions = np.array([sets[i].mean() for i in kept])
        n_flats = sum(averaged[i][1] for i in kept)
    if (flat_frames is not None and not n_flats) or (dark_frames is not None and not n_darks):
        raise NothingLeft(scan.stack.file, "flats" if n_darks or dark_frames is None else "darks")
    planes = build_planes(dark, flats=groups, masked=masked, bin=choice.bin)
    if planes.n_masked == masked.size:
        raise NothingLeft(scan.stack.file, "pixels whose flat is above the dark")
    return ScanReferences(planes, positions, n_flats, n_darks)


def _frames_of_kind(
    scan: TomographyScan, named: str | None, key: int, flux: FloatArray, roots: Roots
) -> _Frames | None:
    kind = "flats" if key == FLAT else "darks"
    if named == "none":
        return None
    if named is None:
        numbers = scan.frames_of(key)
        if not numbers.size:
            raise ReferenceMissing(scan.stack.file, scan.stack.detector, kind)
        return _Frames(scan.stack, numbers, flux, kind)
    file, inside = split_name(named)
    with NexusFile(real_file(file, roots), roots) as nexus:
        stack, numbers = read_reference_stack(nexus, inside, key)
    if stack.shape != scan.stack.shape:
        described = f"{kind} {stack.detector} {stack.shape}"
        raise FramesDisagree(stack.file, f"{scan.stack.detector} {scan.stack.shape}", described)
    if stack.missing:
        raise stack.missing[0]
    return _Frames(stack, numbers, np.ones(stack.n_frames), kind)


def _average(
    frames: _Frames, numbers: IntArray, dark: FloatArray, choice: ReferenceChoice
) -> tuple[FloatArray, int]:
    """(mean or median of the frames minus the dark at unit flux, how many frames were good)."""
    unit = frame_unit(frames.stack, numbers, weights=frames.flux)
    batches = frame_batches(unit, shape=frames.stack.shape, corrupt=choice.corrupt)
    if choice.average == "median":
        if numbers.size * dark.size * 8 > MAX_MEDIAN_BYTES:
            raise BadParameter("average", "median", f"'mean' for {numbers.size} {frames.kind} of this size")
        read = [(_values(batch), batch.weights) for batch in batches if len(batch.weights)]
        if not read:
            return dark, 0
        flux = np.concatenate([weights for _, weights in read])
        return median_flat(np.concatenate([v for v, _ in read]), dark=dark, flux=flux), flux.size
    dtype = np.dtype(frames.stack.dtype)
    is_exact = dtype.kind in "iub" and dtype.str[1:] != "u8"
    exact, total = np.zeros(dark.shape, np.int64), np.zeros(dark.shape)
    flux_sum, n = 0.0, 0
    for batch in batches:
        whole = is_exact and batch.blank is None
        into: np.ndarray[Any, Any] = exact if whole else total
        for frame in batch.data if whole else _values(batch):  # one by one: sums must not depend on the batch
            into += frame
        flux_sum += float(batch.weights.sum())
        n += len(batch.weights)
    return (flat_minus_dark(exact + total, dark=dark, n_frames=n, flux=flux_sum), n) if n else (dark, 0)


def _values(batch: FrameBatch) -> FloatArray:
    """A copy of a batch as float64, NaN where a value could not be decoded."""
    values: FloatArray = batch.data.astype(np.float64)
    if batch.blank is not None:
        values[batch.blank] = np.nan
    return values
