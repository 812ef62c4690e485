"""Detectors that stand askew: from where NeXus puts their pixels to pyFAI's distance, PONI and rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import TransformationInvalid
from beamhub_reduction.nexus.transformations import read_matrices, read_own_step
from beamhub_reduction.nexus.tree import Node

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
MAX_SKEW = 1e-5
MODULE_TOLERANCE_PIXELS = 0.1


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """A flat grid of pixels in McStas' frame: the outer corner of pixel (0, 0), and steps along both axes.

    `origin`, `slow` and `fast` have shape (3,), in metres; the steps are as long as a pixel.
    """

    origin: FloatArray
    slow: FloatArray
    fast: FloatArray


@dataclass(frozen=True, slots=True)
class Poni:
    """pyFAI's geometry of a flat detector, in metres and radians."""

    distance: float
    poni1: float
    poni2: float
    rot1: float
    rot2: float
    rot3: float


def read_pixel_grid(detector: Node) -> PixelGrid | None:
    """Where the pixels of an NXdetector are, or None where its fields do not say.

    From NXdetector_module (fast_pixel_direction, slow_pixel_direction, module_offset), else from
    x_pixel_offset and y_pixel_offset (centres of pixels) and the detector's own chain.
    Source: NeXus, NXdetector_module.nxdl, NXdetector.nxdl.

    Raises
    ------
    TransformationInvalid
        If the detector moves during the scan, or its modules do not lie in one regular grid.
    LinkLoop, UnitUnknown
    """
    modules = [m for m in detector.groups("NXdetector_module") if m.get("fast_pixel_direction")]
    if not modules:
        return _from_offsets(detector)
    grids = [(_module_grid(module), _data_origin(module)) for module in modules]
    first, at = grids[0]
    start = first.origin - at[0] * first.slow - at[1] * first.fast
    grid = PixelGrid(start, first.slow, first.fast)
    size = min(float(np.linalg.norm(step)) for step in (grid.slow, grid.fast))
    for module, (other, (row, column)) in zip(modules, grids, strict=True):
        expected = start + row * grid.slow + column * grid.fast
        off = max(
            np.abs(other.origin - expected).max(),
            1000 * np.abs(other.slow - grid.slow).max(),
            1000 * np.abs(other.fast - grid.fast).max(),
        )
        if not off <= MODULE_TOLERANCE_PIXELS * size:
            raise TransformationInvalid(
                module.target.file, module.target.path, "the modules do not lie in one regular grid"
            )
    return grid


def _module_grid(module: Node) -> PixelGrid:
    steps = {}
    for name in ("slow", "fast"):
        node = module.get(f"{name}_pixel_direction")
        if node is None:
            raise TransformationInvalid(
                module.target.file, module.target.path, f"it has no {name}_pixel_direction"
            )
        step = read_own_step(node)
        frame = _one(node, read_matrices(node))
        steps[name] = frame[:3, :3] @ (step.values[0] * step.vector)
        corner = frame @ np.append(step.offset_m, 1.0)
    offset = module.get("module_offset")
    if offset is not None:
        step = read_own_step(offset)
        frame = _one(offset, read_matrices(offset) @ step.matrices())
        corner = frame @ np.array([0.0, 0.0, 0.0, 1.0])
    return PixelGrid(corner[:3], steps["slow"], steps["fast"])


def _one(node: Node, matrices: FloatArray) -> FloatArray:
    if len(matrices) != 1:
        reason = f"{len(matrices)} positions of the detector, where one is needed"
        raise TransformationInvalid(node.target.file, node.target.path, reason)
    matrix: FloatArray = matrices[0]
    return matrix


def _data_origin(module: Node) -> tuple[int, int]:
    found = module.numbers("data_origin")
    if found is None or found.size < 2 or not np.isfinite(found).all():
        return 0, 0
    return int(found.flat[-2]), int(found.flat[-1])


def _from_offsets(detector: Node) -> PixelGrid | None:
    if detector.get("depends_on") is None and detector.attribute_text("depends_on") is None:
        return None
    offsets = [detector.numbers(f"{axis}_pixel_offset", "m") for axis in "xy"]
    if any(o is None or o.ndim != 1 or o.size < 2 for o in offsets):
        return None
    x, y = (np.asarray(o) for o in offsets)
    frame = _one(detector, read_matrices(detector))
    corner = np.array([1.5 * x[0] - 0.5 * x[1], 1.5 * y[0] - 0.5 * y[1], 0.0, 1.0])
    slow, fast = (
        frame[:3, :3] @ step for step in (np.array([0, y[1] - y[0], 0]), np.array([x[1] - x[0], 0, 0]))
    )
    return PixelGrid((frame @ corner)[:3], slow, fast)


def is_turned(detector: Node) -> bool:
    """Whether the detector's own chain turns it, so that a beam centre alone does not place its pixels."""
    matrices = read_matrices(detector)
    return bool(np.abs(matrices[:, :3, :3] - np.eye(3)).max() > MAX_SKEW)


def poni_of(grid: PixelGrid, *, file: str, path: str) -> Poni:
    """The grid in pyFAI's terms.

    pyFAI's axis 3 is the beam; axis 1 is vertical and axis 2 horizontal, each pointing the way that
    makes the detector's handedness pyFAI's and a detector with horizontal rows free of rotations.
    Scattering angles and polarisation do not depend on that choice.
    Source: pyFAI, Geometry.rotation_matrix, doi 10.1107/S1600576715004306.

    Raises
    ------
    TransformationInvalid
        If the pixels' axes are not perpendicular, or the detector's plane goes through the sample.
    """
    lengths = [float(np.linalg.norm(step)) for step in (grid.slow, grid.fast)]
    slow, fast = (
        step / n if n > 0 else step for step, n in zip((grid.slow, grid.fast), lengths, strict=True)
    )
    good = np.isfinite([*grid.origin, *slow, *fast]).all() and min(lengths) > 0
    if not good or abs(float(slow @ fast)) > MAX_SKEW:
        raise TransformationInvalid(file, path, "its pixel directions are not perpendicular")
    first = np.array([0.0, 1.0 if slow[1] >= 0 else -1.0, 0.0])
    beam = np.array([0.0, 0.0, 1.0])
    second = np.cross(beam, first)
    for axes in (np.array([first, second, beam]), np.array([first, -second, beam])):
        normal = np.cross(axes @ slow, axes @ fast)
        turn = np.stack([axes @ slow, axes @ fast, normal], axis=1)
        poni1, poni2, distance = turn.T @ (axes @ grid.origin)
        if distance > 0:
            break
    else:
        raise TransformationInvalid(file, path, "its plane goes through the sample")
    rot1, rot2, rot3 = _angles(turn)
    return Poni(float(distance), float(-poni1), float(-poni2), rot1, rot2, rot3)


def _angles(turn: FloatArray) -> tuple[float, float, float]:
    """pyFAI's rotations of R = R3 R2 R1, of which R1 and R2 are left-handed."""
    sine = float(np.clip(turn[2, 0], -1, 1))
    if abs(sine) > 1 - 1e-12:  # only the sum of the other two is known then
        return 0.0, float(np.arcsin(sine)), float(np.arctan2(-turn[0, 1], turn[1, 1]))
    return (
        float(np.arctan2(-turn[2, 1], turn[2, 2])),
        float(np.arcsin(sine)),
        float(np.arctan2(turn[1, 0], turn[0, 0])),
    )
