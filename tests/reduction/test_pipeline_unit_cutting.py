"""How frames are cut into units, and units into batches, changes no bit of a result."""

from __future__ import annotations

from functools import reduce
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from beamhub_reduction.kernels.statistics_stored import pack_regions
from beamhub_reduction.nexus.frames import read_frame_stack
from beamhub_reduction.nexus.geometry import Geometry
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.azimuthal_work import AzimuthalTask, integrate_unit, merge_azimuthal
from beamhub_reduction.pipeline.frame_statistics_work import (
    FrameStatisticsTask,
    merge_frame_statistics,
    reduce_frame_statistics,
)
from beamhub_reduction.pipeline.units import FrameUnit, plan_frame_units
from beamhub_reduction.steps.azimuthal import azimuthal_curves
from beamhub_reduction.steps.azimuthal_matrix import (
    AzimuthalMatrix,
    Binning,
    Corrections,
    build_azimuthal_matrix,
    build_integrator,
)
from beamhub_reduction.steps.frame_regions import build_regions
from beamhub_reduction.steps.statistics import finish_statistics

N, SHAPE = 23, (37, 55)
MASK = np.zeros(SHAPE, dtype=np.bool_)
MASK[5:8] = True


@pytest.fixture(scope="module", params=["u2", "u4"])
def units(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same frames in one unit, in a few, and one by one; counts from 0 to the largest of the type."""
    path = tmp_path_factory.mktemp("cut") / "a.h5"
    random, largest = np.random.default_rng(3), np.iinfo(request.param).max
    frames = random.poisson(3, (N, *SHAPE)).astype(request.param)
    frames[:, 10:12, 3:9] = random.integers(0, largest, (N, 2, 6), endpoint=True)
    frames[:, 5:8] = largest
    frames[4:6, 20, 20] = largest
    with h5py.File(path, "w") as f:
        f.create_dataset("entry/data/data", data=frames, chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle())
    with NexusFile(str(path)) as nexus:
        stack = read_frame_stack(nexus, "/entry/data/data")
    weights = np.ones(N)
    return [plan_frame_units(stack, weights=weights, min_units=n) for n in (1, 3, 8, N)]


def test_statistics_do_not_depend_on_units(units: Any) -> None:
    cuts = units
    regions = build_regions(("a=3:9,4:30",), labels=None, masked=MASK)
    bits = pack_regions(regions.spans, n_regions=regions.n_regions, n_pixels=MASK.size)
    dtype = cuts[0][0].segments[0].index.dtype
    found = []
    for cut in cuts:
        for stored in (bits, None):
            task = FrameStatisticsTask(dtype, MASK, regions, True, None, "fail", bits=stored)
            part = reduce(merge_frame_statistics, [reduce_frame_statistics(unit, task) for unit in cut])
            assert part.sums is not None
            images = finish_statistics(part.sums, shape=SHAPE)
            curves = (part.numbers, part.totals, part.region_sums, part.region_valid)
            names = type(images).__slots__
            found.append([a.tobytes() for a in (*(getattr(images, n) for n in names), *curves)])
    assert len(cuts[-1]) == N and len(cuts[0]) == 1
    assert all(one == found[0] for one in found)


@pytest.fixture(scope="module")
def matrix() -> AzimuthalMatrix:
    """Thirty bins around the middle."""
    integrator = build_integrator(Geometry(0.1, 18.2e-3, 27.1e-3, 1e-3, 1e-3, 1.0), shape=SHAPE)
    return build_azimuthal_matrix(
        integrator, masked=MASK, binning=Binning(30, "q_nm^-1"), corrections=Corrections(), valid=(0, 200)
    )


def test_curves_do_not_depend_on_units(units: Any, matrix: AzimuthalMatrix) -> None:
    found = []
    for cut in units:
        task = AzimuthalTask(matrix, SHAPE, 1, 1.0, "fail")
        part = _integrated(cut, task)
        found.append([np.asarray(a).tobytes() for a in azimuthal_curves(matrix, sums=part.sums, n_groups=N)])
        assert part.tally.n_read == N and part.sums.n_blanks > 0
    assert all(one == found[0] for one in found)


def test_the_counts_of_one_curve_of_all_are_those_of_all_curves(units: Any, matrix: AzimuthalMatrix) -> None:
    one_by_one = _integrated(units[0], AzimuthalTask(matrix, SHAPE, 1, 1.0, "fail"))
    curves = []
    for cut in units:
        together = _integrated(cut, AzimuthalTask(matrix, SHAPE, None, 1.0, "fail"))
        assert together.sums.counts_total == one_by_one.sums.counts_total
        assert together.sums.n_blanks == one_by_one.sums.n_blanks
        curves.append(azimuthal_curves(matrix, sums=together.sums, n_groups=1)[0])
    # Each unit applies the matrix to its own sum, so here the last digits are those of the plan of units.
    np.testing.assert_allclose(curves[1:], [curves[0]] * (len(curves) - 1), rtol=1e-13)


def _integrated(cut: tuple[FrameUnit, ...], task: AzimuthalTask) -> Any:
    return reduce(merge_azimuthal, [integrate_unit(unit, task) for unit in cut])
