"""Laws of what clusters may take, and what a message to the gateway may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config import FacilityConfig
from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.session import SessionRequest
from beamhub_spawners.dask_limits import (
    Held,
    Holder,
    OverLimit,
    SessionShare,
    Size,
    check_new_cluster,
    check_workers,
    cluster_held,
    most_workers,
)
from beamhub_spawners.dask_messages import BadMessage, read_heartbeat, read_message
from beamhub_spawners.plan import session_plan
from contracts.plan_parts import FIELDS, plan
from contracts.spawner_parts import EXPLAIN, GRANTED_PID, OCCASION, PLACE, granted_answer, principal

ME = Holder("p" * 32, "ines", frozenset({"MA-1"}), frozenset({100}))
OTHERS = (
    Holder("q" * 32, "ines", frozenset({"MA-2"}), frozenset()),
    Holder("r" * 32, "otto", frozenset({"MA-1"}), frozenset({100})),
    Holder("s" * 32, "ruth", frozenset({"MA-9"}), frozenset({7})),
)
SIZES = st.builds(Size, st.integers(1, 4), st.sampled_from((0.25, 0.5, 1.0, 3.0)))
SHARES = st.builds(SessionShare, st.integers(0, 12), st.integers(0, 24), st.sampled_from((0.5, 2.0, 16.0)))
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_workers": st.integers(0, 12),
        "max_cpu": st.integers(0, 30),
        "max_memory_gib": st.integers(0, 30),
    },
)


def gateway(**limits: Any) -> GatewayConfig:
    return GatewayConfig.model_validate(
        {
            "session_url": "http://127.0.0.1:8786",
            "web_token_file": "/x/token",
            "database_url": "sqlite:////x/gateway.sqlite",
            "keys_file": "/x/keys",
            "state_folder": "/x",
            "limits": limits,
        }
    )


@st.composite
def situations(draw: Any) -> tuple[Size, tuple[Held, ...], tuple[SessionShare, GatewayConfig]]:
    groups = [{"name": "staff", "gid": 100, **draw(LIMITS)}]
    config = gateway(person=draw(LIMITS), proposal=draw(LIMITS), groups=groups)
    held = [
        cluster_held(holder, draw(SIZES), draw(st.integers(0, 4)), config)
        for holder in draw(st.lists(st.sampled_from((ME, *OTHERS)), max_size=5))
    ]
    held += [Held(ME, 2, 4, is_cluster=False)] if draw(st.booleans()) else []
    return draw(SIZES), tuple(held), (draw(SHARES), config)


@given(situations())
def test_the_most_workers_are_allowed_and_one_more_is_not(
    situation: tuple[Size, tuple[Held, ...], tuple[SessionShare, GatewayConfig]],
) -> None:
    size, others, rules = situation
    mine = cluster_held(ME, size, 0, rules[1])
    most = most_workers(mine, size, others, rules)
    if most:
        check_workers(mine, most, size, others, rules)
    with pytest.raises(OverLimit):
        check_workers(mine, most + 1, size, others, rules)


@given(situations(), st.sampled_from(OTHERS))
def test_what_anybody_holds_more_never_gives_me_more(
    situation: tuple[Size, tuple[Held, ...], tuple[SessionShare, GatewayConfig]], other: Holder
) -> None:
    size, others, rules = situation
    mine = cluster_held(ME, size, 0, rules[1])
    more = (*others, cluster_held(other, Size(1, 1.0), 1, rules[1]))
    assert most_workers(mine, size, more, rules) <= most_workers(mine, size, others, rules)


@given(st.integers(1, 8), st.integers(0, 8))
def test_one_after_the_other_never_passes_the_person_limit(cap: int, n_sessions: int) -> None:
    config = gateway(person={"max_workers": cap})
    share, held = SessionShare(4, 4, 8.0), []
    for i in range(n_sessions):
        holder = Holder(f"{i:032x}", "ines", frozenset(), frozenset())
        mine = cluster_held(holder, Size(1, 1.0), 0, config)
        most = most_workers(mine, Size(1, 1.0), held, (share, config))
        held.append(cluster_held(holder, Size(1, 1.0), most, config))
    assert sum(one.n_workers for one in held) == min(cap, 4 * n_sessions)


def test_the_notebook_counts_and_the_message_has_the_numbers() -> None:
    config = gateway(person={"max_cpu": 4})
    notebook = Held(ME, 3.5, 4, is_cluster=False)
    with pytest.raises(OverLimit) as caught:
        check_new_cluster(ME, SessionShare(2, 2, 2.0), Size(1, 1.0), [notebook], config)
    assert (caught.value.asked, caught.value.held, caught.value.limit) == (1, 3.5, 4)
    assert str(caught.value).startswith("You may have 4 processor cores together; 3.5 are in use")


def test_a_session_without_workers_has_no_clusters() -> None:
    with pytest.raises(OverLimit, match="threads of workers"):
        check_new_cluster(ME, SessionShare(0, 0, 2.0), Size(1, 1.0), [], gateway())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(JSON | st.fixed_dictionaries({"op": st.sampled_from(("scale", "adapt", "x")), "count": JSON}))
def test_any_json_is_a_wish_or_refused(said: Any) -> None:
    try:
        wish = read_message(said)
    except BadMessage:
        return
    assert wish.count >= 0
    assert wish.maximum is None or wish.minimum <= wish.maximum


@given(JSON)
def test_any_json_is_a_heartbeat_or_refused(said: Any) -> None:
    lists = dict.fromkeys(("active_workers", "closing_workers", "closed_workers"), said)
    addresses = dict.fromkeys(("scheduler_address", "api_address", "dashboard_address"), "x")
    for message in (said, {"count": said, **lists, **addresses}, {"count": 1, **lists, **addresses}):
        try:
            beat = read_heartbeat(message)
        except BadMessage:
            continue
        assert all(isinstance(name, str) for name in beat["active_workers"])


def test_a_session_knows_the_gateway_where_there_is_one() -> None:
    config = FacilityConfig.model_validate({**FIELDS, "gateway": gateway().model_dump(mode="json")})
    request = SessionRequest(datasets=(GRANTED_PID,))
    made = session_plan(granted_answer(), request, config, principal(), (PLACE, EXPLAIN), OCCASION)
    assert made.environment_variables["BEAMHUB_GATEWAY_URL"] == "http://127.0.0.1:8786"
    assert not [name for name in plan().environment_variables if "GATEWAY" in name]
