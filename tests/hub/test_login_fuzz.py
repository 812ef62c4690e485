"""The short form of the fuzz (`make soak`): claim sets and tokens of a new seed at each run."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.claims_fuzz import CONFIGS, fault_of, fuzz_claims, fuzz_tokens, judge_claims  # tests' folder
from hub.token_fuzz import CHANGES, GOOD, TokenCase, honest, is_signed_by_provider  # likewise


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**9))
def test_no_claim_set_is_judged_otherwise_than_the_oracle_does(seed: int) -> None:
    seen = fuzz_claims(700, seed)
    assert seen.wrong == []
    assert {"admitted", "subject_scope", "subject_blocked", "userinfo_subject"} <= set(seen.outcomes)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**9))
def test_no_token_with_another_content_is_admitted(seed: int) -> None:
    seen = fuzz_tokens(300, seed)
    assert seen.wrong == []
    assert {"admitted", "token_signature"} <= set(seen.outcomes)


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_the_oracle_notices_somebody_who_should_not_be_in(number: int) -> None:
    said = {"sub": "ines@evil.org"}
    admitted = judge_claims(0, said, said)  # a provider that asks for nothing
    assert not isinstance(admitted, str)
    wrong = fault_of(admitted, number, said, said)
    asks = any(
        CONFIGS[number].get(name) for name in ("id_scopes", "required_assurance", "home_organisations")
    )
    assert wrong == ("admitted" if asks else "admitted with another role" if number == 7 else None)


def test_the_second_opinion_on_tokens_tells_a_forged_one() -> None:
    rng = random.Random(1)  # noqa: S311  # chance, not secrecy
    token = honest(GOOD, rng)
    assert is_signed_by_provider(token)
    forged = TokenCase(token[:-8] + "AAAAAAA" + token[-1], is_untouched=False)
    assert forged.judge() == "token_signature"
    assert forged.fault_of(dict(GOOD)) == "admitted"
    assert forged.fault_of(GOOD | {"sub": "x"}) == "admitted"


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_of_tampering_is_denied_at_least_once(change: object) -> None:
    assert callable(change)
    rng = random.Random(2)  # noqa: S311  # chance, not secrecy
    outcomes = {str(TokenCase(change(rng), is_untouched=False).judge()) for _ in range(40)}
    assert any(outcome.startswith("token_") for outcome in outcomes)
