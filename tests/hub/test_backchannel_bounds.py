"""The bounded memories of back-channel logout: nothing is taken twice, nothing grows without end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_hub.backchannel_logout import (
    MAX_AGE_S,
    Logout,
    LogoutRefused,
    MemoryFull,
    SeenLogouts,
)
from beamhub_hub.rate_limit import RateLimit

LEEWAY_S = 60.0


def logout(jti: str, issued_at: float) -> Logout:
    """A logout of somebody."""
    return Logout(subject="s", sid=None, jti=jti, issued_at=issued_at)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(-MAX_AGE_S, LEEWAY_S)), max_size=40),
    st.lists(st.floats(0, 50), min_size=40, max_size=40),
)
def test_a_token_that_still_counts_is_never_taken_twice(
    tokens: list[tuple[str, float]], pauses: list[float]
) -> None:
    seen, taken, now = SeenLogouts(leeway_s=LEEWAY_S), dict[str, float](), 1e9
    for (jti, age), pause in zip(tokens, pauses, strict=False):
        now += pause
        issued_at = now + age
        try:
            seen.take(logout(jti, issued_at), now)
        except LogoutRefused as refused:
            assert refused.code == "replayed"
            assert jti in taken
        else:
            # The earlier one of this name is too old by now to be accepted by anybody.
            assert jti not in taken or now > taken[jti] + MAX_AGE_S + LEEWAY_S
            taken[jti] = issued_at


def test_a_full_memory_refuses_and_forgets_nothing() -> None:
    seen = SeenLogouts(leeway_s=LEEWAY_S, most=3)
    for jti in "abc":
        seen.take(logout(jti, 1000.0), 1000.0)
    with pytest.raises(MemoryFull, match="Too many"):
        seen.take(logout("d", 1000.0), 1000.0)
    with pytest.raises(LogoutRefused, match="replayed"):
        seen.take(logout("a", 1000.0), 1000.0)
    later = 1000.0 + MAX_AGE_S + 2 * LEEWAY_S + 1
    seen.take(logout("d", later), later)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_a_rate_is_never_more_than_the_burst_and_its_share_of_time(pauses: list[float]) -> None:
    rate, now, n = RateLimit(burst=5, per_s=2.0), 100.0, 0
    for pause in pauses:
        now += pause
        n += rate.allows(now)
    assert n <= 5 + 2.0 * (now - 100.0 + pauses[0]) + 1e-6
