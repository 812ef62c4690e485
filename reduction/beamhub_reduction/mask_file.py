"""Images that a person made beside the data: masks, darks, flats; from a file, a dataset or an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.nexus.access import Roots, real_file
from beamhub_reduction.nexus.errors import NexusError
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.steps.frames import BoolArray, FloatArray

MAX_IMAGE_BYTES = 1024**3
IMAGE_SUFFIXES = (".cbf", ".edf", ".mccd", ".msk", ".tif", ".tiff")
"""What fabio is let near: plain images, no archives and nothing that holds objects."""

_EXPECTED = "a .npy file, an image (" + ", ".join(IMAGE_SUFFIXES) + "), or a dataset FILE::/path"


def read_image(
    value: Any, *, name: str, file: str, shape: tuple[int, int], roots: Roots = None
) -> FloatArray | None:
    """An image as a caller gives it, shape (ny, nx), float64; None for None.

    Parameters
    ----------
    value:
        An array, or text: the name of a file (.npy, or an image that fabio reads), 'FILE::/path' for a
        dataset, '::/path' for one of the data's own file. Of a stack (n, ny, nx) the mean is taken.
    name:
        The parameter, for messages.
    file:
        The data's own file.
    shape:
        What the image must have.

    Raises
    ------
    BadParameter
        If it cannot be read, holds no numbers, or has another shape.
    """
    if value is None:
        return None
    shown = str(value) if isinstance(value, (str, Path)) else "an array"
    image = _read(str(value), name, file, roots) if isinstance(value, (str, Path)) else np.asarray(value)
    if image.dtype.kind not in "biuf":
        raise BadParameter(name, shown, "numbers")
    if image.ndim == 3 and len(image):
        image = image.mean(axis=0)
    if image.shape != shape:
        raise BadParameter(name, f"{shown} of shape {image.shape}", f"of the frames' shape {shape}")
    return np.asarray(image, dtype=np.float64)


def read_mask(value: Any, *, file: str, roots: Roots = None) -> BoolArray | None:
    """A mask as a caller gives it, as in `read_image`: True = masked; its shape is not checked here.

    Raises
    ------
    BadParameter
        If it cannot be read, or is no two-dimensional array of numbers.
    """
    if value is None:
        return None
    shown = str(value) if isinstance(value, (str, Path)) else "an array"
    image = _read(str(value), "mask", file, roots) if isinstance(value, (str, Path)) else np.asarray(value)
    if image.ndim != 2 or image.dtype.kind not in "biuf":
        raise BadParameter("mask", shown, "one two-dimensional array of numbers")
    return np.asarray(image != 0)


def read_labels(labels: Any, *, file: str, roots: Roots = None) -> np.ndarray[Any, Any] | None:
    """A labelled mask as a caller gives it, as in `read_image`: whole numbers, shape (ny, nx).

    Raises
    ------
    BadParameter
        If it cannot be read, or is no two-dimensional array of whole numbers.
    """
    if labels is None:
        return None
    shown = str(labels) if isinstance(labels, (str, Path)) else "an array"
    named = isinstance(labels, (str, Path))
    image = _read(str(labels), "labels", file, roots) if named else np.asarray(labels)
    if image.ndim != 2 or image.dtype.kind not in "biu":
        raise BadParameter("labels", shown, "one two-dimensional array of whole numbers")
    return image


def _read(text: str, name: str, file: str, roots: Roots) -> np.ndarray[Any, Any]:
    outer, separator, inside = text.partition("::")
    try:
        if separator:
            return _read_dataset(outer or file, inside, roots)
        path = Path(real_file(outer, roots))
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise BadParameter(name, text, f"a file below {MAX_IMAGE_BYTES} bytes")
        if path.suffix.lower() == ".npy":
            # Mapped: a header which lies about its size allocates nothing. Pickled objects are refused.
            return np.array(np.load(path, allow_pickle=False, mmap_mode="r"))
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return _read_with_fabio(path)
    except (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, NexusError) as error:
        raise BadParameter(name, text, _EXPECTED) from error
    raise BadParameter(name, text, _EXPECTED)


def _read_dataset(file: str, path: str, roots: Roots) -> np.ndarray[Any, Any]:
    with NexusFile(file, roots) as nexus:
        node = nexus.node(path)
        if not node.is_dataset:
            raise ValueError(f"{path} is no dataset")
        return np.asarray(node.values())


def _read_with_fabio(path: Path) -> np.ndarray[Any, Any]:
    # fabio comes with pyFAI and takes a while to import; most runs have no such file.
    import fabio

    with fabio.open(str(path)) as image:
        return np.array(image.data)
