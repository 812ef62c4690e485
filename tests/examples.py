"""How many examples a law draws: few of the dear ones in daily runs, very many in `make soak`."""

from __future__ import annotations

import os

from hypothesis import settings

SOAK_EXAMPLES = int(os.environ.get("BEAMHUB_SOAK_EXAMPLES", "5000"))


def few(n: int) -> settings:
    """At most n examples for a law whose examples are dear; the profile `soak` draws all of its own."""
    if os.environ.get("BEAMHUB_HYPOTHESIS") == "soak":
        return settings(max_examples=SOAK_EXAMPLES)
    return settings(max_examples=n)
