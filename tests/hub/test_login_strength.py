"""How somebody authenticated is asked for as essential, and checked in what the signature covers."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_hub.denial import LoginDenied
from beamhub_hub.strength import check_strength, claims_parameter

MFA, SFA = "https://refeds.org/profile/mfa", "https://refeds.org/profile/sfa"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())


def outcome(
    signed: dict[str, object], *, acr_values: tuple[str, ...] = (), max_age_s: float | None = None
) -> str | None:
    """The denial's code, None for none."""
    try:
        check_strength(signed, acr_values=acr_values, max_age_s=max_age_s, now=NOW, leeway_s=60)
    except LoginDenied as denied:
        return denied.code
    return None


@pytest.mark.parametrize("acr", [MFA, SFA])
def test_one_of_the_demanded_contexts_is_enough(acr: str) -> None:
    assert outcome({"acr": acr}, acr_values=(SFA, MFA)) is None


@pytest.mark.parametrize(
    "acr", [None, "", SFA, MFA + "/", MFA.upper(), "mfa", f"{MFA} {SFA}", [MFA], {MFA: 1}, 1, True]
)
def test_any_other_context_is_denied(acr: object) -> None:
    assert outcome({"acr": acr}, acr_values=(MFA,)) == "acr_missing"
    assert outcome({}, acr_values=(MFA,)) == "acr_missing"


@given(st.dictionaries(st.sampled_from(["acr", "auth_time", "amr"]), st.none() | st.text() | st.integers()))
def test_without_a_demand_any_authentication_will_do(signed: dict[str, object]) -> None:
    assert outcome(signed) is None


@given(st.integers(T - 10_000, T + 200), st.integers(1, 9_000))
def test_an_authentication_counts_up_to_its_age_and_the_leeway(at: int, max_age_s: int) -> None:
    counts = T - max_age_s - 60 <= at <= T + 60
    assert outcome({"auth_time": at}, max_age_s=max_age_s) == (None if counts else "auth_too_old")


@pytest.mark.parametrize(
    "at", [None, True, str(T), [T], float("nan"), float("inf"), float("-inf"), 10**400, -(10**400), 0]
)
def test_a_time_without_sense_is_too_old(at: object) -> None:
    assert outcome({"auth_time": at}, max_age_s=3600) == "auth_too_old"
    assert outcome({}, max_age_s=3600) == "auth_too_old"


def test_the_request_asks_for_contexts_as_essential() -> None:
    text = claims_parameter((MFA, SFA))
    assert text is not None
    assert json.loads(text) == {"id_token": {"acr": {"essential": True, "values": [MFA, SFA]}}}
    assert claims_parameter(()) is None
