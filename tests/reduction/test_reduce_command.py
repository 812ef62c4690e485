"""`beamhub reduce` writes a product and says what it read."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from beamhub_core.errors import BeamhubError
from beamhub_reduction.command import add
from beamhub_reduction.errors import BadParameter, ProductExists, RunNotFound
from beamhub_reduction.synthetic import Truth

pytestmark = pytest.mark.usefixtures("outside_session")


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    arguments = parser.parse_args(["reduce", *words])
    code: int = arguments.run(arguments)
    return code


def test_frames_become_a_product_and_one_json_object(
    powder_truth: Truth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.h5"
    assert (
        run("azimuthal", powder_truth.file, "-o", str(out), "--bins", "50", "--json", "--workers", "1") == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] is True
    assert facts["product"]["path"] == str(out)
    assert facts["statistics"]["counts_total"] == powder_truth.counts_total


def test_a_named_stack_and_a_mask_are_used(
    powder_truth: Truth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((619, 487), dtype=bool)
    mask[:300] = True
    np.save(tmp_path / "mask.npy", mask)
    name = f"{powder_truth.file}::/1.1/instrument/pilatus/data_0001"
    words = ("--mask", str(tmp_path / "mask.npy"), "--no-normalise", "--workers", "1")
    assert run("azimuthal", name, "-o", str(tmp_path), *words) == 0
    out = capsys.readouterr().out
    assert "n_frames_read          5" in out


def test_events_become_a_product(
    tof_truth: Truth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tof", tof_truth.file, "-o", str(tmp_path / "t.h5"), "--json", "--workers", "1") == 0
    assert json.loads(capsys.readouterr().out)["statistics"]["counts_total"] == tof_truth.counts_total


def test_errors_carry_their_exit_codes(powder_truth: Truth, tmp_path: Path) -> None:
    (tmp_path / "there.h5").touch()
    (tmp_path / "bad.npy").write_bytes(b"no array")
    file, there = powder_truth.file, str(tmp_path / "there.h5")
    cases: list[tuple[type[BeamhubError], int, tuple[str, ...]]] = [
        (RunNotFound, 3, ("azimuthal", str(tmp_path / "absent.h5"), "-o", str(tmp_path / "o.h5"))),
        (BadParameter, 2, ("azimuthal", file, "-o", str(tmp_path), "--mask", str(tmp_path / "bad.npy"))),
        (BadParameter, 2, ("tof", file, "-o", str(tmp_path), "--workers", "0")),
        (ProductExists, 1, ("azimuthal", file, "-o", there, "--workers", "1")),
    ]
    for error, code, words in cases:
        with pytest.raises(error) as caught:
            run(*words)
        assert caught.value.exit_code == code
