"""The reference page of claims says what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config.provider import PRESETS, ClaimNames, Preset
from beamhub_hub import claim_values
from beamhub_hub.assurance import IMPLIED
from beamhub_hub.claims import ID_TOKEN_ONLY
from hub.claims_parts import provider  # the folder of these tests

PAGE = (Path(__file__).parents[2] / "docs/reference/claims.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"
]
RAF = "https://refeds.org/assurance"


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_each_preset_stands_there_as_it_is(preset: Preset) -> None:
    [row] = [row for row in ROWS if row[0] == f"`{preset}`"]
    known = provider(preset=preset, entitlement_namespaces=[])
    assert row[1] == f"`{' '.join(known.scopes)}`"
    assert row[2] == " ".join(f"`{scope}`" for scope in known.id_scopes)
    other: dict[str, Any] = {k: v for k, v in PRESETS[preset].items() if k not in ("scopes", "id_scopes")}
    for name, value in other.items():
        assert f"`{name}`" in row[3] if value is True else f"`{name}: {value}`" in row[3]


def test_what_assurance_implies_stands_there() -> None:
    said = {row[0]: row[1] for row in ROWS if row[0].startswith("`https://")}
    assert said == {
        f"`{value}`": ", ".join(f"`{one.replace(RAF, '…')}`" for one in implied)
        for value, implied in IMPLIED.items()
    }


def test_each_configured_name_and_signed_claim_stands_there() -> None:
    for key, names in ClaimNames().model_dump().items():
        assert f"`{key}`" in PAGE
        for name in [names] if isinstance(names, str) else names or ():
            assert f"`{name}`" in PAGE
    assert {
        *" ".join(PAGE.split("**signed ID token only**: `")[1].split("`")[0].split()).split()
    } == ID_TOKEN_ONLY


def test_the_bounds_of_numeric_ids_stand_there() -> None:
    bounds = f"{claim_values.MIN_ID} to {claim_values.MAX_ID} without 65534 and 65535"
    assert bounds in PAGE
    assert claim_values.NOBODYS_IDS == (65534, 65535)
