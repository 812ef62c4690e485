"""How far a reduction is: a bar in a notebook, one line on a terminal, JSON lines where somebody asks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from beamhub_reduction.pipeline.amount import Amount

ProgressCallback = Callable[[int, int], None]
"""Called with (units done, units in all). One that has a method `show(Progress)` gets that instead."""

SHOWN_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reduction is; rows are frames, events or spectra. `left_s` is None while nobody can say."""

    n_done: int
    n_units: int
    rows_done: int
    rows_total: int
    bytes_done: int
    bytes_total: int
    elapsed_s: float
    rows_per_s: float
    left_s: float | None

    def text(self, counted: str) -> str:
        """In words."""
        if not self.rows_total:
            return f"{self.n_done} of {self.n_units} parts, {self.elapsed_s:.1f} s"
        said = f"{self.rows_done} of {self.rows_total} {counted}"
        if self.rows_per_s:
            said += f", {_short(self.rows_per_s)} {counted}/s"
        if self.left_s is not None and self.n_done < self.n_units:
            said += f", {_clock(self.left_s)} left"
        return said


class Meter:
    """Adds up units and tells a callback; rates count only what was done in this run, not what was kept."""

    def __init__(self, amounts: list[Amount], callback: ProgressCallback) -> None:
        self.n_done = 0
        self._n_units = len(amounts)
        self._total = (sum(a.n_rows for a in amounts), sum(a.n_bytes for a in amounts))
        self._rows = self._bytes = 0
        self._began = time.perf_counter()
        self._kept_rows = 0
        self._callback = callback
        self._show = getattr(callback, "show", None)

    def add(self, amount: Amount, *, kept: bool = False) -> None:
        """One more unit is done, or was found in a journal."""
        self.n_done += 1
        self._kept_rows += amount.n_rows if kept else 0
        self._rows += amount.n_rows
        self._bytes += amount.n_bytes
        if self._show is not None:
            self._show(self.now())
        else:
            self._callback(self.n_done, self._n_units)

    def now(self) -> Progress:
        """The state at this moment."""
        elapsed = time.perf_counter() - self._began
        rate = (self._rows - self._kept_rows) / elapsed if elapsed > 0 else 0.0
        left = (self._total[0] - self._rows) / rate if rate > 0 else None
        return Progress(
            self.n_done, self._n_units, self._rows, self._total[0], self._bytes, self._total[1],
            elapsed, rate, left,
        )  # fmt: skip


class Display:
    """Shows how far a reduction is.

    In a kernel with ipywidgets: a bar with a line of text, and one line at the end, which stays readable
    where no front end renders widgets. On a terminal: one line that is rewritten. Elsewhere: the last line
    only, unless `always`.
    """

    def __init__(self, label: str, *, counted: str = "frames", always: bool = False) -> None:
        self.label, self.counted = label, counted
        self._began = time.monotonic()
        self._shown = 0.0
        self._bar, self._words = _make_bar(label)
        self._on_terminal = self._bar is None and sys.stderr.isatty()
        self._always = always and not self._on_terminal

    def __call__(self, n_done: int, n_total: int) -> None:
        """Show that n_done of n_total units are done."""
        elapsed = time.monotonic() - self._began
        left = elapsed / n_done * (n_total - n_done) if n_done else None
        self.show(Progress(n_done, n_total, 0, 0, 0, 0, elapsed, 0.0, left))

    def show(self, progress: Progress) -> None:
        """Show a state, at most ten times a second."""
        now = time.monotonic()
        if progress.n_done < progress.n_units and now - self._shown < SHOWN_EVERY_S:
            return
        self._shown = now
        text = progress.text(self.counted)
        if self._bar is not None:
            self._bar.max, self._bar.value = progress.n_units, progress.n_done
            self._words.value = text
        elif self._on_terminal:
            sys.stderr.write(f"\r\033[K{self.label}: {text} ")
            sys.stderr.flush()
        elif self._always:
            sys.stderr.write(f"{self.label}: {text}\n")
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

    def fail(self) -> None:
        """Leave the display as an error found it."""
        if self._bar is not None:
            self._bar.bar_style = "danger"
        if self._on_terminal:
            sys.stderr.write("\n")


class JsonLines:
    """Progress as one JSON object a line, at most ten a second; for programs that watch."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._shown = stream, 0.0

    def __call__(self, n_done: int, n_total: int) -> None:
        """A state without sizes."""
        self._write(n_done == n_total, {"n_done": n_done, "n_units": n_total})

    def show(self, progress: Progress) -> None:
        """A state with all numbers."""
        self._write(progress.n_done == progress.n_units, asdict(progress))

    def _write(self, is_last: bool, facts: dict[str, Any]) -> None:
        now = time.monotonic()
        if is_last or now - self._shown >= SHOWN_EVERY_S:
            self._shown = now
            self._stream.write(json.dumps({"progress": facts}) + "\n")
            self._stream.flush()


def silent(n_done: int, n_total: int) -> None:
    """Show nothing."""


def in_kernel() -> bool:
    """Whether this code runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _make_bar(label: str) -> tuple[Any, Any]:
    """(a bar, the words beside it), or (None, None)."""
    if not in_kernel():
        return None, None
    try:
        # Optional dependency: belongs to the session's extra, not to the reduction's.
        from IPython.display import display
        from ipywidgets import HBox, IntProgress, Label
    except ModuleNotFoundError:
        return None, None
    bar = IntProgress(
        value=0, min=0, max=1, description=label, layout={"width": "50%"}, style={"description_width": "auto"}
    )
    words = Label("")
    display(HBox([bar, words]))  # type: ignore[no-untyped-call]  # IPython
    return bar, words


def _short(number: float) -> str:
    """Three digits, and a prefix for thousands: 1234567 is 1.23 M."""
    for prefix in ("", " k", " M"):
        if number < 999.5:
            return f"{number:.3g}{prefix}"
        number /= 1000
    return f"{number:.3g} G"


def _clock(seconds: float) -> str:
    """Seconds as h:mm:ss, m:ss, or seconds."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d} min"
