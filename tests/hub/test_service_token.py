"""Narrow tokens for sessions: who may ask, for what, and that the login's token stays in the hub."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.identity import account_name
from beamhub_hub.service_token_handler import BURST, PER_S
from beamhub_hub.token_exchange import read_exchange
from hub.hub_parts import RunningHub, browser, log_in, running_hub  # the folder of these tests, not the room
from hub.logout_tokens import ACCESS_TOKEN, ExchangingProvider
from hub.session_parts import await_that, environment_of, mint_token, processes_of, start_session
from hub.test_login_session import portal_token

pytestmark = pytest.mark.hub
ARCHIVE = "archive-of-raw-data"


@dataclass
class Session:
    """A running session, and its provider."""

    hub: RunningHub
    provider: ExchangingProvider
    account: str
    environment: dict[str, str] = field(repr=False)
    others: dict[str, str] = field(repr=False)
    n_asked: int = 0
    """Questions of the tests so far; the first `BURST` need not wait for a share of the account's."""

    def ask(self, token: str | None = None, body: Any = None, **headers: str) -> httpx.Response:
        """What a session sends."""
        token = self.environment["JUPYTERHUB_API_TOKEN"] if token is None else token
        self.n_asked += 1
        headers = {"Authorization": f"Bearer {token}", **headers} if token else headers
        url = self.environment["JUPYTERHUB_API_URL"] + "/beamhub/token"
        return httpx.post(
            url, json={"audience": ARCHIVE} if body is None else body, headers=headers, timeout=30
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A hub whose provider exchanges tokens, and one session."""

    def allow(fields: dict[str, Any]) -> None:
        fields["login"]["providers"][0]["exchange_audiences"] = [ARCHIVE]
        fields["login"]["refresh_s"] = 3600  # so that the tokens are those of the login

    with running_hub(tmp_path_factory.mktemp("hub"), change=allow) as hub, browser() as client:
        provider = ExchangingProvider(hub.provider)
        account = account_name(hub.provider.issuer, "ines")
        log_in(hub, client)
        others = {"portal": portal_token(hub, client), "minted": mint_token(hub, client, account)}
        start_session(hub, client, account)
        yield Session(hub, provider, account, environment_of(processes_of(account)[0]), others)
        hub.web.verdicts = []
        path = f"{hub.url}/hub/api/users/{account}/servers/d-1"
        httpx.delete(path, headers={"Authorization": f"Bearer {others['minted']}"}, timeout=30)
        await_that(lambda: not processes_of(account), "the session's end")


@pytest.fixture
def session(running: Session) -> Session:
    """The module's session with an honest provider."""
    running.hub.provider.reset()
    running.provider.answer, running.provider.status = {}, 200
    running.provider.forms.clear()
    if running.n_asked >= BURST - 2:  # no test asks more than twice
        deadline = time.monotonic() + 2 / PER_S
        await_that(lambda: time.monotonic() > deadline, "the account's share")
    return running


def test_a_session_gets_a_narrow_token_and_nothing_else(session: Session) -> None:
    answer = session.ask()
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert set(said) == {"access_token", "expires_in", "token_type"}
    assert (said["expires_in"], said["token_type"]) == (600, "Bearer")
    form = session.provider.forms[0]
    assert (form["audience"], form["requested_token_type"]) == (ARCHIVE, ACCESS_TOKEN)
    assert form["subject_token"] in session.hub.provider.access
    assert said["access_token"] not in session.hub.log
    assert form["subject_token"] not in session.hub.log


def test_the_helper_for_notebooks_asks_once_and_keeps_the_token(session: Session) -> None:
    program = "from beamhub_session import service_token as t; print(t('%s') == t('%s'), len(t('%s')))"
    environment = {**os.environ, **session.environment}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    told = subprocess.run(
        [sys.executable, "-c", program.replace("%s", ARCHIVE)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    session.n_asked += 1
    assert told.stdout.split() == ["True", "32"]
    assert len(session.provider.forms) == 1


def test_no_environment_of_a_session_holds_a_login_token(session: Session) -> None:
    held = set(session.environment.values())
    assert not held & (set(session.hub.provider.access) | set(session.hub.provider.refresh))


@pytest.mark.parametrize("kind", ["portal", "minted", "nonsense", ""])
def test_only_a_running_servers_own_token_may_ask(session: Session, kind: str) -> None:
    answer = session.ask(session.others.get(kind, kind))
    assert answer.status_code == 403
    assert session.provider.forms == []


def test_a_cookie_does_not_ask(session: Session) -> None:
    with browser() as client:
        log_in(session.hub, client)
        url = f"{session.hub.public_url}/hub/api/beamhub/token"
        assert client.post(url, json={"audience": ARCHIVE}).status_code == 403


def test_an_audience_that_the_facility_did_not_allow_is_refused_before_the_provider_is_asked(
    session: Session,
) -> None:
    answer = session.ask(body={"audience": "somebody-else"})
    assert (answer.status_code, answer.json()["error"]) == (403, "audience_not_allowed")
    assert session.provider.forms == []


@pytest.mark.parametrize(
    "body",
    [{}, {"audience": ""}, {"audience": 7}, {"audience": "x" * 600}, [ARCHIVE], {"audience": "a", "x": 1}],
)
def test_a_body_that_is_no_question_is_refused(session: Session, body: Any) -> None:
    assert session.ask(body=body).status_code == 400
    assert session.provider.forms == []


def test_an_access_token_that_ended_is_renewed_first(session: Session) -> None:
    session.hub.provider.access.clear()
    answer = session.ask()
    assert answer.status_code == 200, answer.text
    assert len(session.provider.forms) == 2


def test_a_provider_that_gives_none_is_a_refusal(session: Session) -> None:
    session.provider.status = 400
    answer = session.ask()
    assert (answer.status_code, answer.json()["error"]) == (403, "exchange_refused")


def test_a_provider_that_is_down_is_said_to_be(session: Session) -> None:
    session.hub.provider.script.status["/token"] = 500
    answer = session.ask()
    assert (answer.status_code, answer.json()["error"]) == (503, "provider_unavailable")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "access_token": st.one_of(st.text(max_size=20), st.none(), st.integers(), st.just("login")),
            "token_type": st.sampled_from(["Bearer", "bearer", "N_A", "mac", None, 1]),
            "issued_token_type": st.sampled_from([ACCESS_TOKEN, "urn:x:refresh_token", None]),
            "expires_in": st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text()),
        },
    )
)
def test_what_is_handed_on_is_never_the_logins_token_nor_another_kind(document: dict[str, Any]) -> None:
    token = read_exchange(document, "login")
    if token is not None:
        assert token.access_token not in ("login", "")
        assert token.access_token.isascii()
        assert document.get("issued_token_type", ACCESS_TOKEN) == ACCESS_TOKEN
        assert document["token_type"].lower() == "bearer"
        assert token.expires_in is None or 0 < token.expires_in <= 86400
        assert token.access_token not in repr(token)
