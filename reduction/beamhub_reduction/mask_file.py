"""A mask that a person made, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.steps.frames import BoolArray

MAX_MASK_BYTES = 1024**3


def read_mask(mask: Any) -> Any:
    """A mask as a caller gives it: None, an array, or the name of a file."""
    return read_mask_file(Path(mask)) if isinstance(mask, (str, Path)) else mask


def read_labels(labels: Any) -> Any:
    """A labelled mask as a caller gives it: None, an array, or the name of a NumPy file.

    Raises
    ------
    BadParameter
    """
    return _read_array(Path(labels), "labels", "biu") if isinstance(labels, (str, Path)) else labels


def read_mask_file(path: Path) -> BoolArray:
    """The mask in a NumPy file, shape (ny, nx), True = masked.

    Raises
    ------
    BadParameter
        If it is no two-dimensional array of numbers in NumPy's format; pickled objects are refused.
    """
    return np.asarray(_read_array(path, "mask", "biuf") != 0)


def _read_array(path: Path, name: str, kinds: str) -> np.ndarray[Any, Any]:
    try:
        if path.stat().st_size > MAX_MASK_BYTES:
            raise BadParameter(name, str(path), f"a file below {MAX_MASK_BYTES} bytes")
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadParameter(name, str(path), "a readable .npy file") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in kinds:
        raise BadParameter(name, str(path), "one two-dimensional array of numbers")
    return values
