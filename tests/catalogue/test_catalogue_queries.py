"""Result lists: pages, order and facets hold what the reader may know of, and nothing else shows in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.views import DatasetView, SearchFilters, SearchHit
from beamhub_core.identity import Principal
from beamhub_core.rights import Refusal
from beamhub_core.techniques import POWDER_DIFFRACTION, TOF_POWDER_DIFFRACTION, technique_label
from catalogue.catalogue_parts import (  # the folder of these tests, not the room
    COLIN,
    INES,
    NOW,
    OSCAR,
    SAM,
    Facility,
)
from catalogue.catalogue_reader_parts import (  # likewise
    HIDDEN,
    OUTSIDERS_READ,
    OUTSIDERS_SEE,
    Made,
    furnish,
    member_row,
    proposal_row,
    put,
)

READERS = (None, OSCAR, INES, COLIN, SAM)
TECHNIQUES = (POWDER_DIFFRACTION, TOF_POWDER_DIFFRACTION, "")
PROPOSALS = ("OP-1", "MA-2", "TO-3")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogueService]:
    """A catalogue whose rows each test puts in anew."""
    facility = Facility(tmp_path_factory.mktemp("facility"))
    facility.prepare()
    made = facility.service()
    yield made
    made.stop()


@st.composite
def holdings(draw: st.DrawFn) -> tuple[Made, ...]:
    """Datasets of three proposals, with repeated dates, techniques and instruments, and products."""
    made: list[Made] = []
    for number in range(draw(st.integers(0, 14))):
        technique = draw(st.sampled_from(TECHNIQUES))
        facts: dict[str, Any] = {
            "title": draw(st.sampled_from(["Silicon", "silicon 10%", "Steel_weld", "İron"])),
            "technique": technique,
            "technique_label": technique_label(technique) if technique else "unknown",
            "instrument": draw(st.sampled_from(["bl09", "tofd", ""])),
            "start": draw(st.none() | st.integers(0, 2).map(lambda days: NOW - timedelta(days=days))),
        }
        inputs = (draw(st.integers(0, number - 1)),) if number and draw(st.booleans()) else ()
        made.append(Made(f"t:{number}", draw(st.sampled_from(PROPOSALS)), inputs, facts=facts))
    return tuple(made)


def store(service: CatalogueService, datasets: tuple[Made, ...]) -> None:
    """Put the datasets in, below an open, an embargoed and a hidden proposal."""
    ends = (date(2021, 3, 4), date(2025, 10, 9), date(2025, 11, 7))
    classes = ("open", "standard", "confidential")
    rows = [proposal_row(*words) for words in zip(PROPOSALS, classes, ends, strict=True)]
    members = [member_row("MA-2", "pi", issuer=INES.issuer, subject=INES.subject)]
    put(service, rows, members, datasets)


def walk(
    service: CatalogueService, who: Principal | None, text: str, filters: SearchFilters, page_size: int
) -> list[SearchHit]:
    """All hits, page by page; every page says the same of the whole."""
    first = service.search(who, text, filters, 1, page_size)
    pages = [service.search(who, text, filters, n, page_size) for n in range(1, first.n_pages + 2)]
    assert {(p.total, p.n_pages, p.techniques, p.instruments) for p in pages} == {
        (first.total, first.n_pages, first.techniques, first.instruments)
    }
    assert all(len(page.hits) == page_size for page in pages[:-2])
    assert pages[-1].hits == ()
    return [hit for page in pages for hit in page.hits]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    datasets=holdings(),
    who=st.sampled_from(READERS),
    text=st.sampled_from(["", "", "silicon", "10%", "_", "MA-2", "powder", "title of to"]),
    filters=st.builds(
        SearchFilters,
        technique=st.none() | st.sampled_from(TECHNIQUES[:2]),
        instrument=st.none() | st.just("bl09"),
        kind=st.sampled_from([None, None, "raw", "product"]),
        readable_only=st.booleans(),
    ),
    page_size=st.integers(1, 4),
)
def test_pages_totals_and_facets_tell_the_same_of_a_result(
    shared: CatalogueService,
    datasets: tuple[Made, ...],
    who: Principal | None,
    text: str,
    filters: SearchFilters,
    page_size: int,
) -> None:
    store(shared, datasets)
    hits = walk(shared, who, text, filters, page_size)
    page = shared.search(who, text, filters, 1, 100)
    assert list(page.hits) == hits
    assert page.total == len(hits) == len({hit.pid for hit in hits})
    techniques = Counter((hit.technique, hit.technique_label) for hit in hits)
    assert {(f.value, f.label): f.count for f in page.techniques} == techniques
    assert {f.value: f.count for f in page.instruments} == Counter(hit.instrument for hit in hits)
    keys = [(hit.start is None, -(hit.start.timestamp() if hit.start else 0), hit.pid) for hit in hits]
    assert keys == sorted(keys)
    assert all(isinstance(shared.dataset_page(who, hit.pid), DatasetView) for hit in hits)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets=holdings(), text=st.sampled_from(["", "silicon", "steel", "TO-3", "title"]))
def test_an_outsiders_page_is_the_same_without_the_hidden_datasets(
    shared: CatalogueService, datasets: tuple[Made, ...], text: str
) -> None:
    store(shared, datasets)
    with_hidden = shared.search(OSCAR, text, page_size=100)
    below = {i for i, made in enumerate(datasets) if made.proposal == "TO-3"}
    for number, made in enumerate(datasets):
        if below.intersection(made.inputs):
            below.add(number)
    kept = [i for i in range(len(datasets)) if i not in below]
    left = [
        Made(made.pid, made.proposal, tuple(kept.index(i) for i in made.inputs), facts=made.facts)
        for made in (datasets[i] for i in kept)
    ]
    store(shared, tuple(left))
    assert shared.search(OSCAR, text, page_size=100) == with_hidden


@pytest.mark.parametrize("who", [None, OSCAR], ids=["anonymous", "outsider"])
@pytest.mark.parametrize(
    "text", ["", "hush", "Hushweld", "TO-3", "hushtof", "veiled-sample", "veiled-mode", "%"]
)
def test_no_text_brings_hidden_datasets_to_light(
    shared: CatalogueService, who: Principal | None, text: str
) -> None:
    furnish(shared)
    page = shared.search(who, text, page_size=100)
    assert not {hit.pid for hit in page.hits} & HIDDEN
    assert "hush" not in repr(page).lower()
    assert {hit.pid for hit in page.hits if hit.may_read} <= OUTSIDERS_READ
    if text.startswith(("hush", "Hush", "TO-3", "veiled-s", "veiled-m")):
        assert (page.total, page.techniques, page.instruments) == (0, (), ())


@pytest.mark.parametrize("who", [None, OSCAR], ids=["anonymous", "outsider"])
def test_a_page_names_only_related_datasets_that_the_reader_may_know(
    shared: CatalogueService, who: Principal | None
) -> None:
    furnish(shared)
    for pid in sorted(OUTSIDERS_SEE):
        page = shared.dataset_page(who, pid)
        assert isinstance(page, DatasetView)
        assert "hush" not in repr(page).lower()
        assert page.full == (pid in OUTSIDERS_READ)
        if not page.full:
            assert (page.files, page.parameters, page.sample, page.size_bytes) == ((), (), None, None)
            assert "veiled" not in repr(page).replace("veiled-product", "")
    open_one = shared.dataset_page(who, "t:OP-1:a")
    assert isinstance(open_one, DatasetView)
    assert [related.pid for related in open_one.used_by] == ["t:OP-1:veiled-product"]


@pytest.mark.parametrize("pid", ["t:TO-3:a", "t:OP-1:hush-product", "t:OP-1:hush-home", "never", "a\0b"])
def test_hidden_unknown_and_impossible_pids_are_refused_alike(shared: CatalogueService, pid: str) -> None:
    furnish(shared)
    page = shared.dataset_page(OSCAR, pid)
    unknown = shared.dataset_page(OSCAR, "unknown")
    assert isinstance(page, Refusal)
    assert isinstance(unknown, Refusal)
    assert (page.code, page.reason, page.until) == (unknown.code, unknown.reason, unknown.until)


@pytest.mark.parametrize("text", ["a\0b", "\0", "x" * 100_000, "%_\\" * 50, "' OR 1=1 --", "a " * 5_000])
def test_a_wild_text_finds_nothing_hidden_and_breaks_nothing(shared: CatalogueService, text: str) -> None:
    furnish(shared)
    page = shared.search(OSCAR, text, SearchFilters(), page=10**12, page_size=10**9)
    assert page.hits == ()
    assert page.total <= len(OUTSIDERS_SEE)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "' OR 1=1 --"])
def test_a_wild_filter_value_matches_nothing(shared: CatalogueService, value: str) -> None:
    furnish(shared)
    for filters in (
        SearchFilters(technique=value),
        SearchFilters(instrument=value),
        SearchFilters(proposal=value),
    ):
        page = shared.search(OSCAR, "", filters)
        assert (page.total, page.hits, page.techniques) == (0, (), ())


def test_page_and_page_size_are_brought_into_bounds(shared: CatalogueService) -> None:
    furnish(shared)
    page = shared.search(None, page=-3, page_size=0)
    assert (page.page, page.page_size, len(page.hits), page.n_pages) == (1, 1, 1, len(OUTSIDERS_SEE))
