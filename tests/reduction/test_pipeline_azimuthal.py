"""Whole scans: exact counts, peaks where they were planted, the same bits on any cluster."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from distributed import Client
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from beamhub_reduction.cluster import connect
from beamhub_reduction.errors import BadParameter, CorruptChunk, FrameCountError, NothingLeft
from beamhub_reduction.nexus import (
    Geometry,
    GeometryMissing,
    LinkMissing,
    MaskShapeWrong,
    NexusFile,
    read_frame_stack,
)
from beamhub_reduction.pipeline.progress import Display, silent
from beamhub_reduction.pipeline.units import plan_frame_units
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic import Truth, write_dangling_link_file

pytestmark = pytest.mark.usefixtures("outside_session")


def copy_of(truth: Truth, folder: Path) -> Path:
    """A scan with its detector files, to be broken."""
    source = Path(truth.file)
    shutil.copytree(source.parent.parent, folder / "copy")
    return folder / "copy" / source.parent.name / source.name


def detector_files(master: Path) -> list[Path]:
    return sorted(master.parent.parent.glob("detector_*/*.h5"))


def test_counts_are_exact_and_peaks_lie_where_they_were_planted(powder_truth: Truth, client: Client) -> None:
    result = open_run(powder_truth.file).azimuthal(bins=2000, client=client, progress=silent)
    statistics = result.statistics
    assert statistics.counts_total == powder_truth.counts_total
    assert statistics.n_pixels_masked == powder_truth.n_pixels_masked
    assert (statistics.n_frames_read, statistics.n_frames_missing, statistics.n_frames_corrupt) == (12, 0, 0)
    q, intensity = result.curve.axis, result.curve.intensity
    for peak in powder_truth.peaks[:5]:
        near = np.abs(q - peak) < 0.25
        centre = np.average(q[near], weights=intensity[near] - intensity[near].min())
        assert centre == pytest.approx(peak, abs=0.05)


def test_the_curve_is_that_of_pyfai_on_the_summed_frames(powder_truth: Truth) -> None:
    result = open_run(powder_truth.file).azimuthal(bins=500, progress=silent)
    with h5py.File(powder_truth.file) as f:
        detector, monitor = f["1.1/instrument/pilatus"], f["1.1/monitor"]
        names = sorted(name for name in detector if name.startswith("data_"))
        total = np.sum([detector[name][:].astype(np.int64).sum(axis=0) for name in names], axis=0)
        masked = (detector["pixel_mask"][:] & 0xFFFF) != 0
        flux = float(monitor["data"][:].sum() / monitor["nominal"][()])
        pixel = float(detector["x_pixel_size"][()])
        integrator = AzimuthalIntegrator(
            float(detector["distance"][()]),
            float(detector["beam_center_y"][()]) * pixel,
            float(detector["beam_center_x"][()]) * pixel,
            detector=Detector(pixel1=pixel, pixel2=pixel, max_shape=total.shape),
            wavelength=float(f["1.1/instrument/monochromator/wavelength"][()]) * 1e-10,
        )
    expected = integrator.integrate1d_ng(
        total, 500, mask=masked.astype(np.int8), unit="q_nm^-1", method=("full", "csr", "cython"),
        normalization_factor=flux,
    )  # fmt: skip
    np.testing.assert_allclose(result.curve.axis, expected.radial, rtol=1e-7)
    np.testing.assert_allclose(result.curve.intensity, expected.intensity, rtol=1e-5)


def test_any_number_of_workers_gives_the_same_bits(powder_truth: Truth) -> None:
    def bits(client: Client | None) -> tuple[bytes, bytes]:
        curve = open_run(powder_truth.file).azimuthal(client=client, progress=silent).curve
        return curve.intensity.tobytes(), curve.errors.tobytes()

    alone = bits(None)
    for workers in (1, 3):
        with connect(workers) as client:
            assert bits(client) == alone


def test_units_cover_every_frame_once_and_end_between_chunks(powder_truth: Truth, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset("data", (23, 2, 3), "u2", chunks=(4, 2, 3))[:] = 1
    for path, dataset, per_chunk in ((powder_truth.file, None, 1), (str(tmp_path / "a.h5"), "/data", 4)):
        with NexusFile(path) as nexus:
            stack = read_frame_stack(nexus, dataset)
        units = plan_frame_units(stack, weights=np.arange(float(stack.n_frames)))
        covered = np.concatenate([unit.weights for unit in units])
        np.testing.assert_array_equal(covered, np.arange(stack.n_frames))
        segments = [segment for unit in units for segment in unit.segments]
        assert all(s.start % per_chunk == 0 for s in segments)
        assert [unit.number for unit in units] == list(range(len(units)))


def test_missing_files_fail_by_name_or_are_counted(tmp_path: Path, client: Client) -> None:
    truth = write_dangling_link_file(tmp_path, proposal="MA-1", sample="Ni", seed=2, n_frames=18)
    run = open_run(truth.file)
    with pytest.raises(LinkMissing, match=r"pilatus_0001\.h5"):
        run.azimuthal(client=client, progress=silent)
    result = run.azimuthal(missing="skip", client=client, progress=silent)
    assert result.statistics.n_frames_missing == truth.n_frames_missing
    assert result.statistics.counts_total == truth.counts_total
    assert "pilatus_0001.h5" in result.warnings[0]


def test_a_corrupt_chunk_fails_by_name_or_is_counted(
    powder_truth: Truth, tmp_path: Path, client: Client
) -> None:
    master = copy_of(powder_truth, tmp_path)
    broken = detector_files(master)[1]
    with h5py.File(broken) as f:
        info = f["entry_0000/BL09/pilatus/data"].id.get_chunk_info(2)
        kept = np.delete(f["entry_0000/BL09/pilatus/data"][:].astype(np.int64), 2, axis=0)
    with broken.open("r+b") as raw:
        raw.seek(info.byte_offset + 12)
        raw.write(b"\xff\xff\xff\xff")
    run = open_run(master)
    with pytest.raises(CorruptChunk) as caught:
        run.azimuthal(client=client, progress=silent)
    assert (caught.value.path, caught.value.chunk) == (str(broken), (2, 0, 0))
    result = run.azimuthal(corrupt="skip", client=client, progress=silent)
    assert (result.statistics.n_frames_read, result.statistics.n_frames_corrupt) == (11, 1)
    with h5py.File(master) as f:
        good = (f["1.1/instrument/pilatus/pixel_mask"][:] & 0xFFFF) == 0
        others = [f[f"1.1/instrument/pilatus/data_{i:04d}"][:].astype(np.int64) for i in (0, 2)]
    expected = sum(int(part[:, good].sum()) for part in (kept, *others))
    assert result.statistics.counts_total == expected


def test_frames_without_flux_are_left_out_and_counted(powder_truth: Truth, tmp_path: Path) -> None:
    master = copy_of(powder_truth, tmp_path)
    with h5py.File(master, "a") as f:
        f["1.1/monitor/data"][3] = 0
        f["1.1/monitor/data"][4] = np.nan
    statistics = open_run(master).azimuthal(progress=silent).statistics
    assert (statistics.n_frames_read, statistics.n_frames_without_flux) == (10, 2)


def test_a_monitor_that_does_not_fit_is_refused_unless_it_is_not_asked_for(
    powder_truth: Truth, tmp_path: Path
) -> None:
    master = copy_of(powder_truth, tmp_path)
    with h5py.File(master, "a") as f:
        del f["1.1/monitor/data"]
        f["1.1/monitor/data"] = np.ones(7)
    with pytest.raises(FrameCountError) as caught:
        open_run(master).azimuthal(progress=silent)
    assert (caught.value.n_readings, caught.value.n_frames) == (7, 12)
    assert open_run(master).azimuthal(normalise=False, progress=silent).statistics.n_frames_read == 12


def test_a_mask_of_the_callers_own_is_joined_with_the_files(powder_truth: Truth) -> None:
    run = open_run(powder_truth.file)
    extra = np.zeros((619, 487), dtype=bool)
    extra[300:] = True
    masked = run.azimuthal(mask=extra, progress=silent).statistics
    whole = run.azimuthal(progress=silent).statistics
    assert masked.n_pixels_masked > whole.n_pixels_masked
    assert masked.counts_total < whole.counts_total
    with pytest.raises(MaskShapeWrong):
        run.azimuthal(mask=np.zeros((3, 3)), progress=silent)


def test_bad_parameters_and_unusable_files_are_told_before_work_begins(
    powder_truth: Truth, tmp_path: Path
) -> None:
    run = open_run(powder_truth.file)
    bad: list[dict[str, Any]] = [{"bins": 0}, {"unit": "q"}, {"missing": "perhaps"}]
    for parameters in bad:
        with pytest.raises(BadParameter):
            run.azimuthal(progress=silent, **parameters)
    with h5py.File(tmp_path / "bare.h5", "w") as f:
        f["data"] = np.zeros((1, 4, 4), np.uint16)
    with pytest.raises(GeometryMissing):
        open_run(f"{tmp_path}/bare.h5::/data").azimuthal(progress=silent)


def test_frames_that_were_never_written_are_missing_not_dark(powder_truth: Truth, tmp_path: Path) -> None:
    master = copy_of(powder_truth, tmp_path)
    last = detector_files(master)[-1]
    with h5py.File(last, "a") as f:
        data = f["entry_0000/BL09/pilatus/data"]
        shape, dtype = data.shape, data.dtype
        del f["entry_0000/BL09/pilatus/data"]
        f.create_dataset("entry_0000/BL09/pilatus/data", shape, dtype, chunks=(1, *shape[1:]))
    statistics = open_run(master).azimuthal(progress=silent).statistics
    assert (statistics.n_frames_read, statistics.n_frames_missing) == (10, 2)
    with pytest.raises(NothingLeft, match="frames"):
        open_run(f"{last}::/entry_0000/BL09/pilatus/data").azimuthal(
            geometry=Geometry(0.2, 0.0, 0.0, 1e-4, 1e-4, 1.0), progress=silent
        )


def test_progress_is_told_to_the_caller_or_printed_in_words(
    powder_truth: Truth, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    open_run(powder_truth.file).azimuthal(progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]
    open_run(powder_truth.file).azimuthal()
    captured = capsys.readouterr()
    assert captured.err.startswith("Azimuthal integration: 12 frames in ")
    display = Display("x")
    display(1, 2)
    display.finish("done")
    assert capsys.readouterr().err == "x: done\n"
