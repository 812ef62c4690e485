"""Answers from which one could work out what exists, or how much of it, without a word of it in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_filter import parse_filter
from catalogue.catalogue_api_parts import (
    HIDDEN,
    OPEN,
    Stocked,
    open_stocked,
    prepare_with_data,
)
from catalogue.catalogue_parts import OSCAR, Facility, session_plan, write_master, write_product

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_with_data(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def stocked(prepared: Path, tmp_path: Path) -> Iterator[Stocked]:
    with open_stocked(prepared, tmp_path / "stocked") as made:
        yield made


@pytest.mark.parametrize("hidden", [HIDDEN, "test:TO-3:scan2"])
@pytest.mark.parametrize("others", [(OPEN,), ("test:ZZ-9:nothing",), (OPEN, "test:ZZ-9:nothing")])
def test_a_product_that_claims_hidden_data_is_refused_as_if_it_did_not_exist(
    stocked: Stocked, hidden: str, others: tuple[str, ...]
) -> None:
    home = stocked.facility.folder / "homes" / OSCAR.account
    home.mkdir(parents=True)
    stocked.api.running(session_plan(stocked.facility, OSCAR, processed=None))
    path = write_product(home / "p.h5", *others, hidden, account=OSCAR.account, proposal="OP-1")
    answer = stocked.api.product(path)
    named = min({hidden, *others} - {OPEN})
    assert answer.status_code == 422
    assert answer.json()["refusal"]["reason"] == f"The file was made from {named!r}, which is not catalogued."


def test_ids_of_files_and_parameters_do_not_count_what_is_hidden(tmp_path: Path) -> None:
    answers = []
    for name, n_hidden in (("few", 0), ("many", 2)):
        (tmp_path / name).mkdir()
        facility = Facility(tmp_path / name)
        facility.prepare()
        for number in range(n_hidden):
            write_master(facility.pool / f"TO-3/raw/s{number}/s{number}.h5", experiment_identifier="TO-3")
        write_master(facility.pool / "OP-1/raw/scan1/scan1.h5", experiment_identifier="OP-1")
        service = facility.service()
        try:
            service.harvester.scan()
            with service.desk.reading(None) as catalogue:
                wanted = parse_filter('{"include": ["files", "parameters"]}')
                answers.append(Answers(catalogue).dataset("test:OP-1:scan1", wanted))
        finally:
            service.stop()
    assert answers[0] is not None
    assert answers[0]["files"][0]["id"] == answers[1]["files"][0]["id"]
    assert [p["id"] for p in answers[0]["parameters"]] == [p["id"] for p in answers[1]["parameters"]]
