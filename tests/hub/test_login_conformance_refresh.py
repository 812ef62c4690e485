"""A refresh is a login without a browser: every rule holds again, and one that fails ends the rights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from beamhub_core.identity import account_name
from hub import hostile_wire  # the folder of these tests, not the room
from hub.hostile_provider import hand_made
from hub.hostile_tokens import (
    HEADER,
    Change,
    another_key,
    broken_signature,
    own_key_in_header,
    shifted,
    signed_by,
    symmetric,
    with_claims,
    with_header,
    with_raw_payload,
)
from hub.hub_parts import RunningHub, browser, log_in

pytestmark = pytest.mark.hub

US = "beamhub test+client"

ENDED: dict[str, tuple[str, Change]] = {
    "invalid-issuer": ("token_issuer", with_claims(iss="https://evil.example")),
    "invalid-sub": ("token_subject", with_claims(sub="oscar")),
    "invalid-aud": ("token_audience", with_claims(aud="somebody-else")),
    "invalid-azp": ("token_audience", with_claims(aud=[US, "x"], azp="x")),
    "missing-sub": ("token_subject", with_claims(sub=None)),
    "expired": ("token_expired", shifted(iat=-1000, exp=-100)),
    "iat far ahead": ("token_not_yet_valid", shifted(iat=9999)),
    "idtoken-sig-none": (
        "token_algorithm",
        signed_by(lambda _, claims: hand_made({**HEADER, "alg": "none"}, claims, None)),
    ),
    "invalid-sig-rs256": ("token_signature", signed_by(broken_signature)),
    "signed by another key": ("token_signature", signed_by(another_key)),
    "jwk in the header": ("token_signature", signed_by(own_key_in_header("jwk"))),
    "hs256 with the public key": ("token_algorithm", signed_by(symmetric("public key"))),
    "unknown crit": ("token_header", with_header(crit=["x"], x=1)),
    "invalid-athash": ("token_hash", with_claims(at_hash="AAAAAAAAAAAAAAAAAAAAAA")),
    "userinfo of another subject": ("userinfo_subject", lambda script: script.userinfo.update(sub="oscar")),
}
GRACE: dict[str, Change] = {
    "claim given twice": signed_by(with_raw_payload(lambda text: text[:-1] + ', "sub": "ines"}')),
    "oversized token": with_claims(padding="x" * 70_000),
    "token answer without access token": lambda script: script.token_answer.update(access_token=None),
    "token endpoint fails": lambda script: script.status.update({"/token": 500}),
    "token endpoint redirects": lambda script: script.location.update({"/token": "http://127.0.0.1:9/x"}),
    "token answer is a gzip bomb": lambda script: script.wire.update({"/token": hostile_wire.bomb}),
    "token answer is cut": lambda script: script.wire.update({"/token": hostile_wire.cut}),
    "userinfo fails": lambda script: script.status.update({"/userinfo": 503}),
}


@pytest.fixture(scope="module")
def people(module_hub: RunningHub) -> Iterator[dict[str, httpx.Client]]:
    """A logged-in browser for each test, of a person of its own; they age together."""
    with ExitStack() as stack:
        found = {}
        for n, case in enumerate((*ENDED, *GRACE, "honest", "parallel")):
            module_hub.provider.script.subject = f"ines-{n}"
            found[case] = stack.enter_context(browser())
            assert log_in(module_hub, found[case]).status_code == 200
        deadline = time.monotonic() + 2.1  # younger answers are not asked for again
        while time.monotonic() < deadline:
            time.sleep(0.05)
        yield found


def person(hub: RunningHub, people: dict[str, httpx.Client], case: str) -> tuple[httpx.Client, str]:
    """The browser and the account of a test; its access token has ended."""
    subject = f"ines-{list(people).index(case)}"
    hub.provider.script.subject = subject
    hub.provider.access.clear()
    return people[case], account_name(hub.provider.issuer, subject)


def visit(hub: RunningHub, client: httpx.Client) -> str:
    """Where a visit of the home page ends."""
    answer = client.get(f"{hub.public_url}/hub/home")
    assert answer.status_code == 200
    return answer.url.path


def await_the_next_question() -> None:
    """Return when a provider that failed a moment ago is asked again."""
    deadline = time.monotonic() + 1.2
    while time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("case", ENDED)
def test_a_hostile_refresh_ends_the_login_and_the_rights(
    people: dict[str, httpx.Client], hub: RunningHub, case: str
) -> None:
    code, change = ENDED[case]
    client, account = person(hub, people, case)
    change(hub.provider.script)
    since = len(hub.log)
    assert visit(hub, client) == "/hub/login"
    assert hub.web.removed == [account]
    log = hub.log[since:]
    assert f"reason={code} account={account}" in log
    assert "Traceback" not in log
    for secret in hub.provider.secrets_sent:
        assert secret not in log


@pytest.mark.parametrize("case", GRACE)
def test_a_provider_that_fails_in_a_refresh_leaves_the_time_of_grace(
    people: dict[str, httpx.Client], hub: RunningHub, case: str
) -> None:
    client, _ = person(hub, people, case)
    GRACE[case](hub.provider.script)
    since = len(hub.log)
    assert visit(hub, client) == "/hub/home"
    assert hub.web.removed == []
    assert "Traceback" not in hub.log[since:]


def test_an_honest_refresh_with_an_id_token_without_nonce_goes_on(
    people: dict[str, httpx.Client], hub: RunningHub
) -> None:
    client, _ = person(hub, people, "honest")
    await_the_next_question()
    assert visit(hub, client) == "/hub/home"
    assert hub.provider.grants == ["refresh_token"]


def test_parallel_visits_use_a_rotating_refresh_token_once(
    people: dict[str, httpx.Client], hub: RunningHub
) -> None:
    """The provider takes each refresh token once; without a lock all visits but one would end the login."""
    client, _ = person(hub, people, "parallel")
    await_the_next_question()
    cookies = {cookie.name: cookie.value or "" for cookie in client.cookies.jar}

    def where(_: int) -> str:
        with browser() as tab:
            tab.cookies.update(cookies)
            return visit(hub, tab)

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(where, range(6))) == ["/hub/home"] * 6
    assert hub.provider.grants == ["refresh_token"]
