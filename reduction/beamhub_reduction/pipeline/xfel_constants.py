"""Constants of memory cells and positions of pixels, read from the files that the caller names."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from beamhub_reduction.errors import BadParameter, FilesChanged
from beamhub_reduction.kernels.xfel_cells import MAX_STAGES, PixelBins
from beamhub_reduction.nexus.access import Roots, real_file
from beamhub_reduction.nexus.tree import NexusFile, Node
from beamhub_reduction.steps.xfel import (
    CellConstants,
    FloatArray,
    build_constants,
    pixel_bins,
    scattering_vector,
    unit_constants,
)
from beamhub_reduction.storage_chunks import FileIdentity, file_identity

KEPT_MODULES = 2
"""Modules whose constants a process keeps: units come module after module. 35 MB each for 64 AGIPD cells."""


@dataclass(frozen=True, slots=True)
class ConstantsFile:
    """A file of constants as it was when the reduction began; `has_gain`: frames bring gain values."""

    file: str
    identity: FileIdentity
    shape: tuple[int, int]
    has_gain: bool


_kept: OrderedDict[tuple[ConstantsFile, int], CellConstants] = OrderedDict()
_kept_lock = Lock()  # protects _kept; held while a module is read, so that two threads do not read it twice


def load_constants(source: ConstantsFile | None, module: int, n_pixels: int) -> CellConstants:
    """The constants of one module; without a file, nothing is corrected.

    Raises
    ------
    FilesChanged
        If their file is not the one that the reduction began with.
    BadParameter
        If the file has none for this module, or of another shape.
    """
    if source is None:
        return unit_constants(n_pixels)
    if file_identity(source.file) != source.identity:
        raise FilesChanged(source.file)
    with _kept_lock:
        found = _kept.get((source, module))
        if found is None:
            found = _kept[source, module] = _read_constants(source, module)
        _kept.move_to_end((source, module))
        while len(_kept) > KEPT_MODULES:
            _kept.popitem(last=False)
    return found


def _read_constants(source: ConstantsFile, module: int) -> CellConstants:
    with NexusFile(source.file) as nexus:
        group = nexus.node("/").get(f"module_{module}")
        names = ("offset", "gain", "bad_pixels", "threshold")
        offset, gain, bad, threshold = (_numbers(group, name) for name in names)
    shape = source.shape
    stated = None if offset is None else offset.shape
    if offset is None or offset.ndim not in (3, 4) or offset.shape[-2:] != shape or not offset.size:
        raise _wrong(source, f"module_{module}/offset of shape ([n_stages,] n_cells, *{shape}), not {stated}")
    if bad is not None and bad.shape == shape:
        bad = np.broadcast_to(bad, offset.shape)
    if any(table is not None and table.shape != offset.shape for table in (gain, bad)):
        raise _wrong(source, f"module_{module}/gain and bad_pixels of shape {offset.shape}")
    n_stages = offset.shape[0] if offset.ndim == 4 else 1
    if n_stages == 1:
        return build_constants(offset, gain=gain, bad=bad)
    if not source.has_gain:
        raise _wrong(source, f"one gain stage, not {n_stages}: the frames have no gain values")
    if n_stages > MAX_STAGES - (threshold is None):
        raise _wrong(source, f"fewer gain stages than {n_stages}")
    if threshold is not None and threshold.shape != (n_stages - 1, *offset.shape[1:]):
        raise _wrong(source, f"module_{module}/threshold of shape {(n_stages - 1, *offset.shape[1:])}")
    return build_constants(offset, gain=gain, bad=bad, threshold=threshold)


def _wrong(source: ConstantsFile, expected: str) -> BadParameter:
    return BadParameter("constants", source.file, f"a file with {expected}")


def _numbers(group: Node | None, name: str) -> np.ndarray[Any, Any] | None:
    """All values as they are stored; None where there are none, or no numbers."""
    node = None if group is None else group.get(name)
    if node is None or not node.is_dataset or node.item.dtype.kind not in "iuf":
        return None
    return np.asarray(node.values())


@dataclass(frozen=True, slots=True)
class GeometryChoice:
    """A file of positions and what is made of them; `q_range` in nm^-1, None for what the pixels span."""

    file: str
    energy_keV: float | None  # noqa: N815  # the unit's own spelling
    n_bins: int
    q_range: tuple[float, float] | None
    solid_angle: bool


def read_pixel_bins(
    choice: GeometryChoice, modules: tuple[int, ...], shape: tuple[int, int], roots: Roots
) -> tuple[FloatArray, tuple[PixelBins, ...]]:
    """(edges in nm^-1, shape (n_bins + 1,), the bins of each module's pixels).

    The file has module_N/positions (ny, nx, 3): the centres of pixels from the sample, metres (or their
    units), z along the beam; and photon_energy, unless the caller gives it.

    Raises
    ------
    BadParameter
        If a module has no positions of this shape, no energy is known, or no pixel lies in the range.
    """
    expected = f"a file with module_N/positions of shape {(*shape, 3)} for modules {list(modules)}"
    positions: list[FloatArray] = []
    with NexusFile(real_file(choice.file, roots), roots) as nexus:
        root = nexus.node("/")
        energy = choice.energy_keV or root.number("photon_energy", "keV")
        for module in modules:
            group = root.get(f"module_{module}")
            node = None if group is None else group.get("positions")
            if group is None or node is None or not node.is_dataset or node.shape != (*shape, 3):
                raise BadParameter("geometry", choice.file, expected)
            has_units = node.attribute_text("units") is not None
            found = group.numbers("positions", "m" if has_units else None)
            if found is None:
                raise BadParameter("geometry", choice.file, expected)
            positions.append(found.reshape(-1, 3))
    if energy is None or not 0 < energy < np.inf:
        raise BadParameter("energy_kev", energy, "given, above 0, where the geometry has no photon_energy")
    edges = _edges(choice, positions, energy)
    bins = tuple(
        pixel_bins(p, energy_keV=energy, edges=edges, solid_angle=choice.solid_angle) for p in positions
    )
    if not any((b.index < b.n_bins).any() for b in bins):
        raise BadParameter("q_range", choice.q_range, "a range in which pixels lie")
    return edges, bins


def _edges(choice: GeometryChoice, positions: list[FloatArray], energy: float) -> FloatArray:
    if choice.q_range is not None:
        low, high = choice.q_range
    else:
        q = np.concatenate([scattering_vector(p, energy_keV=energy) for p in positions])
        q = q[np.isfinite(q)]
        low, high = (float(q.min()), float(q.max())) if q.size else (0.0, 0.0)
    if not (np.isfinite([low, high]).all() and low < high):
        raise BadParameter("q_range", choice.q_range, "a range that grows, in nm^-1")
    edges: FloatArray = np.linspace(low, high, choice.n_bins + 1)
    return edges
