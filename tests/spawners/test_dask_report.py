"""The gateway tells web sums: what is told again, late or after a fault counts once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.errors import Unavailable
from beamhub_core.session_usage import UsageReport
from beamhub_spawners.dask_report import UsageTeller
from beamhub_spawners.dask_usage import Usage

PLANS = [letter * 32 for letter in "abc"]
GROWTHS = st.lists(
    st.tuples(st.sampled_from(PLANS), st.integers(0, 100), st.booleans()), min_size=1, max_size=20
)


@given(growths=GROWTHS)
def test_web_has_every_sum_after_a_report_that_it_took(growths: list[tuple[str, int, bool]]) -> None:
    used: dict[str, Usage] = {}
    kept: dict[str, float] = {}
    is_up = True

    async def tell(report: UsageReport) -> None:
        if not is_up:
            raise Unavailable("web", "down")
        for one in report.sessions:
            kept[one.plan_id] = max(kept.get(one.plan_id, 0.0), one.core_s)

    async def work() -> None:
        nonlocal is_up
        teller = UsageTeller(lambda: used, tell)
        for plan_id, seconds, is_up in growths:
            used[plan_id] = used.get(plan_id, Usage()) + Usage(seconds, seconds)
            if is_up:
                await teller.tell_once()
                assert kept == {plan: one.core_s for plan, one in used.items()}
            else:
                with pytest.raises(Unavailable, match="down"):
                    await teller.tell_once()
        is_up = True
        await UsageTeller(lambda: used, tell).tell_once()  # another process: it tells all again
        assert kept == {plan: one.core_s for plan, one in used.items()}

    asyncio.run(work())
