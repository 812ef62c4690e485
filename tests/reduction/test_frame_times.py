"""Frame times of a file reach its statistics and its maps; what is no time of a frame does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_reduction.nexus import NexusFile, read_frame_times
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run

N = 6
TIMES = 1.7e9 + 0.1 * np.arange(N)


def write(path: Path, where: str, name: str, values: Any, units: str | None) -> Path:
    with h5py.File(path, "w") as file:
        for group, nx_class in (
            ("entry", "NXentry"), ("entry/instrument", "NXinstrument"),
            ("entry/instrument/det", "NXdetector"), ("entry/measurement", "NXcollection"),
        ):  # fmt: skip
            file.require_group(group).attrs["NX_class"] = nx_class
        file["entry/instrument/det/data"] = np.ones((N, 4, 5), "u2")
        if values is not None:
            file[f"{where}/{name}"] = values
            if units is not None:
                file[f"{where}/{name}"].attrs["units"] = units
    return path


@pytest.mark.parametrize(
    ("where", "name", "values", "units"),
    [
        ("entry/instrument/det", "start_time", TIMES * 1e3, "ms"),
        ("entry/instrument/det", "timestamp", TIMES, "s"),
        ("entry/measurement", "epoch", TIMES, None),
        ("entry/measurement", "elapsed_time", np.append(TIMES, TIMES[-1] + 1), "s"),
    ],
)
def test_frame_times_are_those_of_the_file_in_seconds(
    tmp_path: Path, where: str, name: str, values: Any, units: str | None
) -> None:
    run = open_run(write(tmp_path / "f.h5", where, name, values, units))
    told = {s.name: s for s in run.frame_statistics(images=False, progress=silent).signals}
    np.testing.assert_allclose(told["frame_time"].values, TIMES, rtol=1e-12)
    assert (told["frame_time"].units, told["frame_time"].axes[0].name) == ("s", "frame")
    mapped = {s.name: s for s in run.fly_scan_map(scan_shape=(2, 4), snake=True, progress=silent).signals}
    expected = [*TIMES[:4], np.nan, np.nan, TIMES[5], TIMES[4]]
    np.testing.assert_allclose(mapped["frame_time"].values.ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("where", "name", "values", "units"),
    [
        ("entry", "nothing", None, None),
        ("entry/instrument/det", "frame_time", TIMES, "s"),  # how long a frame takes
        ("entry/instrument/det", "start_time", b"2026-11-21T10:00:00", None),  # of the whole scan
        ("entry/instrument/det", "timestamp", TIMES, None),  # of what?
        ("entry/instrument/det", "timestamp", TIMES, "m"),
        ("entry/measurement", "epoch", TIMES[:-1], "s"),
        ("entry/measurement", "epoch", np.where(np.arange(N) == 2, np.nan, TIMES), "s"),
    ],
)
def test_what_is_no_time_of_each_frame_is_left_out(
    tmp_path: Path, where: str, name: str, values: Any, units: str | None
) -> None:
    path = write(tmp_path / "f.h5", where, name, values, units)
    with NexusFile(path) as nexus:
        assert read_frame_times(nexus.node("/entry"), nexus.find("/entry/instrument/det"), N) is None
    names = [s.name for s in open_run(path).frame_statistics(images=False, progress=silent).signals]
    assert "frame_time" not in names
