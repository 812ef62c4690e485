"""A scan written by a process of its own, one frame for each line on stdin.

`python scan_writer.py MODE FILE N_PLANNED`, where MODE is 'swmr' (readers may watch), 'exclusive' (BLISS: the
file is locked while it is open) or 'late' (the dataset has its full size from the beginning).
"""

from __future__ import annotations

import sys

import h5py
import numpy as np


def say(word: object) -> None:
    """Tell the test."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(mode: str, path: str, n_planned: int) -> None:
    """Write one frame a line and say so; with 'end' write the end marker and close."""
    with h5py.File(path, "w", libver="latest" if mode == "swmr" else None) as f:
        for name, nx_class in (
            ("1.1", "NXentry"),
            ("1.1/instrument", "NXinstrument"),
            ("1.1/instrument/cam", "NXdetector"),
        ):
            f.create_group(name).attrs["NX_class"] = nx_class
        first = n_planned if mode == "late" else 0
        data = f.create_dataset(
            "1.1/instrument/cam/data", (first, 3, 4), np.uint16, maxshape=(None, 3, 4), chunks=(1, 3, 4),
            compression="gzip" if mode == "exclusive" else None,
        )  # fmt: skip
        if mode == "swmr":
            f.swmr_mode = True
        else:
            f.flush()
        say("ready")
        for n, line in enumerate(sys.stdin):
            if line.strip() == "end":
                if mode != "swmr":
                    f["1.1/end_time"] = "2026-03-01T08:00:00"
                break
            if mode != "late":
                data.resize(n + 1, axis=0)
            data[n] = n + 1
            (data if mode == "swmr" else f).flush()
            say(n + 1)
    say("closed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
