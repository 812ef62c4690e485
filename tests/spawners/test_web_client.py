"""The hub's client of web, before the real internal API on a real port: which noes are for ever."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from beamhub_core.errors import Unavailable
from beamhub_core.identity import Identity
from beamhub_core.rights import Refused
from beamhub_core.session import SessionUpdate
from beamhub_spawners.web_client import WebClient
from beamhub_spawners.web_refusals import Conflict, NotKnown, NotTaken
from catalogue.catalogue_api_parts import HIDDEN, RAW, Stocked, open_stocked, prepare_with_data
from catalogue.catalogue_parts import COLIN, INES, OSCAR, TOKENS, person, session_plan
from portal.portal_parts import serving

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stocked]:
    prepared = prepare_with_data(tmp_path_factory.mktemp("prepared"))
    with open_stocked(prepared, tmp_path_factory.mktemp("stocked")) as made:
        yield made


@pytest.fixture(scope="module")
def url(stocked: Stocked) -> Iterator[str]:
    """The internal API as the hub reaches it."""
    app = FastAPI()
    app.include_router(stocked.service.internal_router())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with serving(app, listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def web(url: str, run: Any) -> Iterator[WebClient]:
    client = WebClient(url, TOKENS["hub"])
    yield client
    run(client.close())


def test_what_web_takes_is_read_as_words(web: WebClient, run: Any, stocked: Stocked) -> None:
    plan = session_plan(stocked.facility, INES, number=1)
    run(web.push_principal(INES))
    run(web.store_plan(plan))
    run(web.store_plan(plan))
    run(web.update_session(plan.id, SessionUpdate(state="running")))
    assert run(web.session(plan.id)).plan == plan
    assert [stored.plan.id for stored in run(web.live_sessions())] == [plan.id]
    assert [verdict.plan_id for verdict in run(web.recheck())] == [plan.id]
    assert run(web.grants(COLIN.account, (RAW,))).datasets[0].pid == RAW
    run(web.update_session(plan.id, SessionUpdate(state="ended")))


def test_a_refusal_of_the_policy_keeps_its_words(web: WebClient, run: Any) -> None:
    for pid, code in ((HIDDEN, "not_found"), (RAW, "embargoed")):
        with pytest.raises(Refused) as caught:
            run(web.grants(OSCAR.account, (pid,)))
        assert type(caught.value) is Refused
        assert (caught.value.refusal.code, caught.value.refusal.subject) == (code, pid)


def test_another_plan_under_an_id_is_a_conflict_and_not_a_try_again(
    web: WebClient, run: Any, stocked: Stocked
) -> None:
    run(web.store_plan(session_plan(stocked.facility, INES, number=2)))
    with pytest.raises(Conflict) as caught:
        run(web.store_plan(session_plan(stocked.facility, INES, number=2, profile="other")))
    assert "Trying again does not help" in caught.value.refusal.reason
    assert caught.value.exit_code == 2


def test_a_session_that_web_was_never_told_of_is_not_known(web: WebClient, run: Any) -> None:
    with pytest.raises(NotKnown) as caught:
        run(web.session("f" * 32))
    assert (caught.value.refusal.code, caught.value.exit_code) == ("not_found", 3)
    with pytest.raises(NotKnown):
        run(web.update_session("f" * 32, SessionUpdate(state="ended")))


def test_a_linked_identity_is_told_of_until_it_is_unlinked(web: WebClient, run: Any) -> None:
    other = Identity(issuer="https://other.example", subject="ines-elsewhere")
    run(web.link_identity(other, INES.account))
    run(web.link_identity(other, INES.account))
    assert run(web.identity(other.account)).signs_in_as == INES.account
    (linked,) = run(web.identity(INES.account)).linked
    assert Identity(issuer=linked.issuer, subject=linked.subject) == other
    run(web.unlink_identity(other.account))
    run(web.unlink_identity(other.account))
    assert run(web.identity(INES.account)).linked == ()


def test_a_link_that_cannot_be_comes_with_words_for_its_owner(web: WebClient, run: Any) -> None:
    own = Identity(issuer=INES.issuer, subject=INES.subject)
    with pytest.raises(Refused, match="own already") as caught:
        run(web.link_identity(own, INES.account))
    assert type(caught.value) is Refused
    with pytest.raises(NotKnown):
        run(web.link_identity(own, person("nobody").account))


def test_what_does_not_fit_is_not_taken_and_the_log_says_what(
    web: WebClient, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(NotTaken) as caught:
        run(web.push_principal(person("liar").model_copy(update={"account": INES.account})))
    assert caught.value.refusal.reference in caplog.text
    assert "not that of this issuer and subject" in caplog.text
    assert "issuer" not in caught.value.refusal.reason


def test_a_token_that_web_does_not_know_may_be_known_in_a_moment(url: str, run: Any) -> None:
    client = WebClient(url, "another-token-0123456789")
    with pytest.raises(Unavailable, match="HTTP 401"):
        run(client.live_sessions())
    run(client.close())
    client = WebClient(url, TOKENS["reader"])
    with pytest.raises(Unavailable, match="HTTP 403"):
        run(client.recheck())
    run(client.close())


class HostilePort:
    """A port whose connections each get what is next in line: an answer, or an end without one."""

    def __init__(self, *script: bytes | None) -> None:
        self._script = list(script)
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._script:
            connection, _ = self._listener.accept()
            with connection:
                self.asked.append(connection.recv(65536))
                if answer is not None:
                    connection.sendall(ANSWER % (len(answer), answer))

    def close(self) -> None:
        """End, also where connections never came."""
        self._listener.close()
        self._thread.join(10)


def asked_of(port: HostilePort, call: str, *arguments: Any) -> Any:
    async def ask() -> Any:
        client = WebClient(port.url, TOKENS["hub"])
        try:
            return await getattr(client, call)(*arguments)
        finally:
            await client.close()

    try:
        return asyncio.run(ask())
    finally:
        port.close()


def test_a_connection_that_broke_is_tried_once_more() -> None:
    port = HostilePort(None, b"[]")
    assert asked_of(port, "live_sessions") == ()
    assert len(port.asked) == 2


def test_a_connection_that_breaks_twice_is_unavailable() -> None:
    port = HostilePort(None, None)
    with pytest.raises(Unavailable, match=r"RemoteProtocolError|ReadError"):
        asked_of(port, "update_session", "0" * 32, SessionUpdate(state="ended"))
    assert len(port.asked) == 2


def test_a_recheck_is_not_repeated() -> None:
    port = HostilePort(None)
    with pytest.raises(Unavailable):
        asked_of(port, "recheck")
    assert len(port.asked) == 1


@pytest.mark.parametrize("answer", [b"not json", b'{"surprise": 1}', b"[1]", b'"text"'])
def test_an_answer_of_another_shape_is_unavailable(answer: bytes) -> None:
    with pytest.raises(Unavailable, match="its answer"):
        asked_of(HostilePort(answer), "live_sessions")
