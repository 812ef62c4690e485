"""The label of a policy document follows its meaning, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.policy_document import EmbargoClass, PolicyDocument

BASE: dict[str, Any] = {
    "version": "1",
    "timezone": "UTC",
    "instruments": ["a", "b"],
    "proposal_classes": ["x", "y"],
    "access_routes": ["", "paid"],
    "classes": {
        "c": {"embargo_months": 1, "metadata": "team", "extension_months": [2, 3]}
        | {"required_assurance": ["h", "i"], "required_acr": ["m", "n"]},
        "d": {"embargo_months": "never", "metadata": "team"},
    },
    "rules": [
        {"name": "r", "proposal_classes": ["x", "y"], "access_routes": [""], "embargo_class": "c"},
        {"name": "s", "access_routes": ["paid"], "embargo_class": "d"},
    ],
}


def shuffled(value: Any, draw: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        pairs = draw(st.permutations([*value.items()]))
        return {name: shuffled(each, draw, name) for name, each in pairs}
    if isinstance(value, list) and key != "extension_months":
        return [shuffled(each, draw) for each in draw(st.permutations(value))]
    return value


@given(st.data())
def test_order_that_means_nothing_changes_nothing(data: st.DataObject) -> None:
    other = PolicyDocument.model_validate(shuffled(BASE, data.draw))
    assert other.label == PolicyDocument.model_validate(BASE).label


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"timezone": "Europe/Paris"},
        {"instruments": ["a", "b", "c"]},
        {"instruments": None},
        {"access_routes": ["paid", ""], "instruments": ["b"]},
        {"classes": BASE["classes"] | {"e": {"embargo_months": 0, "metadata": "public"}}},
        *(
            {"classes": BASE["classes"] | {"c": BASE["classes"]["c"] | each}}
            for each in (
                {"embargo_months": 2},
                {"embargo_months": 0},
                {"metadata": "public"},
                {"extension_months": [3, 2]},
                {"extension_months": [2]},
                {"license": "CC0-1.0"},
                {"required_assurance": ["h"]},
                {"required_acr": []},
                {"guests": "look"},
                {"roles": {"support": "always"}},
                {"roles": {"service": "read"}},
                {"roles": {"instrument_scientist": "during"}},
            )
        ),
        {"rules": [{**BASE["rules"][0], "name": "r2"}, BASE["rules"][1]]},
        {"rules": [{**BASE["rules"][0], "embargo_class": "d"}, BASE["rules"][1]]},
        {"rules": [{**BASE["rules"][0], "first_day": "0001-01-01"}, BASE["rules"][1]]},
    ],
)
def test_another_meaning_is_another_label(change: dict[str, Any]) -> None:
    base, other = (PolicyDocument.model_validate(d) for d in (BASE, BASE | change))
    assert other.digest != base.digest
    assert other.label != base.label


def test_a_default_that_is_written_out_is_the_same_document() -> None:
    told = {"embargo_months": 1, "metadata": "team"}
    spelt = told | EmbargoClass.model_validate(told).model_dump()
    assert with_class(told).label == with_class(spelt).label


def with_class(rules: dict[str, Any]) -> PolicyDocument:
    return PolicyDocument.model_validate(BASE | {"classes": BASE["classes"] | {"c": rules}})
