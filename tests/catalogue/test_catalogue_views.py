"""What a page shows one reader, the words of a search, the picture, and the records behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import literal, select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.database import Database
from beamhub_catalogue.people import store_principal
from beamhub_catalogue.preview import write_preview_png
from beamhub_catalogue.texts import contains, like
from beamhub_catalogue.views import DatasetView
from beamhub_core.rights import Refusal
from beamhub_reduction.nexus import CurvePreview
from catalogue.catalogue_parts import COLIN, INES, NOW, OSCAR, Facility, write_master, write_product

RAW = "test:MA-2:scan1"


def test_a_page_under_embargo_shows_an_outsider_only_what_policy_opens_early(
    facility: Facility, service: CatalogueService
) -> None:
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", experiment_identifier="MA-2")
    service.harvester.scan()
    view = service.dataset_page(OSCAR, RAW)
    assert isinstance(view, DatasetView)
    assert (view.full, view.may_read, view.may_write, view.preview_available) == (False,) * 4
    assert (view.size_bytes, view.sample, view.files, view.parameters) == (None, None, (), ())
    assert view.provenance is None
    assert view.refusal is not None
    assert "embargo" in view.refusal
    mine = service.dataset_page(INES, RAW)
    assert isinstance(mine, DatasetView)
    assert (mine.full, mine.may_read, mine.may_write, mine.preview_available) == (True,) * 4
    assert mine.sample == "Si"
    assert [file.path for file in mine.files] == ["MA-2/raw/scan1/scan1.h5"]


def test_a_hidden_dataset_and_an_unknown_one_are_refused_in_the_same_words(
    facility: Facility, service: CatalogueService
) -> None:
    write_master(facility.pool / "TO-3/raw/run1/run1.h5", experiment_identifier="TO-3")
    service.harvester.scan()
    hidden, unknown = (service.dataset_page(OSCAR, f"test:TO-3:{name}") for name in ("run1", "run2"))
    assert isinstance(hidden, Refusal)
    assert isinstance(unknown, Refusal)
    apart = {"subject", "reference"}
    assert hidden.model_dump(exclude=apart) == unknown.model_dump(exclude=apart)
    assert hidden.reference != unknown.reference
    assert isinstance(service.dataset_page(COLIN, "test:TO-3:run1"), DatasetView)


@pytest.mark.parametrize(
    "told",
    [
        {"made_at": "0001-01-01T00:00:00+14:00"},
        {"parameters": {"bins": float("nan")}},
        {"who": "a\0b"},
        {"parameters": {"bins": [1] * 3}, "inputs": ["a\0b"]},
    ],
)
def test_a_provenance_that_no_table_can_hold_is_reported_and_the_scan_goes_on(
    facility: Facility, service: CatalogueService, told: dict[str, object]
) -> None:
    with service.database.writing() as session:
        store_principal(session, INES, service.config.login, NOW)
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", experiment_identifier="MA-2")
    write_product(facility.pool / "MA-2/processed/a.h5", RAW, **told)
    write_product(facility.pool / "MA-2/processed/b.h5", RAW)
    report = service.harvester.scan()
    assert [problem.file for problem in report.problems] == ["MA-2/processed/a.h5"]
    assert len(report.harvested) == 2


def test_an_instruments_name_is_cut_to_what_the_table_holds(
    facility: Facility, service: CatalogueService
) -> None:
    path = write_master(facility.pool / "OP-1/raw/scan1/scan1.h5", experiment_identifier="OP-1")
    with h5py.File(path, "r+") as file:
        del file["entry/instrument/name"]
        file["entry/instrument/name"] = "b" * 900
    service.harvester.scan()
    assert [hit.instrument for hit in service.search(None).hits] == ["b" * 200]


@pytest.mark.parametrize("label", ["$\\frac{", "$$", "q (nm$^{-1}$)", "x" * 5_000, "\u0394", "\\", "%_{}"])
def test_a_label_is_shown_as_text_whatever_it_holds(tmp_path: Path, label: str) -> None:
    curve = CurvePreview(np.arange(5.0), np.arange(5.0), label, label, label)
    write_preview_png(curve, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


WORDS = st.text(st.sampled_from("aAbÄä%_\\. *"), max_size=6)


@pytest.fixture(scope="module")
def sqlite() -> Iterator[Database]:
    """A database in memory with the functions that the catalogue gives SQLite."""
    made = Database("sqlite://")
    yield made
    made.close()


@given(text=WORDS, word=WORDS)
def test_a_word_is_found_where_it_stands_letter_case_aside(sqlite: Database, text: str, word: str) -> None:
    with sqlite.reading() as session:
        found = session.scalar(select(contains(literal(text), word)))
    assert bool(found) == (word.lower() in text.lower())


@given(text=WORDS, pattern=WORDS, fold_case=st.booleans())
def test_like_knows_two_wildcards_and_no_other(
    sqlite: Database, text: str, pattern: str, fold_case: bool
) -> None:
    with sqlite.reading() as session:
        found = session.scalar(select(like(literal(text), pattern, fold_case=fold_case)))
    if not set("%_") & set(pattern):
        expression = f".*{re.escape(pattern)}.*"
    else:
        parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
        expression = "".join(parts)
    folded = (expression.lower(), text.lower()) if fold_case else (expression, text)
    assert bool(found) == bool(re.fullmatch(*folded, flags=re.DOTALL))
