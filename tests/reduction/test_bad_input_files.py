"""Files that are strange as a whole: links, masks, values, byte orders, too many of them, no room left."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest

from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run
from reduction.bad_files import STACK, Command, describe, draw_frames, write_stack

pytestmark = pytest.mark.usefixtures("outside_session")
FRAMES = draw_frames()
STEPS = ("azimuthal", "frame-statistics")


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    folder = tmp_path / "products"
    folder.mkdir()
    return Command(folder, capsys)


def write_linked(path: Path, n_files: int, *, lost: tuple[int, ...] = ()) -> Path:
    """A master whose virtual dataset has one frame in each of many files, some of which are absent."""
    layout = h5py.VirtualLayout((n_files, 2, 3), np.uint16)
    for i in range(n_files):
        name = f"part_{i:05d}.h5"
        if i not in lost:
            with h5py.File(path.parent / name, "w") as file:
                file.create_dataset("d", data=np.full((1, 2, 3), i % 5000, np.uint16))
        layout[i] = h5py.VirtualSource(name, "d", (1, 2, 3))[0]
    write_stack(path, np.zeros((1, 2, 3), np.uint16))
    with h5py.File(path, "r+", libver="latest") as file:
        del file[STACK]
        file["entry/instrument/detector"].create_virtual_dataset("data", layout, fillvalue=0)
    return path


@pytest.mark.parametrize("step", STEPS)
def test_a_source_that_is_not_there_is_an_error_and_never_zeros(
    tmp_path: Path, command: Command, step: str
) -> None:
    path = write_linked(tmp_path / "master.h5", 4, lost=(2,))
    done = command(step, path)
    assert (done.code, done.said["error"], command.left) == (3, "LinkMissing", [])
    assert "part_00002.h5" in done.message
    skipped = command(step, path, "--missing", "skip")
    assert skipped.code == 0 and skipped.said["evidence"]["frames"]["missing"] == 1
    assert any("part_00002.h5" in warning for warning in skipped.said["warnings"])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["soft", "external"])
def test_a_dangling_link_is_named(tmp_path: Path, command: Command, step: str, kind: str) -> None:
    path = write_stack(tmp_path / "dangling.h5", FRAMES)
    with h5py.File(path, "r+") as file:
        del file[STACK]
        external = h5py.ExternalLink("gone.h5", "/entry/data")
        file[STACK] = h5py.SoftLink("/entry/gone") if kind == "soft" else external
    done = command(step, path)
    assert (done.code, done.said["error"], command.left) == (3, "LinkMissing", []), done.said
    assert "gone" in done.message


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["soft", "external", "pair"])
def test_links_in_a_circle_end_in_an_error(tmp_path: Path, command: Command, step: str, kind: str) -> None:
    path = write_stack(tmp_path / "loop.h5", FRAMES)
    other = tmp_path / "other.h5"
    with h5py.File(path, "r+") as file, h5py.File(other, "w") as second:
        del file[STACK]
        second[STACK] = h5py.ExternalLink("loop.h5", STACK)
        file[STACK] = {
            "soft": h5py.SoftLink("/" + STACK),
            "external": h5py.ExternalLink("loop.h5", STACK),
            "pair": h5py.ExternalLink("other.h5", STACK),
        }[kind]
    done = command(step, path)
    assert (done.code, done.said["error"], command.left) == (3, "LinkMissing", []), done.said
    assert "links follow each other" in done.message and "loop.h5" in done.message


@pytest.mark.parametrize("step", STEPS)
def test_a_mask_of_another_shape_is_refused(tmp_path: Path, command: Command, step: str) -> None:
    path = write_stack(tmp_path / "masks.h5", FRAMES)
    np.save(tmp_path / "mask.npy", np.zeros((20, 24)))
    done = command(step, path, "--mask", str(tmp_path / "mask.npy"))
    assert done.code != 0 and done.said["error"] == "MaskShapeWrong" and command.left == []
    assert "(20, 24)" in done.message and "(24, 20)" in done.message
    with h5py.File(path, "r+") as file:
        file["entry/instrument/detector/pixel_mask"] = np.zeros((3, 3), np.uint32)
    done = command(step, path)
    assert done.said["error"] == "MaskShapeWrong" and "(3, 3)" in done.message


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8"])
def test_nan_and_infinities_are_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    frames = FRAMES.astype(kind)
    frames[0, 1, 1], frames[1, 2, 2], frames[2, 3, 3] = np.nan, np.inf, -np.inf
    finite = np.where(np.isfinite(frames), frames, 0).astype(np.float64)
    run = open_run(write_stack(tmp_path / "nan.h5", frames))
    for result in (run.frame_statistics(progress=silent), run.azimuthal(bins=10, progress=silent)):
        assert result.statistics.n_values_blank == 3
        assert result.statistics.counts_total == finite.sum()
        assert not np.isinf(result.signal.values).any()


@pytest.mark.parametrize("kind", ["u2", "i4", "f4", "u4"])
def test_big_endian_frames_give_the_same_numbers(tmp_path: Path, kind: str) -> None:
    def numbers(order: str) -> list[bytes]:
        run = open_run(write_stack(tmp_path / f"{order}.h5", FRAMES.astype(order + kind), compression="gzip"))
        both = run.frame_statistics(progress=silent), run.azimuthal(bins=10, progress=silent)
        return [signal.values.tobytes() for result in both for signal in result.signals]

    assert numbers("<") == numbers(">")


def test_thousands_of_files_are_reduced_with_256_descriptors(tmp_path: Path, command: Command) -> None:
    """300 files; BEAMHUB_SOAK=1 takes the 5,000 of the issue."""
    n = 5000 if os.environ.get("BEAMHUB_SOAK") else 300
    path = write_linked(tmp_path / "master.h5", n)
    done = command.under({"RLIMIT_NOFILE": 256}, "frame-statistics", path)
    assert done.code == 0, done.said
    assert done.said["statistics"]["n_frames_read"] == n
    assert done.said["statistics"]["counts_total"] == 6 * sum(i % 5000 for i in range(n))


def test_a_product_larger_than_allowed_leaves_no_half_file(tmp_path: Path, command: Command) -> None:
    path = write_stack(tmp_path / "scan.h5", draw_frames((2, 200, 300)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        done = command("frame-statistics", path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (done.code, done.said["error"], command.left) == (5, "StorageFull", [])
    assert "too large" in done.message


def test_a_full_disk_is_said_and_leaves_no_half_file(
    tmp_path: Path, tiny_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_stack(tmp_path / "scan.h5", draw_frames((2, 200, 300)))
    on_disk = Command(tiny_disk, capsys)
    done = on_disk("frame-statistics", path)
    assert (done.code, done.said["error"], on_disk.left) == (5, "StorageFull", [])
    assert os.strerror(errno.ENOSPC) in done.message


def test_lengths_without_units_that_no_detector_has_are_refused(tmp_path: Path, command: Command) -> None:
    path = write_stack(tmp_path / "units.h5", FRAMES)
    with h5py.File(path, "r+") as file:
        detector = file["entry/instrument/detector"]
        del (
            detector["distance"],
            detector["x_pixel_size"],
            detector["y_pixel_size"],
            file["entry/instrument/beam"],
        )
        del detector["beam_center_x"], detector["beam_center_y"]
        describe(detector)
        for name, value in (("distance", 513.8), ("x_pixel_size", 0.172), ("y_pixel_size", 0.172)):
            detector[name][()] = value
            del detector[name].attrs["units"]
    done = command("azimuthal", path)
    assert (done.code, done.said["error"], command.left) == (1, "GeometryImplausible", [])
    assert "units" in done.message and "--poni" in done.message
