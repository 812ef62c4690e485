"""Files as they must not be, and the two public ways to reduce them: a notebook's call and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from beamhub_core.command import main

STACK = "entry/instrument/detector/data"
BITSHUFFLE_LZ4: dict[str, Any] = dict(hdf5plugin.Bitshuffle(cname="lz4"))
Array = np.ndarray[Any, np.dtype[Any]]


def draw_frames(shape: tuple[int, int, int] = (6, 24, 20), dtype: str = "<u4") -> Array:
    """Poisson counts, other ones in each frame."""
    return np.random.default_rng(6).poisson(9, shape).astype(dtype)


def write_stack(path: Path, frames: Any, *, libver: str = "latest", **options: Any) -> Path:
    """A file with one detector: `frames`, or their shape and dtype in the options; geometry as NXdetector."""
    if isinstance(frames, np.ndarray):
        options = {"data": frames, "chunks": (1, *frames.shape[1:])} | options
    with h5py.File(path, "w", libver=libver) as file:
        for name in (
            "entry:NXentry",
            "entry/instrument:NXinstrument",
            "entry/instrument/detector:NXdetector",
        ):
            group, nx_class = name.split(":")
            file.create_group(group).attrs["NX_class"] = nx_class
        detector = file["entry/instrument/detector"]
        detector.create_dataset("data", **options)
        describe(detector)
    return path


def describe(detector: h5py.Group) -> None:
    """Where a detector is: 1 m away, pixels of 0.1 mm, 1 angstrom."""
    for name, value in (("distance", 1.0), ("x_pixel_size", 1e-4), ("y_pixel_size", 1e-4)):
        detector[name] = value
        detector[name].attrs["units"] = "m"
    detector["beam_center_x"] = detector["beam_center_y"] = 3.0
    beam = detector.parent.create_group("beam")
    beam.attrs["NX_class"], beam["incident_wavelength"] = "NXbeam", 1.0
    beam["incident_wavelength"].attrs["units"] = "angstrom"


def chunk_of(path: Path, frame: int) -> tuple[int, int]:
    """(offset, size) of the stored bytes of a frame."""
    with h5py.File(path) as file:
        info = file[STACK].id.get_chunk_info_by_coord((frame, 0, 0))
    return int(info.byte_offset), int(info.size)


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Other bytes at a place of a file."""
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(content)


def bytes_at(path: Path, offset: int, size: int) -> bytes:
    """What stands there."""
    with path.open("rb") as raw:
        raw.seek(offset)
        return raw.read(size)


@dataclass(frozen=True)
class Outcome:
    """What the command gave: its exit code, and the JSON object that it printed."""

    code: int
    said: dict[str, Any]

    @property
    def message(self) -> str:
        """The error's words."""
        return str(self.said["message"])


@dataclass(frozen=True)
class Command:
    """`beamhub reduce` in this process, or in one of its own under limits; its products lie in `folder`."""

    folder: Path
    captured: pytest.CaptureFixture[str]

    @property
    def left(self) -> list[str]:
        """Names of all that is in the folder of products."""
        return sorted(path.name for path in self.folder.iterdir())

    def words(self, step: str, file: Any, *words: str) -> list[str]:
        """What is typed."""
        return ["reduce", step, str(file), "-o", str(self.folder / "out.nxs"), "--json", *words]

    def __call__(self, step: str, file: Any, *words: str) -> Outcome:
        """Run it here."""
        self.captured.readouterr()
        code = main(self.words(step, file, *words))
        return Outcome(code, json.loads(self.captured.readouterr().out))

    def under(self, limits: Mapping[str, int], step: str, file: Any, *words: str) -> Outcome:
        """Run it in a process with limits (names of `resource`), so that one that dies is seen."""
        done = _apart(limits, self.words(step, file, *words))
        assert done.stdout, done.stderr
        return Outcome(done.returncode, json.loads(done.stdout))

    def batch(self, jobs: Path) -> list[dict[str, Any]]:
        """Run a file of jobs in a process of its own; what it says of each."""
        done = _apart({}, ["reduce", "--config", str(jobs), "--json"])
        assert done.returncode in (0, 1), done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def _apart(limits: Mapping[str, int], words: list[str]) -> subprocess.CompletedProcess[str]:
    code = (
        "import resource, sys, json\n"
        "from beamhub_core.command import main\n"
        "import beamhub_reduction.reduce_command\n"
        "for name, value in json.loads(sys.argv[1]).items():\n"
        "    kind = getattr(resource, name)\n"
        "    resource.setrlimit(kind, (value, value))\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(dict(limits)), *words],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
