"""What a notebook shows of a cluster, and what can be done to it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub_core.errors import BeamhubError
from beamhub_reduction.cluster import connect
from beamhub_reduction.cluster_card import ClusterCard, CoreMeter, in_words
from beamhub_reduction.errors import BadParameter

CARD = ClusterCard(
    "gateway", "runs", 2, 4, 8 * 1024**3, 6, 754.0, 3016.0, 3600.0, "/user/x/beamhub/clusters/a"
)
TIMES = st.floats(0, 1e7)


@pytest.fixture(autouse=True)
def outside(outside_session: None) -> Iterator[None]:
    yield


class Tags(HTMLParser):
    """The tags of a page, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)


def test_a_card_says_size_cost_age_and_time_left() -> None:
    assert CARD.text() == (
        "Cluster beside this session: size 2 workers, 4 cores; memory 8 GiB; cost so far 0.84 core hours; "
        "age 12 min; time left 1 h, as the session was planned; scales to 6 workers at most"
    )
    closed = replace(CARD, state="closed").text()
    assert closed == "Cluster beside this session (closed): closed after 12 min; cost 0.84 core hours"


@settings(max_examples=25)
@given(pages=st.text(max_size=80))
def test_whatever_stands_in_a_card_makes_no_tag(pages: str) -> None:
    page = replace(CARD, pages=pages).html()
    assert Tags(page).names == Tags(CARD.html()).names
    assert html.escape(pages, quote=True) in page


@given(looks=st.lists(st.tuples(TIMES, st.integers(0, 1000)), min_size=1))
def test_cores_cost_by_the_second_whenever_they_are_counted(looks: list[tuple[float, int]]) -> None:
    looks.sort(key=lambda look: look[0])
    meter, twice = CoreMeter(looks[0][0]), CoreMeter(looks[0][0])
    cores = 0
    for at, n_cores in looks:
        twice.look(cores, at)  # the same number again changes nothing
        for one in (meter, twice):
            one.look(n_cores, at)
        cores = n_cores
    exact = sum((later - at) * n for (at, n), (later, _) in pairwise(looks))
    assert meter.core_s == pytest.approx(exact)
    assert twice.core_s == pytest.approx(exact)


@given(seconds=TIMES)
def test_a_time_is_said_in_words(seconds: float) -> None:
    assert in_words(seconds).split()[-1] in ("s", "min", "h", "days")


def test_a_cluster_in_the_notebook_shows_itself_scales_and_stops() -> None:
    with connect(2) as client:
        bundle = client._repr_mimebundle_()
        assert "2 workers, 2 cores" in bundle["text/plain"]
        assert "<table>" in bundle["text/html"]
        assert repr(client) == "<SessionClient: 2 workers, 2 cores, running>"
        for workers in (0, 10**6):
            with pytest.raises(BadParameter, match="from 1 to 1024") as caught:
                client.scale(workers)
            assert isinstance(caught.value, BeamhubError)
        client.scale(3)
        client.wait_for_workers(3, timeout=20)
        assert client.card().n_workers == 3
        client.stop()
        assert client.card().state == "closed"
        client.close()
    assert client.card().text().startswith("Cluster in this notebook (closed)")
