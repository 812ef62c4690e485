"""Files that are broken in the ways facilities break them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from beamhub_reduction.synthetic.powder import DETECTOR, PowderOptions, write_powder_scan
from beamhub_reduction.synthetic.powder_model import MASKED
from beamhub_reduction.synthetic.truth import Truth

KEPT_SHARE = 0.6
WHOLE = PowderOptions()
TWO_FILES = PowderOptions(frames_per_file=16)


def write_damaged_file(
    folder: Path,
    *,
    proposal: str,
    sample: str,
    seed: int,
    n_frames: int = 4,
    options: PowderOptions = WHOLE,
) -> Truth:
    """Write a powder scan whose master file was cut off while it was copied.

    h5py refuses the master with OSError ("truncated file"); the frames are sound. Parameters, errors
    and places as for `write_powder_scan`.
    """
    truth = write_powder_scan(
        folder, proposal=proposal, sample=sample, seed=seed, n_frames=n_frames, options=options
    )
    master = Path(truth.file)
    with master.open("r+b") as file:
        file.truncate(int(master.stat().st_size * KEPT_SHARE))
    return replace(truth, problem="damaged", n_frames=0, n_frames_missing=n_frames, counts_total=0)


def write_dangling_link_file(
    folder: Path,
    *,
    proposal: str,
    sample: str,
    seed: int,
    n_frames: int = 24,
    options: PowderOptions = TWO_FILES,
) -> Truth:
    """Write a powder scan whose last detector file was never copied: its external link leads nowhere.

    The truth counts the frames that are there. Parameters, errors and places as for `write_powder_scan`.

    Raises
    ------
    ValueError
        If all frames lie in one file, so that none would be left.
    """
    if n_frames <= options.frames_per_file:
        raise ValueError(f"{n_frames} frames make one file of {options.frames_per_file}; none would be left")
    truth = write_powder_scan(
        folder, proposal=proposal, sample=sample, seed=seed, n_frames=n_frames, options=options
    )
    master = Path(truth.file)
    with h5py.File(master, "r") as file:
        detector = file[f"/1.1/instrument/{DETECTOR}"]
        unmasked = (detector["pixel_mask"][()] & MASKED) == 0
        last = max(name for name in detector if name.startswith("data_"))
        lost = detector[last]
        n_lost = len(lost)
        counts_lost = sum(int(lost[i][unmasked].sum(dtype=np.int64)) for i in range(n_lost))
        link = detector.get(last, getlink=True).filename
    (master.parent / link).resolve().unlink()
    return replace(
        truth,
        problem="dangling_link",
        n_frames=n_frames - n_lost,
        n_frames_missing=n_lost,
        counts_total=truth.counts_total - counts_lost,
    )
