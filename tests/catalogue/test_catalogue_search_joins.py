"""What relations, units, techniques and patterns mean, on a catalogue small enough to know by heart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import (
    AffiliationRow,
    AuthorRow,
    AuthorshipRow,
    DatasetRow,
    DocumentParameterRow,
    PublicationDatasetRow,
    PublicationRow,
    SampleRow,
)
from beamhub_catalogue.panet import PANET, terms_below
from beamhub_catalogue.records import parameter_row
from beamhub_catalogue.serve_verbs import search_app
from beamhub_catalogue.units import find_unit
from catalogue.catalogue_parts import NOW, Facility  # the folder of these tests, not the room
from catalogue.catalogue_reader_parts import Api, Made, proposal_row, put, running_api  # likewise

SAXS, XRD = f"{PANET}PaNET01188", f"{PANET}PaNET01101"
ENERGIES_EV = {"a": 8_000.0, "b": 12_000.0, "c": 930.0}


def fill(service: CatalogueService) -> None:
    """Three open datasets with energies in three units, an article about two of them, and one embargoed."""

    proposals = [
        proposal_row("OP-1", "open", date(2021, 3, 4), title="Standards"),
        proposal_row("MA-2", "standard", date(2025, 10, 9), title="Electrodes"),
    ]
    put(service, proposals, [], [Made(f"t:{n}", "MA-2" if n == "d" else "OP-1") for n in "abcd"])
    with service.database.writing() as session:
        rows = {row.pid[-1]: row for row in session.query(DatasetRow)}
        rows["a"].parameters = [parameter_row("photon_energy", 8.0, "keV"), parameter_row("T", 20.0, "degC")]
        rows["b"].parameters = [parameter_row("photon_energy", 12_000.0, "eV"), parameter_row("T", 1.0, "K")]
        rows["c"].parameters = [parameter_row("photon_energy", 9.3e-4, "MeV")]
        rows["d"].parameters = [parameter_row("photon_energy", 8.0, "keV")]
        rows["a"].set_techniques((SAXS, "small angle x-ray scattering"), ("", "grazing"))
        rows["b"].set_techniques((XRD, "x-ray powder diffraction"))
        rows["c"].set_techniques((SAXS, "small angle x-ray scattering"), (XRD, "x-ray powder diffraction"))
        rows["a"].set_samples(SampleRow(name="Si"), SampleRow(name="Cu", description="a foil"))
        rows["a"].keywords = ["foil", 'a "b" %']
        author = AuthorRow(full_name="Ada Ray", last_name="Ray", orcid="0000-0002-1825-0097")
        place = AffiliationRow(name="An Institute", ror="https://ror.org/00k4n6c32", country="France")
        article = PublicationRow(
            pid="10.1/x", title="On foils", source="s", changed_at=NOW, keywords=["foil"]
        )
        article.datasets = [PublicationDatasetRow(dataset_id=rows[n].id) for n in "ad"]
        session.add_all([article, DocumentParameterRow(document="10.1/x", name="n", number=3.0)])
        session.add(
            AuthorshipRow(document="10.1/x", position=0, role="author", author=author, affiliation=place)
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogueService]:
    """A facility of its own."""
    facility = Facility(tmp_path_factory.mktemp("facility"))
    facility.prepare()
    made = facility.service()
    fill(made)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def api(service: CatalogueService) -> Iterator[Api]:
    """Its search API."""
    with running_api(service) as made:
        yield made


def related(relation: str, where: Any = None, **scope: Any) -> dict[str, Any]:
    """An include."""
    return {"relation": relation, "scope": scope | ({"where": where} if where is not None else {})}


def found(api: Api, *includes: dict[str, Any], kind: str = "Datasets", **words: Any) -> str:
    """The last letters of the pids that are found; their count agrees."""
    wanted = json.dumps({"include": includes} | words)
    pids = api.pids(kind, filter=wanted)
    if "limit" not in words:
        assert api.get(f"{kind}/count", filter=wanted).json() == {"count": len(pids)}
    return "".join(pid[-1] for pid in pids)


def energy(unit: str, **condition: Any) -> dict[str, Any]:
    """A condition on the energy."""
    return related("parameters", {"and": [{"name": "photon_energy"}, {"value": condition}, {"unit": unit}]})


@pytest.mark.parametrize(
    ("unit", "condition", "letters"),
    [
        ("eV", {"between": [880, 990]}, "c"),
        ("keV", {"eq": 12}, "b"),
        ("keV", {"neq": 12}, "ac"),
        ("J", {"gt": 1.2e-15}, "ab"),
        ("eV", {"gte": 8000}, "ab"),
        ("eV", {"lt": 8000.0001}, "c"),
        ("meV", {"inq": [930_000, 8_000_000]}, "ac"),
        ("m", {"gt": 0}, ""),
    ],
)
def test_values_are_compared_in_the_unit_that_is_asked(
    api: Api, unit: str, condition: dict[str, Any], letters: str
) -> None:
    assert found(api, energy(unit, **condition)) == letters


def test_a_value_comes_back_in_the_asked_unit_and_as_it_was(api: Api) -> None:
    (item,) = api.items("Datasets", filter=json.dumps({"include": [energy("eV", eq=8000)]}))
    (parameter,) = item["parameters"]
    assert (parameter["value"], parameter["unit"]) == (8000, "eV")
    assert (parameter["originalValue"], parameter["originalUnit"]) == (8, "keV")
    warm = related("parameters", {"name": "T", "value": {"gt": 280}, "unit": "K"})
    assert found(api, warm) == "a"


def test_every_include_of_parameters_is_met_and_an_unknown_unit_is_refused(api: Api) -> None:
    cold = related("parameters", {"and": [{"name": "T"}, {"value": {"lt": 80}}, {"unit": "K"}]})
    assert found(api, energy("keV", gt=1), cold) == "b"
    answer = api.get("Datasets", filter=json.dumps({"include": [energy("9**9**9", gt=1)]}))
    assert (answer.status_code, "no unit" in answer.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    ("where", "letters"),
    [
        ({"pid": "PaNET01124"}, "ac"),  # small angle scattering: SAXS is below it
        ({"name": "SAXS"}, "ac"),
        ({"name": "grazing"}, "a"),
        ({"name": {"like": "powder"}}, "bcd"),
        ({"pid": {"nin": [SAXS]}}, "abcd"),
        ({"and": [{"pid": SAXS}, {"pid": XRD}]}, "c"),
        ({"or": [{"pid": SAXS}, {"pid": XRD}]}, "abcd"),
        ({"name": "no such technique"}, ""),
        ({"name": {"regexp": "/^GRAZ/i"}}, "a"),
    ],
)
def test_a_technique_means_all_that_stand_below_it(api: Api, where: dict[str, Any], letters: str) -> None:
    assert found(api, related("techniques", where)) == letters


def test_the_limit_counts_after_the_join(api: Api) -> None:
    assert found(api, related("techniques", {"pid": XRD}), limit=1) == "b"
    assert found(api, related("techniques", {"pid": XRD}), limit=1, skip=1) == "c"


def test_documents_are_found_through_datasets_people_and_places(api: Api) -> None:
    wheres = [
        related("members", None, include=[related("person", {"orcid": "0000-0002-1825-0097"})]),
        related("members", None, include=[related("affiliation", {"country": "France"})]),
        related("datasets", None, include=[related("samples", {"name": "Cu"})]),
        related("parameters", {"value": {"gte": 3}}),
    ]
    assert found(api, *wheres[:2], wheres[3], kind="Documents") == "x"
    assert found(api, wheres[2], kind="Documents") == "x1"
    assert found(api, kind="Documents", where={"keywords": "foil"}) == "x"
    (item,) = api.items("Documents", filter=json.dumps({"where": {"text": "foils"}, "include": ["members"]}))
    assert item["members"][0]["person"]["orcid"] == "0000-0002-1825-0097"
    assert item["members"][0]["affiliation"]["pid"] == "https://ror.org/00k4n6c32"
    assert found(api, related("documents", {"doi": {"exists": False}, "type": "publication"})) == "ad"


def test_what_is_embargoed_neither_matches_nor_shows_further_in(api: Api) -> None:
    inner = related("datasets", None, include=[energy("keV", gt=1)])
    (item,) = api.items("Documents", filter=json.dumps({"include": [inner], "where": {"pid": "10.1/x"}}))
    assert [one["pid"] for one in item["datasets"]] == ["t:a"]
    assert "MA-2" not in api.pids("Documents", filter=json.dumps({"include": [inner]}))


@pytest.mark.parametrize(
    ("words", "letters"),
    [
        ({"filter[where][pid][like]": "t:a"}, "a"),
        ({"filter[where][pid][inq][0]": "t:a", "filter[where][pid][inq][1]": "t:b"}, "ab"),
        ({"filter[where][isPublic]": "false"}, "d"),
        ({"filter[where][size][gt]": "1000", "filter[limit]": "1"}, "b"),
        ({"filter[order]": "pid DESC", "filter[skip]": "3"}, "a"),
        ({"filter[include][0][relation]": "samples", "filter[include][0][scope][where][text]": "foil"}, "a"),
        ({"filter[where][title][nlike]": "0", "filter[where][keywords][nin][]": "foil"}, "bcd"),
        ({"filter[where][title][regexp]": "t [1-2]$"}, "bc"),
    ],
)
def test_the_bracket_form_says_the_same(api: Api, words: dict[str, str], letters: str) -> None:
    assert "".join(pid[-1] for pid in api.pids("Datasets", **words)) == letters


def test_units_are_looked_up_and_never_evaluated() -> None:
    for text in ("9**9**9", "__import__('os')", "m" * 10_000, "m^99", "//", "lambda: 1", "m" + "*m" * 28):
        assert find_unit(text) is None
    assert len(terms_below(f"{PANET}PaNET00001")) > 300


def test_whatever_the_openapi_document_allows_is_answered_without_a_fault(service: CatalogueService) -> None:
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", search_app(service))
    paths = {operation.ok().path for operation in schema.get_all_operations()}
    assert {"/api/Datasets", "/api/Datasets/{pid}", "/api/Documents/count", "/api/Datasets/facets"} <= paths

    @settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        for operation in schema.get_all_operations():
            answer = data.draw(operation.ok().as_strategy()).call()
            assert answer.status_code in (200, 400, 404), answer.text

    ask()
