"""What azimuthal integration needs from a file beside its frames: geometry, masks, corrections, limits."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from beamhub_reduction.bitshuffle import BITSHUFFLE, DEFAULT_BLOCK_BYTES
from beamhub_reduction.kernels.azimuthal_tiles import DEFAULT_TILE, tile_of
from beamhub_reduction.mask_file import read_image, read_mask
from beamhub_reduction.nexus.access import Roots, real_file
from beamhub_reduction.nexus.errors import MaskShapeWrong
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack, read_pixel_mask
from beamhub_reduction.nexus.geometry import (
    Geometry,
    Monitor,
    read_geometry,
    read_monitor,
    read_wavelength,
)
from beamhub_reduction.nexus.masks import read_flat_field, read_value_limits
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.steps.azimuthal_matrix import (
    AzimuthalMatrix,
    Binning,
    Corrections,
    build_azimuthal_matrix,
    build_integrator,
    load_poni,
)
from beamhub_reduction.steps.frames import BoolArray, FloatArray
from beamhub_reduction.storage_chunks import ChunkIndex

KEPT_MATRICES = 2
"""Matrices that a process keeps for the next reduction: 60 MB each for 4 million pixels."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the caller says about geometry and pixels; images as in `read_image`, the flat may be "file"."""

    geometry: Geometry | None = None
    poni: str | None = None
    mask: Any = None
    dark: Any = None
    flat: Any = None
    solid_angle: bool = True
    polarisation: float | None = None


@dataclass(frozen=True, slots=True)
class AzimuthalInput:
    """Frames, and everything that says what their pixels mean; `valid`: smallest and largest valid value."""

    stack: FrameStack
    integrator: AzimuthalIntegrator
    masked: BoolArray
    corrections: Corrections
    monitor: Monitor | None
    valid: tuple[float, float]
    geometry: dict[str, Any]


def read_input(
    file: str, dataset: str | None, choices: Choices, *, missing: str, roots: Roots
) -> AzimuthalInput:
    """Read all of it.

    Raises
    ------
    LinkMissing
        If frames are missing and `missing` says 'fail'.
    GeometryMissing, MaskShapeWrong, NoFrames, BadParameter, ...
    """
    with NexusFile(file, roots) as nexus:
        stack = read_frame_stack(nexus, dataset)
        if stack.missing and missing == "fail":
            raise stack.missing[0]
        entry = nexus.node(stack.entry)
        if choices.poni is not None:
            path = Path(real_file(choices.poni, roots))
            wavelength = read_wavelength(entry)
            integrator = load_poni(path, shape=stack.shape, wavelength_angstrom=wavelength)
        else:
            geometry = choices.geometry or read_geometry(nexus, stack.entry, stack.detector)
            integrator = build_integrator(geometry, shape=stack.shape)
        masked = read_pixel_mask(nexus, stack.detector, stack.shape)
        limits = read_value_limits(nexus, stack.detector, stack.dtype)
        valid = (limits.lowest, limits.highest)
        monitor = read_monitor(nexus, stack.entry)
        if isinstance(choices.flat, str) and choices.flat == "file":
            choices = replace(choices, flat=_flat_of_file(nexus, stack))
    masked = join_masks(file, masked, read_mask(choices.mask, file=file, roots=roots))
    images = {
        name: read_image(getattr(choices, name), name=name, file=file, shape=stack.shape, roots=roots)
        for name in ("dark", "flat")
    }
    corrections = Corrections(choices.solid_angle, choices.polarisation, **images)
    described = json.loads(json.dumps(integrator.get_config(), default=str))
    return AzimuthalInput(stack, integrator, masked, corrections, monitor, valid, described)


def _flat_of_file(nexus: NexusFile, stack: FrameStack) -> FloatArray | None:
    """What to divide frames by: NeXus gives factors. One that is 0 makes its pixel unusable."""
    factors = read_flat_field(nexus, stack.detector, stack.shape)
    if factors is None:
        return None
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / factors)


def join_masks(file: str, masked: BoolArray, mask: BoolArray | None) -> BoolArray:
    """The file's mask and the caller's (True = masked) together."""
    if mask is None:
        return masked
    if mask.shape != masked.shape:
        raise MaskShapeWrong(file, "the mask that was passed", mask.shape, masked.shape)
    return np.asarray(masked | mask)


def block_items(index: ChunkIndex) -> int | None:
    """Elements of a block of bitshuffle in a dataset's chunks, or None where that filter is not used.

    Source: bitshuffle, bshuf_h5filter.c: the fourth value of the filter, 0 for blocks of 8192 bytes.
    """
    for found in index.filters:
        if found.number == BITSHUFFLE:
            chosen = found.values[3] if len(found.values) > 3 else 0
            return int(chosen) or DEFAULT_BLOCK_BYTES // np.dtype(index.dtype).itemsize
    return None


_kept: OrderedDict[str, AzimuthalMatrix] = OrderedDict()
_kept_lock = Lock()  # protects _kept; a matrix itself never changes


def matrix_of(found: AzimuthalInput, binning: Binning, index: ChunkIndex | None) -> AzimuthalMatrix:
    """The matrix for an input, made once for each geometry, mask, corrections and binning.

    `index` is that of the frames' chunks, so that their blocks fill tiles.
    """
    items = block_items(index) if index is not None else None
    tile = tile_of(items) if items else DEFAULT_TILE
    key = _key(found, binning, tile)
    with _kept_lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    made = build_azimuthal_matrix(
        found.integrator,
        masked=found.masked,
        binning=binning,
        corrections=found.corrections,
        valid=found.valid,
        tile=tile,
    )
    with _kept_lock:
        _kept[key] = made
        while len(_kept) > KEPT_MATRICES:
            _kept.popitem(last=False)
    return made


def _key(found: AzimuthalInput, binning: Binning, tile: int) -> str:
    digest = hashlib.sha256()
    corrections = found.corrections
    facts = (found.geometry, binning, corrections.solid_angle, corrections.polarisation, found.valid, tile)
    digest.update(repr(facts).encode())
    images: tuple[BoolArray | FloatArray | None, ...] = (found.masked, corrections.dark, corrections.flat)
    for image in images:
        digest.update(b"none" if image is None else repr(image.shape).encode() + image.tobytes())
    return digest.hexdigest()
