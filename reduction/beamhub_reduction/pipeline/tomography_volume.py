"""The NXtomo file of corrected projections: everything but the projections themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from beamhub_core.clock import utc_now
from beamhub_core.word import canonical_json
from beamhub_reduction.array_product import ArrayLayout, ArraySpan, array_file
from beamhub_reduction.pipeline.tomography_work import TomographyPart, TomographyTask
from beamhub_reduction.product import PROGRAM, software_versions
from beamhub_reduction.steps.frames import FloatArray

DATASET = "entry/instrument/detector/data"
_COUNTS = "entry/process/statistics"
_NAMES = ("n_projections", "n_projections_corrupt", "n_values_clamped", "n_values_saturated")


@dataclass(frozen=True, slots=True)
class VolumeHead:
    """What stands in the file besides the projections; `angles` (n_projections,) in degrees."""

    path: Path
    source: str
    title: str
    sample: str
    angles: FloatArray
    quantity: str
    units: str
    parameters: dict[str, Any]


@contextmanager
def tomography_volume(head: VolumeHead, task: TomographyTask) -> Iterator[ArraySpan]:
    """A new NXtomo file with room for all projections; it appears when the block ends without an error.

    A storage chunk holds (projections, rows, all columns): whoever wants the sinograms of a chunk's rows
    reads no other rows. Source: NeXus, NXtomo.nxdl.

    Raises
    ------
    ProductExists, StorageFull, ProductNotWritten
    """
    per_block, rows = task.block
    shape = (task.frames.size, *task.planes.dark.shape)
    layout = ArrayLayout(DATASET, shape, (per_block, rows, shape[2]))
    names = tuple(f"{_COUNTS}/{name}" for name in _NAMES)
    with array_file(head.path, layout, head=lambda file: _write_head(file, head), counts=names) as span:
        yield span


def volume_counts(part: TomographyPart) -> dict[str, int]:
    """What is known at the end only, by its path in the volume."""
    values = (part.tally.n_read, part.tally.n_corrupt, int(part.sums.counts[0]), int(part.sums.counts[1]))
    return {f"{_COUNTS}/{name}": n for name, n in zip(_NAMES, values, strict=True)}


def _write_head(file: h5py.File, head: VolumeHead) -> None:
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": PROGRAM})
    entry = _group(file, "entry", "NXentry", default="data")
    entry["title"], entry["definition"] = head.title, "NXtomo"
    detector = _group(_group(entry, "instrument", "NXinstrument"), "detector", "NXdetector")
    detector["data"].attrs.update({"units": head.units, "long_name": head.quantity})
    detector["image_key"] = np.zeros(head.angles.size, np.int32)
    sample = _group(entry, "sample", "NXsample")
    sample["name"] = head.sample
    sample["rotation_angle"] = head.angles
    sample["rotation_angle"].attrs["units"] = "degree"
    data = _group(entry, "data", "NXdata", signal="data")
    data.attrs["axes"] = ["rotation_angle", ".", "."]
    data["data"], data["image_key"] = detector["data"], detector["image_key"]
    data["rotation_angle"] = sample["rotation_angle"]
    made_at = utc_now()
    software = software_versions()
    process = _group(entry, "process", "NXprocess")
    process["program"], process["version"] = PROGRAM, software.get("beamhub", "unknown")
    process["date"], process["sequence_index"] = made_at.isoformat(), 1
    _group(process, "statistics", "NXcollection")
    note = _group(process, "provenance", "NXnote")
    note["type"] = "application/json"
    facts = {
        "inputs": [f"file:{Path(head.source).name}"],
        "parameters": {"step": "tomography", **head.parameters},
        "software": software,
        "made_at": made_at.isoformat(),
    }
    note["data"] = canonical_json(facts).decode()


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: str) -> h5py.Group:
    group = parent.require_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group
