"""Small honest runs and a cluster that the tests of the engine share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from beamhub_reduction.cluster import connect
from beamhub_reduction.synthetic import PowderOptions, TofOptions, Truth, write_powder_scan, write_tof_run


@pytest.fixture(scope="session")
def powder_truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A scan of 12 frames in three detector files, beside what was planted in it. Read-only."""
    folder = tmp_path_factory.mktemp("powder")
    return write_powder_scan(
        folder,
        proposal="MA-5101",
        sample="CeO2",
        seed=5,
        n_frames=12,
        options=PowderOptions(frames_per_file=5, unfinished_scan=True),
    )


@pytest.fixture(scope="session")
def tof_truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A run of 60 000 events in 400 pulses, beside what was planted in it. Read-only."""
    folder = tmp_path_factory.mktemp("tof")
    return write_tof_run(
        folder, proposal="TO-7303", sample="Si", seed=5, n_events=60_000, options=TofOptions(n_pulses=400)
    )


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A real cluster in this process, with two workers."""
    with connect(2) as running:
        yield running


@pytest.fixture
def outside_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No session around, and an empty home folder."""
    for name in ("BEAMHUB_SESSION_FILE", "BEAMHUB_WEB_URL", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tiny", disk], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)
