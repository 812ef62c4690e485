"""What is generated from the model says what the model says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from beamhub_core.config import FacilityConfig
from beamhub_core.config.reading import sections
from beamhub_core.schema import CHART_SOURCE, Stale, generated, reference_text, schema_text, write_generated
from facility_file import FacilityFile

ROOT = Path(__file__).resolve().parents[2]


def test_thewrite_generatedd_files_of_this_checkout_are_fresh() -> None:
    assert (ROOT / CHART_SOURCE).exists()
    stale = [str(path) for path, text in generated(ROOT).items() if (ROOT / path).read_text("utf-8") != text]
    assert stale == [], "run: beamhub config write-reference"


def test_the_schema_is_a_schema_and_accepts_a_valid_file(
    facility_config: Callable[..., FacilityFile],
) -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(facility_config().data, schema)


def test_the_schema_refuses_an_unknown_key_and_a_missing_one(
    facility_config: Callable[..., FacilityFile],
) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    data = facility_config().copy()
    data["hub"]["listen_prot"] = 1
    data["web"].pop("internal_url")
    assert {error.validator for error in validator.iter_errors(data)} == {"additionalProperties", "required"}


def test_every_key_stands_on_the_reference_page_with_its_meaning() -> None:
    page = reference_text().splitlines()
    for path, model in sections():
        assert f"## `{path}`" in page or not path
        for name in model.model_fields:
            assert any(line.startswith(f"| `{name}` |") for line in page), (path, name)
    assert [line for line in page if line.endswith("|  |")] == [], "a key without a description"


@pytest.mark.slow
def test_writing_twice_changes_nothing_and_a_stale_file_is_named(tmp_path: Path) -> None:
    assert write_generated(tmp_path, check=False) == 0
    assert write_generated(tmp_path, check=True) == 0
    (tmp_path / "docs/reference/facility.md").write_text("old")
    with pytest.raises(Stale, match=r"docs/reference/facility\.md") as caught:
        write_generated(tmp_path, check=True)
    assert caught.value.files == ("docs/reference/facility.md",)


def test_the_charts_schema_holds_the_whole_configuration() -> None:
    chart = json.loads(generated(ROOT)[Path("helm/beamhub/values.schema.json")])
    facility = chart["properties"]["facility"]
    assert set(facility["properties"]) == set(FacilityConfig.model_fields)
    assert facility["additionalProperties"] is False
