"""Laws and cases of the choice of a place."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.rights import Refused
from beamhub_core.session import Place
from beamhub_spawners.placement import Wanted, choose

POOLS = ("hall-a", "hall-b", "archive")


@st.composite
def some_places(draw: st.DrawFn) -> list[Place]:
    names = draw(
        st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,6}", fullmatch=True), min_size=1, max_size=6, unique=True)
    )
    places = []
    for name in names:
        pools = tuple(draw(st.sets(st.sampled_from(POOLS), min_size=1)))
        places.append(
            Place(
                name=name,
                backend="local",
                pools=pools,
                healthy_pools=tuple(pool for pool in pools if draw(st.booleans())),
                capacity=draw(st.integers(1, 4)),
                running=draw(st.integers(0, 4)),
                warm=draw(st.integers(0, 1)),
                gpus=draw(st.integers(0, 2)),
                images=draw(st.sampled_from([(), ("image",)])),
                link_costs={pool: draw(st.sampled_from([0.0, 0.5, 2.0])) for pool in pools},
            )
        )
    return places


wishes = st.builds(
    Wanted,
    bytes_per_pool=st.dictionaries(st.sampled_from(POOLS), st.integers(0, 10**15), max_size=3),
    image=st.sampled_from(["image", "local"]),
    gpus=st.integers(0, 2),
    key=st.text(max_size=5),
)


@given(wanted=wishes, places=some_places())
def test_a_chosen_place_mounts_all_the_data_healthily_and_has_room(
    wanted: Wanted, places: list[Place]
) -> None:
    try:
        place, explain = choose(wanted, places)
    except Refused as refused:
        assert refused.refusal.code in ("full", "no_place")
        return
    assert set(wanted.bytes_per_pool) <= set(place.healthy_pools)
    assert place.running < place.capacity
    assert place.gpus >= wanted.gpus
    assert explain.chosen == place.name
    assert explain.because


@given(wanted=wishes, places=some_places(), seed=st.integers(0, 100))
def test_the_order_of_the_places_does_not_matter(wanted: Wanted, places: list[Place], seed: int) -> None:
    shuffled = places.copy()
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - an order, no secret
    try:
        first = choose(wanted, places)
    except Refused as refused:
        with pytest.raises(Refused) as caught:
            choose(wanted, shuffled)
        assert caught.value.refusal.code == refused.refusal.code
        return
    assert choose(wanted, shuffled) == first


@given(wanted=wishes, places=some_places())
def test_every_place_gets_a_verdict_with_reasons(wanted: Wanted, places: list[Place]) -> None:
    try:
        _, explain = choose(wanted, places)
    except Refused:
        return
    assert {verdict.place for verdict in explain.verdicts} == {place.name for place in places}
    assert all(verdict.reasons for verdict in explain.verdicts)


@given(wanted=wishes, places=some_places())
def test_no_fitting_place_has_more_of_the_data_local(wanted: Wanted, places: list[Place]) -> None:
    try:
        place, explain = choose(wanted, places)
    except Refused:
        return
    verdicts = {verdict.place: verdict for verdict in explain.verdicts}
    chosen = verdicts[place.name]
    for verdict in explain.verdicts:
        if verdict.fits:
            assert (-chosen.bytes_local, chosen.link_cost) <= (-verdict.bytes_local, verdict.link_cost)


@given(wanted=wishes, places=some_places())
def test_a_place_that_is_ruled_out_changes_nothing(wanted: Wanted, places: list[Place]) -> None:
    try:
        place, explain = choose(wanted, places)
    except Refused:
        return
    fitting = {verdict.place for verdict in explain.verdicts if verdict.fits}
    again, _ = choose(wanted, [one for one in places if one.name in fitting])
    assert again == place


def place(name: str, *pools: str, **changes: object) -> Place:
    fields = {"name": name, "backend": "local", "pools": pools, "healthy_pools": pools, "capacity": 2}
    return Place.model_validate({**fields, **changes})


def test_the_dataset_chooses_the_place_beside_it() -> None:
    places = [place("east", "hall-a"), place("west", "hall-b")]
    chosen, explain = choose(Wanted({"hall-b": 10}, "local"), places)
    assert chosen.name == "west"
    assert explain.because == "the only place that fits"
    assert explain.verdicts[0].reasons == ("storage pool hall-b is not mounted there",)


def test_a_full_place_is_full_and_an_unmounted_pool_is_no_place() -> None:
    with pytest.raises(Refused) as full:
        choose(Wanted({"hall-a": 1}, "local"), [place("east", "hall-a", running=2), place("west", "hall-b")])
    assert full.value.refusal.code == "full"
    with pytest.raises(Refused, match="east: storage pool hall-b is not mounted there") as nowhere:
        choose(Wanted({"hall-b": 1}, "local"), [place("east", "hall-a")])
    assert nowhere.value.refusal.code == "no_place"


def test_a_hung_pool_is_avoided() -> None:
    hung = place("east", "hall-a", healthy_pools=())
    chosen, explain = choose(Wanted({"hall-a": 1}, "local"), [hung, place("west", "hall-a")])
    assert chosen.name == "west"
    assert explain.verdicts[0].reasons == ("storage pool hall-a there: does not answer",)


def test_local_bytes_win_over_an_empty_place() -> None:
    far = place("far", "hall-a", link_costs={"hall-a": 1.0})
    near = place("near", "hall-a", running=1)
    chosen, explain = choose(Wanted({"hall-a": 5}, "local"), [far, near])
    assert chosen.name == "near"
    assert explain.because == "most of the data is local there"


def test_ties_spread_by_the_wish() -> None:
    twins = [place("east", "hall-a"), place("west", "hall-a")]
    chosen = {choose(Wanted({}, "local", key=str(i)), twins)[0].name for i in range(20)}
    assert chosen == {"east", "west"}
