"""What a product says of how sure it is, as a few figures for its page.

The text is whatever somebody wrote into a file: only known figures of the right kind are taken, cut to a
length; everything else is left out. A product without them is as good a product.
"""

from __future__ import annotations

import json
from typing import Any

MAX_FIGURE = 300
MAX_COUNT = 2**63

Figures = tuple[tuple[str, str], ...]

_COUNTS = (
    ("frames_read", "frames", "read"),
    ("frames_missing", "frames", "missing"),
    ("frames_corrupt", "frames", "corrupt"),
    ("frames_without_flux", "frames", "without_flux"),
    ("pixels_masked", "pixels_masked"),
    ("values_blank", "values_blank"),
    ("files_read", "inputs", "n_files"),
)
_WORDS = (
    ("integrity", "integrity"),
    ("kernels", "rung", "kernels"),
    ("read_by", "rung", "read_by"),
    ("index_digest", "index_digest"),
)


def evidence_figures(text: str | None) -> Figures:
    """(name, value in words) of each figure that the JSON object of a product's evidence holds.

    Names are those of the product file, with its groups before them: `frames_read`, `frames_missing`,
    `frames_corrupt`, `frames_without_flux` (left out where it counted no frames at all), `pixels_masked`,
    `values_blank`, `files_read`, `integrity`, `kernels`, `read_by`, `index_digest`, `share_of_limit`.
    """
    try:
        told: Any = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return ()
    counts = {name: count for name, *path in _COUNTS if (count := _count(_at(told, path))) is not None}
    if not any(count for name, count in counts.items() if name.startswith("frames_")):
        counts = {name: count for name, count in counts.items() if not name.startswith("frames_")}
    figures = [(name, str(count)) for name, count in counts.items()]
    figures += [(name, words) for name, *path in _WORDS if (words := _words(_at(told, path)))]
    share = _at(told, ["limit", "share"])
    if isinstance(share, float) and 0 < share < 100:
        figures.append(("share_of_limit", f"{share:.2f}"))
    return tuple(figures)


def _at(told: Any, path: list[str]) -> Any:
    for name in path:
        told = told.get(name) if isinstance(told, dict) else None
    return told


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT
    return value if is_count else None


def _words(value: Any) -> str:
    """A text, or several, in one line that can be printed."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    line = ", ".join(text[:MAX_FIGURE] for text in texts[:20] if isinstance(text, str))[:MAX_FIGURE]
    return line if line.isprintable() and line.isascii() else ""
