"""One login on its way through the browser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_hub.login_attempt import LoginAttempt, cookie_name_of, new_attempt, read_attempt


@given(st.text(max_size=50))
def test_an_attempt_comes_back_from_its_cookie_as_it_went(next_url: str) -> None:
    attempt = new_attempt("aai", next_url)
    assert read_attempt(attempt.to_cookie().encode(), attempt.state) == attempt


def test_a_state_that_shares_only_the_cookies_name_is_another_login() -> None:
    attempt = new_attempt("aai", "/")
    other = attempt.state[:16] + "x" * 27
    assert cookie_name_of(other) == attempt.cookie_name
    assert read_attempt(attempt.to_cookie().encode(), other) is None


@given(st.binary(max_size=60) | st.none())
def test_a_cookie_without_sense_is_no_attempt(cookie: bytes | None) -> None:
    assert read_attempt(cookie, "s" * 43) is None


@pytest.mark.parametrize("state", ["", "a" * 42, "a" * 44, "a" * 42 + ";", "../" + "a" * 40, "a" * 42 + "\n"])
def test_a_state_that_we_never_made_names_no_cookie(state: str) -> None:
    assert cookie_name_of(state) is None


def test_the_challenge_is_the_one_of_the_specification() -> None:
    # Source: RFC 7636, appendix B.
    attempt = LoginAttempt(
        provider="aai",
        state="s",
        nonce="n",
        code_verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        next_url="/",
    )
    assert attempt.code_challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
