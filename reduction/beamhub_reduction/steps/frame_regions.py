"""Regions of a detector whose counts are followed from frame to frame: rectangles, or labels of a mask."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.steps.frames import BoolArray, IntArray

MAX_REGIONS = 10_000
_RECTANGLE = re.compile(r"^(?:([A-Za-z_][A-Za-z0-9_.-]{0,63})=)?(\d{1,9}):(\d{1,9}),(\d{1,9}):(\d{1,9})$")
_FORM = "'y0:y1,x0:x1' or 'name=y0:y1,x0:x1' (ends excluded), inside the frame and not empty"


@dataclass(frozen=True, slots=True)
class Regions:
    """Names of regions, and their unmasked pixels as runs: `spans` (n_spans, 3) of first, end, region."""

    names: tuple[str, ...]
    spans: IntArray

    @property
    def n_regions(self) -> int:
        """How many regions; some may have no pixel left."""
        return len(self.names)

    def and_all(self, masked: BoolArray) -> Regions:
        """The same regions with one more in front: every unmasked pixel."""
        whole = _runs((~masked).astype(np.int64).ravel())
        whole[:, 2] = 0
        others = self.spans + np.array([0, 0, 1])
        return Regions(("all", *self.names), np.concatenate([whole, others]))


def rectangle_text(rectangle: Any) -> str:
    """A rectangle as text, from text or from (y0, y1, x0, x1)."""
    if isinstance(rectangle, str):
        return rectangle
    y0, y1, x0, x1 = (int(edge) for edge in rectangle)
    return f"{y0}:{y1},{x0}:{x1}"


def build_regions(rectangles: Sequence[str], *, labels: Any, masked: BoolArray) -> Regions:
    """Regions from rectangles and from a labelled mask, without the masked pixels; they may overlap.

    Parameters
    ----------
    rectangles:
        'y0:y1,x0:x1' each, ends excluded, with a name in front if wanted: 'spot=10:20,30:40'.
    labels:
        Whole numbers, shape (ny, nx): each value above 0 is a region; or None.
    masked:
        Pixels that count in no region, shape (ny, nx), True = masked.

    Raises
    ------
    BadParameter
        For a rectangle outside the frame, labels of another shape, or more than MAX_REGIONS regions.
    """
    names: list[str] = []
    parts = [np.zeros((0, 3), dtype=np.int64)]
    for text in rectangles:
        found = _RECTANGLE.match(text)
        edges = [int(edge) for edge in found.groups()[1:]] if found else []
        if not found or not (
            edges[0] < edges[1] <= masked.shape[0] and edges[2] < edges[3] <= masked.shape[1]
        ):
            raise BadParameter("regions", text, _FORM)
        inside = np.zeros(masked.shape, dtype=np.int64)
        inside[edges[0] : edges[1], edges[2] : edges[3]] = 1
        spans = _runs(np.where(masked, 0, inside).ravel())
        spans[:, 2] = len(names)
        parts.append(spans)
        names.append(found.group(1) or f"region_{len(names) + 1}")
    if labels is not None:
        given = _whole_numbers(labels, masked)
        values = np.unique(given[given > 0])
        if values.size > MAX_REGIONS:
            raise BadParameter("labels", f"{values.size} labels", f"at most {MAX_REGIONS}")
        spans = _runs(np.where(masked, 0, np.maximum(given, 0)).ravel())
        spans[:, 2] = np.searchsorted(values, spans[:, 2]) + len(names)
        parts.append(spans)
        names += [f"label_{value}" for value in values]
    if len(names) > MAX_REGIONS:
        raise BadParameter("regions", f"{len(names)} regions", f"at most {MAX_REGIONS}")
    return Regions(tuple(names), np.concatenate(parts))


def _whole_numbers(labels: Any, masked: BoolArray) -> IntArray:
    given = np.asarray(labels)
    if given.shape != masked.shape or given.dtype.kind not in "biu":
        raise BadParameter("labels", f"{given.dtype} {given.shape}", f"whole numbers of shape {masked.shape}")
    return given.astype(np.int64)


def _runs(labels: IntArray) -> IntArray:
    """(first, end, label) of every run of one label above 0 in a row of labels."""
    if labels.size == 0:
        return np.zeros((0, 3), dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1]).astype(np.int64)
    ends = np.concatenate([starts[1:], [labels.size]])
    of = labels[starts]
    return np.stack([starts, ends, of], axis=1)[of > 0]
