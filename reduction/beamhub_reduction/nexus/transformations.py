"""Where things are: chains of NXtransformations as matrices in NeXus' laboratory frame.

The frame is McStas': z along the beam, y up, x so that it is right-handed. A chain is active: a point
is moved by the first step, then by the one that this depends on. Source: NeXus, NXtransformations.nxdl.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import LinkLoop, TransformationInvalid, UnitUnknown
from beamhub_reduction.nexus.logs import read_log
from beamhub_reduction.nexus.text import unit_factor
from beamhub_reduction.nexus.tree import Node
from beamhub_reduction.nexus.virtual import read_layout, read_plain

MAX_STEPS = 100
MAX_POSITIONS = 10_000_000

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain: `values` (n,) in metres or radians along or about the unit `vector`.

    A pure axis (no transformation_type) has kind '' and does not move anything.
    """

    path: str
    kind: str
    values: FloatArray
    vector: FloatArray
    offset_m: FloatArray

    def matrices(self) -> FloatArray:
        """Shape (n, 4, 4), metres; NaN where a value is."""
        out = np.zeros((self.values.size, 4, 4))
        out[:] = np.eye(4)
        if self.kind == "rotation":
            out[:, :3, :3] = rotation_about(self.vector, self.values)
        elif self.kind == "translation":
            out[:, :3, 3] = self.values[:, np.newaxis] * self.vector
        out[:, :3, 3] += self.offset_m
        return out


def rotation_about(vector: FloatArray, angles_rad: FloatArray) -> FloatArray:
    """Matrices (n, 3, 3) of right-handed rotations about a unit vector. Source: Rodrigues' formula."""
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, cosine = np.sin(angles_rad)[:, None, None], np.cos(angles_rad)[:, None, None]
    matrices: FloatArray = np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
    return matrices


def read_steps(node: Node) -> tuple[Step, ...]:
    """The steps of a component's (or another step's) chain, the first one first.

    Raises
    ------
    LinkLoop
        If the chain comes back to one of its steps, or has more than MAX_STEPS.
    TransformationInvalid
        If a step is not there, or has no vector, no numbers, or units that do not fit its type.
    """
    steps: list[Step] = []
    seen: list[str] = []
    current = node
    while (following := _next(current)) is not None:
        name = f"{following.target.file}:{following.target.path}"
        if name in seen or len(seen) >= MAX_STEPS:
            raise LinkLoop(node.target.file, node.target.path, (*(s.split(":")[-1] for s in seen), name))
        seen.append(name)
        steps.append(read_own_step(following))
        current = following
    return tuple(steps)


def read_matrices(node: Node) -> FloatArray:
    """Where a component is: (n, 4, 4) or (1, 4, 4), float64, metres, for n positions or one.

    A component without a chain is at the origin. T = T_last ... T_2 T_1, which acts on columns.

    Raises
    ------
    TransformationInvalid
        Also if steps have different numbers of positions.
    LinkLoop
    """
    matrices = np.eye(4)[np.newaxis]
    for step in read_steps(node):
        own = step.matrices()
        if 1 not in (len(own), len(matrices)) and len(own) != len(matrices):
            reason = f"{len(own)} positions where another step has {len(matrices)}"
            raise TransformationInvalid(node.target.file, step.path, reason)
        matrices = own @ matrices
    return matrices


def _next(node: Node) -> Node | None:
    """What a component or step depends on; None at the end of the chain.

    Links were followed to get here, so a relative path counts from where the node really is.
    """
    value = node.attribute_text("depends_on")
    if value is None and not node.is_dataset:
        value = node.text("depends_on")
    if value is None or value == ".":
        return None
    if value.startswith("/"):
        paths = [value]
    else:  # relative to the group that holds the depends_on; a few writers mean their own group
        name = value.removeprefix("./")
        own, parent = node.target.path, node.target.path.rsplit("/", 1)[0]
        paths = [f"{parent}/{name}"] if node.attribute_text("depends_on") else [f"{own}/{name}"]
        if not node.is_dataset:
            paths += [f"{own}/{name}", f"{own}/transformations/{name}"]
    for path in paths:
        found = node.owner.find(path, node.target.file)
        if found is not None:
            return found
    raise _invalid(node, f"it depends on {value}, which is not there")


def read_own_step(node: Node) -> Step:
    """The step that a node itself is, without what it depends on.

    Raises
    ------
    TransformationInvalid, UnitUnknown
    """
    kind = (node.attribute_text("transformation_type") or "").lower()
    if kind not in ("", "rotation", "translation"):
        raise _invalid(node, f"it is of type {kind!r}")
    offset = _offset(node)
    if not kind:
        return Step(node.target.path, "", np.zeros(1), np.array([0.0, 0.0, 1.0]), offset)
    vector = _three(node, "vector")
    length = 0.0 if vector is None else float(np.linalg.norm(vector))
    if vector is None or not length > 0 or not np.isfinite(length):
        raise _invalid(node, "its vector is absent or zero")
    values, units = _values(node)
    wanted = "rad" if kind == "rotation" else "m"
    factor = unit_factor(units, wanted)
    if factor is None:
        raise UnitUnknown(node.target.file, node.target.path, units or "", wanted)
    return Step(node.target.path, kind, values * factor, vector / length, offset)


def _values(node: Node) -> tuple[FloatArray, str | None]:
    """The values of a step and their units: a dataset, an NXlog, or an NXpositioner's value."""
    holder = node
    if not node.is_dataset:
        inner = node.get("value")
        if node.nx_class == "NXlog" or (inner is None and node.get("value_log") is not None):
            log = read_log(node)
            return log.values.reshape(-1), log.units or node.attribute_text("units")
        if inner is None or not inner.is_dataset:
            raise _invalid(node, "it has no value")
        holder = inner
    if holder.item.dtype.kind not in "iuf" or holder.size == 0:
        raise _invalid(node, "it holds no numbers")
    if holder.size > MAX_POSITIONS:
        raise _invalid(node, f"it has more than {MAX_POSITIONS} positions")
    if holder.shape:
        values = read_plain(read_layout(holder.target, roots=node.owner.roots))
    else:
        values = np.asarray(holder.values())
    units = holder.attribute_text("units") or node.attribute_text("units")
    return np.asarray(values, dtype=np.float64).reshape(-1), units


def _offset(node: Node) -> FloatArray:
    offset = _three(node, "offset")
    if offset is None:
        return np.zeros(3)
    units = node.attribute_text("offset_units")
    factor = unit_factor(units, "m")
    if factor is None:
        raise UnitUnknown(node.target.file, f"{node.target.path}@offset", units or "", "m")
    return offset * factor


def _three(node: Node, name: str) -> FloatArray | None:
    value: Any = node.attribute(name)
    if value is None:
        return None
    array = np.ravel(np.asarray(value))
    if array.dtype.kind not in "iuf" or array.size != 3:
        raise _invalid(node, f"its {name} is no three numbers")
    return array.astype(np.float64)


def _invalid(node: Node, reason: str) -> TransformationInvalid:
    return TransformationInvalid(node.target.file, node.target.path, reason)
