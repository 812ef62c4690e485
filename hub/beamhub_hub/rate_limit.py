"""So many at once, and so many per second after that."""

from __future__ import annotations


class RateLimit:
    """A bucket that fills at a steady rate. Not thread-safe; it belongs to one event loop."""

    def __init__(self, *, burst: int, per_s: float) -> None:
        self._burst, self._per_s = float(burst), per_s
        self._left, self._at = float(burst), 0.0

    def allows(self, now: float) -> bool:
        """Whether one more may be served; counts it if so. `now` is in seconds and never goes back."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
