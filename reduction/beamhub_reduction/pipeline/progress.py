"""A progress bar where there is a notebook, text where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

ProgressCallback = Callable[[int, int], None]
"""Called with (units done, units in all)."""


class Display:
    """Shows how far a reduction is.

    In a kernel with ipywidgets: a bar, and one line of text at the end, which stays readable where no
    front end renders widgets. On a terminal: one line that is rewritten. Elsewhere: the last line only.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._began = time.monotonic()
        self._shown = 0.0
        self._bar = _make_bar(label)
        self._on_terminal = self._bar is None and sys.stderr.isatty()

    def __call__(self, n_done: int, n_total: int) -> None:
        """Show that n_done of n_total units are done."""
        now = time.monotonic()
        if n_done < n_total and now - self._shown < 0.1:
            return
        self._shown = now
        text = f"{n_done} of {n_total} parts, {now - self._began:.1f} s"
        if self._bar is not None:
            self._bar.max, self._bar.value, self._bar.description = n_total, n_done, self.label
            self._bar.description_tooltip = text
        elif self._on_terminal:
            sys.stderr.write(f"\r{self.label}: {text} ")
            sys.stderr.flush()

    def finish(self, text: str) -> None:
        """Say what was done."""
        if self._bar is not None:
            self._bar.bar_style = "success"
        if self._on_terminal:
            sys.stderr.write("\r\033[K")
        stream = sys.stdout if self._bar is not None or in_kernel() else sys.stderr
        stream.write(f"{self.label}: {text}\n")
        stream.flush()


def silent(n_done: int, n_total: int) -> None:
    """Show nothing."""


def in_kernel() -> bool:
    """Whether this code runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _make_bar(label: str) -> Any:
    if not in_kernel():
        return None
    try:
        # Optional dependency: belongs to the session's extra, not to the reduction's.
        from IPython.display import display
        from ipywidgets import IntProgress
    except ModuleNotFoundError:
        return None
    bar = IntProgress(value=0, min=0, max=1, description=label, layout={"width": "60%"})
    display(bar)  # type: ignore[no-untyped-call]  # IPython
    return bar
