"""The demonstration's facility: complete, small, quick, the same for a seed, and never overwritten."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.synthetic import (
    Truth,
    build_demo_facility,
    read_truth_file,
    truth_from_json,
    update_truth_file,
)
from beamhub_reduction.synthetic.crystal import NEUTRON_CRYSTALS, XRAY_CRYSTALS, build_reflections


def digest_of(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Truth, ...]]:
    root = tmp_path_factory.mktemp("facility")
    steps: list[tuple[int, int]] = []
    truths = build_demo_facility(
        root, seed=20261, progress=lambda done, total, _: steps.append((done, total))
    )
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]
    assert len({total for _, total in steps}) == 1
    return root, truths


def test_the_facility_has_its_proposals_and_datasets(facility: tuple[Path, tuple[Truth, ...]]) -> None:
    root, truths = facility
    found = sorted((truth.proposal, truth.stem, truth.problem) for truth in truths)
    assert found == [
        ("MA-5101", "CeO2_0001", None),
        ("MA-5101", "LaB6_0001", None),
        ("MA-5101", "Ni_0001", "dangling_link"),
        ("MA-5101", "Si_0001", "damaged"),
        ("MA-6202", "Si_0002", None),
        ("MA-6202", "SrTiO3_0001", None),
        ("TO-7303", "TOFD_41001", None),
        ("TO-7303", "TOFD_41002", None),
    ]
    for hall, proposal in (("hall-a", "MA-5101"), ("hall-a", "MA-6202"), ("hall-b", "TO-7303")):
        assert list((root / hall / proposal / "processed").iterdir()) == []
    for truth in truths:
        assert Path(truth.file).is_file()
        assert Path(truth.file).relative_to(root).parts[1] == truth.proposal
    assert list(root.rglob(".*")) == []


def test_the_facility_is_small(facility: tuple[Path, tuple[Truth, ...]]) -> None:
    root, _ = facility
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 300e6


def test_the_planted_counts_are_exact(facility: tuple[Path, tuple[Truth, ...]]) -> None:
    _, truths = facility
    for truth in truths:
        if truth.axis != "q_nm^-1" or truth.problem == "damaged":
            continue
        total = 0
        with h5py.File(truth.file, "r") as file:
            detector = file["1.1/instrument/pilatus"]
            good = (detector["pixel_mask"][()] & 0xFFFF) == 0
            for i in range(-(-(truth.n_frames) // 32) if truth.problem is None else 1):
                for frame in detector[f"data_{i:04d}"]:
                    total += int(frame[good].sum(dtype=np.int64))
        assert total == truth.counts_total


def test_a_second_run_keeps_what_is_there_and_adds_what_is_missing(
    facility: tuple[Path, tuple[Truth, ...]],
) -> None:
    root, truths = facility
    before = digest_of(root)
    run = next(truth for truth in truths if truth.stem == "TOFD_41002")
    Path(run.file).unlink()
    Path(run.file).parent.rmdir()
    (root / "hall-b" / "TO-7303" / "processed" / "mine.txt").write_text("work")
    assert build_demo_facility(root, seed=20261, progress=lambda *_: None) == (run,)
    (root / "hall-b" / "TO-7303" / "processed" / "mine.txt").unlink()
    assert digest_of(root) == before
    assert build_demo_facility(root, seed=1, progress=lambda *_: None) == ()
    assert digest_of(root) == before


@given(
    st.builds(
        Truth,
        peaks=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
        peak_weights=st.just(()),
        problem=st.sampled_from([None, "damaged"]),
        axis=st.sampled_from(["q_nm^-1", "d_angstrom"]),
        lattice_angstrom=st.floats(1, 9),
    )
)
def test_facts_survive_json(truth: Truth) -> None:
    assert truth_from_json(json.loads(json.dumps(truth.to_json()))) == truth


def test_facts_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="not the facts"):
        truth_from_json({"stem": "x"})


@pytest.mark.parametrize(
    "crystal", [*XRAY_CRYSTALS.values(), *NEUTRON_CRYSTALS.values()], ids=lambda c: c.name
)
def test_extinct_reflections_are_absent(crystal: object) -> None:
    """Face-centred lattices have unmixed indices only; diamond has no h+k+l = 4n+2."""
    lines = build_reflections(crystal, d_min_angstrom=0.9)  # type: ignore[arg-type]
    squared = set(np.round((crystal.lattice_angstrom / lines.d_angstrom) ** 2).astype(int).tolist())  # type: ignore[attr-defined]
    if crystal.name in ("CeO2", "Ni"):  # type: ignore[attr-defined]
        assert {3, 4, 8, 11} <= squared
        assert not {1, 2, 5, 6} & squared
    elif crystal.name in ("Si", "diamond"):  # type: ignore[attr-defined]
        assert {3, 8, 11} <= squared
        assert not {1, 2, 4, 12} & squared
    else:
        assert {1, 2, 3, 4, 5, 6} <= squared
    assert (np.diff(lines.d_angstrom) > 0).all()


def run_module(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "beamhub_reduction.synthetic", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_writes_a_random_sample_and_its_truth(tmp_path: Path) -> None:
    truth_file = tmp_path / "truth.json"
    words = ("powder", str(tmp_path / "hall-a"), "--proposal", "MA-9", "--sample", "new", "--frames", "2")
    done = run_module(*words, "--seed", "11", "--truth", str(truth_file))
    assert done.returncode == 0, done.stderr
    (truth,) = read_truth_file(truth_file)
    assert [truth_from_json(facts) for facts in json.loads(done.stdout)] == [truth]
    assert Path(truth.file).is_file()
    assert done.stderr == ""  # no terminal: no bar

    again = run_module(*words, "--seed", "12", "--truth", str(truth_file))
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert read_truth_file(truth_file) == (truth,)

    second = run_module(
        "tof", str(tmp_path / "hall-b"), "--proposal", "TO-9", "--sample", "Si", "--seed", "1",
        "--events", "1000", "--truth", str(truth_file),
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert [found.proposal for found in read_truth_file(truth_file)] == ["MA-9", "TO-9"]
    assert len(update_truth_file(truth_file, [truth])) == 2
    assert (
        run_module("powder", str(tmp_path), "--proposal", "P", "--sample", "s", "--seed", "-1").returncode
        == 2
    )


def test_the_writers_import_numpy_h5py_and_hdf5plugin_only(tmp_path: Path) -> None:
    code = (
        "import beamhub_reduction.synthetic, sys; "
        "heavy = {'pyFAI', 'dask', 'distributed', 'scipy', 'scipp', 'matplotlib', 'pydantic'}; "
        "found = heavy & {name.split('.')[0] for name in sys.modules}; "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
