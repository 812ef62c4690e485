"""The header says what a file holds, whatever its writer calls things."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.nexus import (
    CurvePreview,
    FileDamaged,
    FileMissing,
    ImagePreview,
    LimitExceeded,
    NoFrames,
    OutsideRoots,
    closure,
    open_header,
    preview_image,
)
from beamhub_reduction.nexus.text import as_text, natural_key, unit_factor
from beamhub_reduction.synthetic import Truth, write_damaged_file, write_dangling_link_file
from examples import few


def test_a_scan_file_gives_what_a_catalogue_needs(powder_truth: Truth) -> None:
    header = open_header(powder_truth.file)
    assert header.entry == "/1.1"
    assert header.entries == ("/1.1", "/2.1")
    assert header.title == powder_truth.title
    assert header.experiment_identifier == "MA-5101"
    assert header.instrument_short_name == "bl09"
    assert header.technique_pid == powder_truth.technique
    assert header.sample == "CeO2"
    assert header.users
    assert header.detectors[0].shape == (12, 619, 487)
    assert (header.n_frames, header.n_frames_expected) == (12, 12)
    assert len(header.linked_files) == 3
    assert header.missing_links == ()
    assert header.wavelength_angstrom is not None and header.energy_keV is not None
    assert header.wavelength_angstrom * header.energy_keV == pytest.approx(12.39842, rel=1e-6)


def test_an_event_file_gives_its_banks_and_no_photon_energy(tof_truth: Truth) -> None:
    header = open_header(tof_truth.file)
    assert [d.name for d in header.detectors] == ["bank1", "bank2", "bank3"]
    assert header.n_events == tof_truth.events
    assert header.n_pulses == tof_truth.pulses
    assert header.energy_keV is None


def test_a_file_cut_short_is_damaged_by_name(tmp_path: Path) -> None:
    truth = write_damaged_file(tmp_path, proposal="MA-1", sample="Si", seed=1)
    with pytest.raises(FileDamaged) as caught:
        open_header(truth.file)
    assert caught.value.path == truth.file


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + b"\0" * 600])
def test_what_is_no_hdf5_file_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(FileDamaged, match=r"x\.h5"):
        open_header(path)


READ_IN_CHILD = """
import sys
from beamhub_reduction.nexus import NexusError, open_header
try:
    open_header(sys.argv[1])
except NexusError:
    pass
"""


@few(6)
@given(place=st.integers(0, 60_000), value=st.integers(0, 255))
def test_a_file_with_a_wrong_byte_never_gives_an_unexpected_error(
    powder_truth: Truth, tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    content = bytearray(Path(powder_truth.file).read_bytes())
    content[place % len(content)] = value
    path = tmp_path_factory.mktemp("flip") / "flipped.h5"
    path.write_bytes(content)
    # In a child: HDF5 itself hangs on about one such file in a thousand, which is not ours to promise.
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-c", READ_IN_CHILD, path], capture_output=True, text=True, timeout=20
        )
        assert done.returncode <= 0, done.stderr
    path.unlink()


def test_a_missing_file_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="No such file"):
        open_header(tmp_path / "absent.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(FileMissing, match="not a regular file"):
        open_header(tmp_path / "pipe.h5")
    with pytest.raises(FileMissing, match="NUL"):
        open_header(f"{tmp_path}/a\0b")


def test_a_name_outside_the_roots_is_refused_by_components(tmp_path: Path) -> None:
    for name in ("P1", "P10"):
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "a.h5", "w"):
            pass
    assert open_header(tmp_path / "P1" / "a.h5", [tmp_path / "P1"]).path.endswith("P1/a.h5")
    (tmp_path / "P1" / "link.h5").symlink_to(tmp_path / "P10" / "a.h5")
    for path in (tmp_path / "P10" / "a.h5", tmp_path / "P1" / "link.h5", tmp_path / "P1/../P10/a.h5"):
        with pytest.raises(OutsideRoots) as caught:
            open_header(path, [tmp_path / "P1"])
        assert caught.value.target.endswith("P10/a.h5")


def test_classes_count_and_names_do_not(tmp_path: Path) -> None:
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as f:
        for number, frames in (("10.1", 3), ("9.1", 2)):
            entry = f.create_group(number)
            entry.attrs["NX_class"] = np.bytes_("NXentry")
            entry["title"] = np.array([f"scan {number}"], dtype="S20")
            entry.create_group("bl").attrs["NX_class"] = ["NXinstrument"]
            detector = entry.create_group("bl/camera")
            detector.attrs["NX_class"] = "NXdetector"
            detector["data"] = np.zeros((frames, 4, 5), np.uint16)
    header = open_header(path)
    assert (header.entry, header.title, header.n_frames) == ("/9.1", "scan 9.1", 2)
    assert header.detectors[0].path == "/9.1/bl/camera"


def test_a_group_that_holds_itself_ends_the_walk(tmp_path: Path) -> None:
    path = tmp_path / "loop.h5"
    with h5py.File(path, "w") as f:
        f.create_group("a/b")
        f["a/b/up"] = f["a"]
        f["a/root"] = f["/"]
        f["soft"] = h5py.SoftLink("/soft")
        f["ping"], f["pong"] = h5py.SoftLink("/pong"), h5py.SoftLink("/ping")
    header = open_header(path)
    assert {m.link for m in header.missing_links} == {"/soft", "/ping", "/pong"}
    assert all("links follow each other" in m.reason for m in header.missing_links)


def test_a_file_deeper_than_the_cap_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as f:
        f.create_group("/".join("g" * (closure.MAX_DEPTH + 2)))
    with pytest.raises(LimitExceeded) as caught:
        open_header(path)
    assert caught.value.limit == closure.MAX_DEPTH


def test_long_and_wild_texts_are_cut_and_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "wild.h5"
    with h5py.File(path, "w") as f:
        f.create_group("entry").attrs["NX_class"] = "NXentry"
        f["entry/title"] = "x" * 100_000
        f["entry/start_time"] = b"2026\x1b[31m-01\n\xff"
        f["entry/end_time"] = np.int32(5)
        f["entry/definition"] = h5py.Empty("S10")
    header = open_header(path)
    assert header.title is not None and len(header.title) == 4096
    assert header.start_time is not None and header.start_time.isprintable()
    assert header.end_time is None and header.definition is None


def test_a_dangling_link_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    truth = write_dangling_link_file(tmp_path, proposal="MA-1", sample="Ni", seed=1, n_frames=18)
    header = open_header(truth.file)
    assert header.n_frames == truth.n_frames
    assert "that file does not exist" in header.missing_links[0].reason
    assert isinstance(preview_image(truth.file), ImagePreview)


def test_previews_show_frames_and_curves(powder_truth: Truth, tof_truth: Truth) -> None:
    image = preview_image(powder_truth.file)
    assert isinstance(image, ImagePreview)
    assert max(image.values.shape) <= 512
    assert image.values.dtype == np.float32
    assert np.isnan(image.values).any() and np.nanmax(image.values) < 1e6
    curve = preview_image(tof_truth.file)
    assert isinstance(curve, CurvePreview)
    assert curve.x.shape == curve.y.shape and curve.y.sum() > 0


def test_a_file_without_data_has_no_preview(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(NoFrames, match="no detector frames"):
        preview_image(tmp_path / "empty.h5")


def test_the_reader_loads_neither_dask_nor_pyfai() -> None:
    heavy = ("dask", "distributed", "pyFAI", "scipy", "matplotlib", "imagecodecs", "jupyterhub", "sqlalchemy")
    code = f"import beamhub_reduction.nexus, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 99)), max_size=20))
def test_entries_sort_as_numbers(pairs: list[tuple[int, int]]) -> None:
    names = [f"{scan}.{sub}" for scan, sub in pairs]
    assert sorted(names, key=natural_key) == [f"{scan}.{sub}" for scan, sub in sorted(pairs)]


@given(st.lists(st.text(max_size=12), max_size=10))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    names.reverse()
    assert sorted(names, key=natural_key) == ordered


@given(st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=50))
def test_text_of_every_kind_reads_the_same(text: str) -> None:
    raw = text.encode()
    for form in (text, raw, np.bytes_(raw), np.array([raw]), np.array(text, dtype=object), [text]):
        assert as_text(form) == text


def test_units_convert_or_are_unknown() -> None:
    assert unit_factor("mm", "m") == 1e-3
    assert unit_factor("Angstroem", "m") == 1e-10
    assert unit_factor("degrees", "rad") == pytest.approx(np.pi / 180)
    assert unit_factor("NX_LENGTH", "m") == 1.0
    assert unit_factor("microsecond", "s") == 1e-6
    assert unit_factor("furlong", "m") is None
