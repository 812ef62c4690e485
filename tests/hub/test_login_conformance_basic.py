"""The OpenID conformance suite's cases for a Basic RP, through the redirect chain of a running hub."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from beamhub_core.identity import account_name
from hub.conformance_parts import assert_is_in, denied, group  # the folder of these tests, not the room
from hub.hostile_provider import HostileProvider, Script, hand_made
from hub.hostile_tokens import (
    HEADER,
    Change,
    another_key,
    broken_signature,
    signed_by,
    with_claims,
    without_key_id,
)
from hub.hub_parts import RunningHub, browser, log_in

pytestmark = pytest.mark.hub


def one_list(script: Script) -> None:
    """Our id in a list of one."""
    script.claims["aud"] = ["beamhub test+client"]


ACCEPTED: dict[str, Change] = {
    "happy path": lambda script: None,
    "kid-absent-single-jwks": signed_by(without_key_id),
    "aud as a list": one_list,
    "idtoken-sig-rs256": lambda script: None,
    "client-secret-basic": lambda script: None,
}

DENIED: dict[str, tuple[str, Change]] = {
    "nonce-invalid": ("token_nonce", with_claims(nonce="replayed-nonce")),
    "missing-nonce": ("token_nonce", with_claims(nonce=None)),
    "missing-iat": ("token_times", with_claims(iat=None)),
    "missing-sub": ("token_subject", with_claims(sub=None)),
    "missing-aud": ("token_audience", with_claims(aud=None)),
    "missing-iss": ("token_issuer", with_claims(iss=None)),
    "invalid-aud": ("token_audience", with_claims(aud="somebody-else")),
    "invalid-iss": ("token_issuer", with_claims(iss="https://evil.example")),
    "idtoken-sig-none": (
        "token_algorithm",
        signed_by(lambda _, claims: hand_made({**HEADER, "alg": "none"}, claims, None)),
    ),
    "invalid-sig-rs256": ("token_signature", signed_by(broken_signature)),
    "invalid-sig-rs256 by another key": ("token_signature", signed_by(another_key)),
    "userinfo-invalid-sub": ("userinfo_subject", lambda s: s.userinfo.update(sub="oscar")),
    "userinfo without sub": ("userinfo_subject", lambda s: s.userinfo.update(sub=None)),
    "invalid-athash": ("token_hash", with_claims(at_hash="AAAAAAAAAAAAAAAAAAAAAA")),
    "athash of another type": ("token_hash", with_claims(at_hash=["AAAAAAAAAAAAAAAAAAAAAA"])),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_an_honest_variant_logs_in(hub: RunningHub, case: str) -> None:
    ACCEPTED[case](hub.provider.script)
    with browser() as client:
        assert_is_in(hub, client, log_in(hub, client))


@pytest.mark.parametrize("case", DENIED)
def test_a_wrong_answer_is_a_403_page_with_a_reference(hub: RunningHub, case: str) -> None:
    code, change = DENIED[case]
    change(hub.provider.script)
    denied(hub, code)


def test_claims_of_the_asked_scopes_come_from_userinfo(hub: RunningHub) -> None:
    hub.provider.script.userinfo |= {"name": "Ines of Userinfo", "entitlements": [group("MA-1")]}
    with browser() as client:
        page = log_in(hub, client)
        assert_is_in(hub, client, page)
    assert "Ines of Userinfo" in page.text
    principal = hub.web.principals[account_name(hub.provider.issuer, "ines")]
    assert [item["subgroups"] for item in principal["entitlements"]] == [["MA-1"]]


def header_of(provider: HostileProvider, path: str, name: str) -> list[str]:
    """The values of a header with which the hub asked for a path."""
    return [value for key, value in provider.headers if key == f"{path} {name}"]


def test_the_access_token_goes_to_userinfo_in_the_header_only(hub: RunningHub) -> None:
    with browser() as client:
        assert_is_in(hub, client, log_in(hub, client))
    (bearer,) = header_of(hub.provider, "/userinfo", "authorization")
    assert bearer.removeprefix("Bearer ") in hub.provider.secrets_sent
    assert hub.provider.count("/userinfo") == 1


def test_a_client_id_and_secret_with_special_characters_are_form_encoded_first(hub: RunningHub) -> None:
    """The double's id holds a space and '+', its secret '/' and '='; it decodes as RFC 6749, 2.3.1 says."""
    with browser() as client:
        assert_is_in(hub, client, log_in(hub, client))
    (basic,) = header_of(hub.provider, "/token", "authorization")
    assert basic.startswith("Basic ")


@pytest.mark.parametrize("offset_s", [-30, 30])
def test_a_clock_that_is_30_s_off_is_no_fault(hub: RunningHub, offset_s: int) -> None:
    _skewed(offset_s)(hub.provider.script)
    with browser() as client:
        assert_is_in(hub, client, log_in(hub, client))


@pytest.mark.parametrize(("offset_s", "code"), [(-300, "token_expired"), (300, "token_not_yet_valid")])
def test_a_clock_that_is_5_min_off_is_one(hub: RunningHub, offset_s: int, code: str) -> None:
    _skewed(offset_s)(hub.provider.script)
    denied(hub, code)


def _skewed(offset_s: int) -> Callable[[Script], None]:
    """A provider whose clock is off; its tokens live for a moment, so nothing hides the difference."""

    def change(script: Script) -> None:
        import time

        now = int(time.time()) + offset_s
        script.claims |= {"iat": now, "nbf": now, "exp": now + 20}

    return change
