"""The synthetic time-of-flight runs are what they say: read with plain h5py, judged by arithmetic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_core.techniques import TOF_POWDER_DIFFRACTION
from beamhub_reduction.synthetic import AlreadyThere, TofOptions, Truth, write_tof_run

H_OVER_MN = 3956.0340
N_PULSES = 1500
BANKS = ("bank1", "bank2", "bank3")


@dataclass(frozen=True)
class BankData:
    """One bank as a reader sees it: flat pixel, time and d of every event."""

    pixel: np.ndarray[Any, Any]
    d: np.ndarray[Any, Any]
    mask: np.ndarray[Any, Any]
    index: np.ndarray[Any, Any]
    tof: np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    pool = tmp_path_factory.mktemp("pool")
    options = TofOptions(n_pulses=N_PULSES)
    return write_tof_run(pool, proposal="TO-1", sample="Si", seed=3, n_events=600_000, options=options)


@pytest.fixture(scope="module")
def banks(truth: Truth) -> dict[str, BankData]:
    found = {}
    with h5py.File(truth.file, "r") as file:
        flight = -file["entry/instrument/moderator/distance"][()]
        for name in BANKS:
            group = file[f"entry/instrument/{name}"]
            pixel = group["events/event_id"][()].astype(int) - group["detector_number"][0, 0]
            tof = group["events/event_time_offset"][()].astype(float)
            path = flight + group["distance"][()].ravel().astype(float)[pixel]
            sine = np.sin(np.radians(group["polar_angle"][()].ravel().astype(float)[pixel]) / 2)
            found[name] = BankData(
                pixel=pixel,
                d=H_OVER_MN * tof * 1e-6 / path / 2 / sine,
                mask=group["pixel_mask"][()].ravel(),
                index=group["events/event_index"][()],
                tof=tof,
            )
    return found


def used(bank: BankData) -> np.ndarray[Any, Any]:
    good: np.ndarray[Any, Any] = (bank.mask & 0xFFFF) == 0
    result: np.ndarray[Any, Any] = bank.d[good[bank.pixel]]
    return result


def test_peaks_stand_where_they_were_planted(truth: Truth, banks: dict[str, BankData]) -> None:
    d = np.concatenate([used(bank) for bank in banks.values()])
    edges = np.geomspace(0.8, 4.0, 3001)
    counts, centres = np.histogram(d, edges)[0], (edges[1:] + edges[:-1]) / 2
    assert len(truth.peaks) >= 8
    for position in truth.peaks:
        near = np.abs(centres / position - 1) < 0.006
        background = np.percentile(counts[np.abs(centres / position - 1) < 0.02], 15)
        height = np.clip(counts[near] - background, 0, None)
        assert np.average(centres[near], weights=height) == pytest.approx(position, rel=1e-3)
        assert counts[near].max() > 2 * background


def test_pulses_and_index_agree(truth: Truth, banks: dict[str, BankData]) -> None:
    together = np.zeros(N_PULSES, dtype=int)
    for bank in banks.values():
        index = bank.index.astype(int)
        assert len(index) == N_PULSES
        assert index[0] == 0
        assert (np.diff(index) >= 0).all()
        together += np.diff(np.append(index, len(bank.pixel)))
    with h5py.File(truth.file, "r") as file:
        charge = file["entry/DASlogs/proton_charge/value"][()]
        assert file["entry/total_counts"][()] == truth.events
        for name in BANKS:
            assert len(file[f"entry/instrument/{name}/events/event_time_zero"]) == N_PULSES
    assert truth.pulses == N_PULSES
    assert truth.empty_pulses == np.count_nonzero(together == 0) == np.count_nonzero(charge == 0) > 1
    assert together[-1] == together[7] == 0
    assert truth.events == together.sum()


def test_events_of_pulses_are_poisson(truth: Truth, banks: dict[str, BankData]) -> None:
    """Events per pulse with beam scatter as the root of their number (and the charge by 1 %)."""
    together = sum(np.diff(np.append(bank.index.astype(int), len(bank.pixel))) for bank in banks.values())
    full = np.asarray(together)[np.asarray(together) > 0]
    expected = full.mean() + (0.01 * full.mean()) ** 2
    assert full.var() / expected == pytest.approx(1.0, abs=0.15)


def test_neighbouring_pixels_count_as_poisson(banks: dict[str, BankData]) -> None:
    bank = banks["bank2"]
    counts = np.bincount(bank.pixel, minlength=512).reshape(16, 32)
    good = (bank.mask == 0).reshape(16, 32)
    pairs = good[:, :-1] & good[:, 1:]
    first, second = counts[:, :-1][pairs], counts[:, 1:][pairs]
    # Half a per cent of real difference between neighbours is allowed for.
    assert ((first - second) ** 2).sum() / (first + second).sum() == pytest.approx(1.0, abs=0.35)


def test_masked_pixels_are_in_the_file_but_not_in_the_truth(truth: Truth, banks: dict[str, BankData]) -> None:
    n_used = 0
    for bank in banks.values():
        counts = np.bincount(bank.pixel, minlength=bank.mask.size)
        assert counts[bank.mask == 2].sum() == 0  # dead
        assert counts[bank.mask == 16].min() > 3 * counts[bank.mask == 0].mean()  # noisy
        n_used += len(used(bank))
    assert truth.counts_total == n_used < truth.events
    assert truth.n_pixels_masked == sum(np.count_nonzero(bank.mask) for bank in banks.values()) == 24


def test_times_stay_within_the_band_and_are_not_sorted(banks: dict[str, BankData]) -> None:
    for bank in banks.values():
        assert bank.tof.min() > 0.45 * 20 / H_OVER_MN * 1e6
        assert bank.tof.max() < 1e5
        first = slice(*bank.index[:2].astype(int))
        assert (np.diff(bank.tof[first]) < 0).any()


def test_the_file_is_honest_nexus(truth: Truth) -> None:
    with h5py.File(truth.file, "r") as file:
        node: Any = file
        while "default" in node.attrs:
            node = node[node.attrs["default"]]
        assert node.attrs["NX_class"] == "NXdata"
        signal, axis = node[node.attrs["signal"]], node[node.attrs["axes"][0]]
        assert len(axis) == len(signal) + 1
        assert (axis.attrs["units"], signal.attrs["units"]) == ("microsecond", "counts")
        assert signal[()].sum() == truth.events
        entry = file["entry"]
        assert entry["experiment_identifier"].asstr()[()] == "TO-1"
        assert entry["technique/pid"].asstr()[()] == TOF_POWDER_DIFFRACTION
        assert entry["end_time"].asstr()[()] > entry["start_time"].asstr()[()]
        events = entry["instrument/bank1/events"]
        assert events.attrs["NX_class"] == "NXevent_data"
        assert events["event_time_offset"].attrs["units"] == "microsecond"
        assert events["event_time_zero"].attrs["offset"] == entry["start_time"].asstr()[()]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    digests = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        written = write_tof_run(
            tmp_path / folder, proposal="P-1", sample="diamond", seed=seed, n_events=20_000
        )
        digests.append(hashlib.sha256(Path(written.file).read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_a_run_with_hardly_any_events_is_complete(tmp_path: Path) -> None:
    options = TofOptions(n_pulses=5, run_number=2)
    truth = write_tof_run(tmp_path, proposal="P-1", sample="Si", seed=1, n_events=3, options=options)
    assert (truth.stem, truth.pulses) == ("TOFD_2", 5)
    with h5py.File(truth.file, "r") as file:
        stored = [file[f"entry/instrument/{name}/events/event_id"] for name in BANKS]
        assert sum(len(ids) for ids in stored) == truth.events


def test_existing_runs_and_impossible_ones_are_refused(truth: Truth, tmp_path: Path) -> None:
    pool = Path(truth.file).parents[3]
    with pytest.raises(AlreadyThere) as caught:
        write_tof_run(pool, proposal="TO-1", sample="Si", seed=4)
    assert caught.value.path.endswith("TOFD_41001")
    with pytest.raises(ValueError, match="at least one pulse"):
        write_tof_run(tmp_path, proposal="P", sample="Si", seed=4, options=TofOptions(n_pulses=0))


@pytest.mark.parametrize(("proposal", "sample"), [("../P", "Si"), ("P", "a/b"), ("P", ""), (".P", "Si")])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, proposal: str, sample: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        write_tof_run(tmp_path / "pool", proposal=proposal, sample=sample, seed=1, n_events=10)
    assert not (tmp_path / "pool").exists()
