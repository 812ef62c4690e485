"""Wrong answers around the ID token: of the browser's way back, the token endpoint and userinfo."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from hub import hostile_wire  # the folder of these tests, not the room
from hub.conformance_parts import CLIENT_ID, assert_is_in, denied, unavailable
from hub.hostile_provider import Wire
from hub.hostile_tokens import Change
from hub.hub_parts import RunningHub, browser, log_in

pytestmark = pytest.mark.hub

ELSEWHERE = "http://127.0.0.1:9/elsewhere"


def response(**values: object) -> Change:
    """A script that changes parameters of the authorization response."""
    return lambda script: script.response.update(values)


def tail(text: str) -> Change:
    """A script that appends to the authorization response."""
    return lambda script: setattr(script, "response_tail", text)


def token(**values: object) -> Change:
    """A script that changes the token endpoint's answer."""
    return lambda script: script.token_answer.update(values)


def raw(path: str, data: bytes) -> Change:
    """A script that answers a path with these bytes."""
    return lambda script: script.raw.update({path: data})


def status(path: str, code: int) -> Change:
    """A script that answers a path with an HTTP status."""
    return lambda script: script.status.update({path: code})


def wire(path: str, write: Wire) -> Change:
    """A script that takes over the connection."""
    return lambda script: script.wire.update({path: write})


DENIED: dict[str, tuple[str, Change]] = {
    "response without code": ("code_missing", response(code=None)),
    "response with an endless code": ("code_missing", response(code="x" * 5000)),
    "response is an error": (
        "provider_refused",
        response(code=None, error="access_denied", error_description="<script>x</script>"),
    ),
    "response is an error without sense": (
        "provider_refused",
        response(code=None, error="<script>x</script>"),
    ),
    "response with error and code": ("provider_refused", response(error="server_error")),
    "response of another issuer": ("response_issuer", response(iss="https://evil.example")),
    "response with an empty issuer": ("response_issuer", response(iss="")),
    "response of another state": ("attempt_missing", response(state="A" * 43)),
    "response with a state without sense": ("attempt_missing", response(state="../../x")),
    "response without state": ("attempt_missing", response(state=None)),
    "code given twice": ("response_repeated", tail("&code=second")),
    "state given twice": ("response_repeated", tail("&state=second")),
    "iss given twice": ("response_repeated", tail("&iss=a&iss=b")),
    "a parameter's name written differently": ("response_repeated", tail("&%63ode=second")),
    "no ID token": ("token_response", token(id_token=None)),
    "empty ID token": ("token_response", token(id_token="")),
    "no access token": ("token_response", token(access_token=None)),
    "access token with a line break": ("token_response", token(access_token="a\r\nX-Evil: 1")),
    "access token beyond ASCII": ("token_response", token(access_token="tökèn")),
    "refresh token with half a character": ("token_response", token(refresh_token="\ud800")),
    "refresh token that is a list": ("token_response", token(refresh_token=["x"])),
    "oversized access token": ("token_too_large", token(access_token="x" * 70_000)),
    "oversized refresh token": ("token_too_large", token(refresh_token="x" * 70_000)),
    "another token type": ("token_response", token(token_type="mac")),
    "no token type": ("token_response", token(token_type=None)),
    "an ID token that is a list": ("token_response", token(id_token=["x"])),
    "token answer is a list": ("token_response", raw("/token", b"[1]")),
    "a refused code": ("code_refused", status("/token", 400)),
    "a client that is not known": ("code_refused", status("/token", 401)),
    "userinfo refuses": ("userinfo_refused", status("/userinfo", 401)),
    "userinfo is not there": ("userinfo_refused", status("/userinfo", 404)),
    "userinfo is a list": ("userinfo_malformed", raw("/userinfo", b"[1]")),
    "userinfo is null": ("userinfo_malformed", raw("/userinfo", b"null")),
    "a monitoring account": (
        "subject_blocked",
        lambda script: script.userinfo.update(voperson_id="test@eduteams.org"),
    ),
}

UNAVAILABLE: dict[str, Change] = {
    "token endpoint fails": status("/token", 500),
    "token endpoint is busy": status("/token", 503),
    "token endpoint answers HTML": raw("/token", b"<html>"),
    "token answer names the ID token twice": raw(
        "/token", b'{"access_token": "a", "token_type": "Bearer", "id_token": "x", "id_token": "y"}'
    ),
    "redirect from the token endpoint": lambda script: script.location.update({"/token": ELSEWHERE}),
    "redirect from userinfo": lambda script: script.location.update({"/userinfo": ELSEWHERE}),
    "redirect to no address": wire("/token", hostile_wire.redirect_to_nonsense),
    "userinfo fails": status("/userinfo", 500),
    "userinfo is busy": status("/userinfo", 503),
    "userinfo nested deeply": raw("/userinfo", b"[" * 100_000),
    "userinfo of 600 kB": raw("/userinfo", b'"' + b"x" * 600_000 + b'"'),
    "userinfo without end": wire("/userinfo", hostile_wire.endless),
    "userinfo in chunks without end": wire("/userinfo", hostile_wire.chunks_without_end),
    "userinfo is a gzip bomb": wire("/userinfo", hostile_wire.bomb),
    "userinfo in gzip that nobody asked for": wire("/userinfo", hostile_wire.packed({"sub": "ines"})),
    "userinfo cut short": wire("/userinfo", hostile_wire.cut),
    "userinfo with a header of 200 kB": wire("/userinfo", hostile_wire.huge_header),
    "userinfo that is not HTTP": wire("/userinfo", hostile_wire.no_http),
    "userinfo hangs up": wire("/userinfo", hostile_wire.nothing),
    "userinfo names the subject twice": raw("/userinfo", b'{"sub": "oscar", "sub": "ines"}'),
    "userinfo as a signed token": raw("/userinfo", b"eyJhbGciOiJSUzI1NiJ9.e30.AAAA"),
}


@pytest.mark.parametrize("case", DENIED)
def test_a_hostile_answer_is_a_403_page_with_a_reference(hub: RunningHub, case: str) -> None:
    code, change = DENIED[case]
    change(hub.provider.script)
    assert "<script>x" not in denied(hub, code)


def memory_peak_kib(hub: RunningHub) -> int:
    """The most memory that the hub ever held."""
    status = Path(f"/proc/{hub.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_a_failing_provider_is_a_503_page(hub: RunningHub, case: str) -> None:
    UNAVAILABLE[case](hub.provider.script)
    before = memory_peak_kib(hub)
    assert "Community login does not answer" in unavailable(hub)
    assert hub.provider.count("/elsewhere") == 0
    assert memory_peak_kib(hub) - before < 64 * 1024, "an answer's size is counted before it is kept"


def test_web_down_at_login_lets_nobody_in(hub: RunningHub) -> None:
    hub.web.is_down = True
    assert "the service that knows your rights does not answer" in unavailable(hub)


def userinfo_with_a_cookie(handler: BaseHTTPRequestHandler) -> None:
    """Honest claims, and a cookie that a browser would keep."""
    handler.send_response(200)
    handler.send_header("Set-Cookie", "session=of-one-person; Path=/")
    handler.end_headers()
    handler.wfile.write(json.dumps({"sub": "ines"}).encode())


def test_a_cookie_of_the_provider_is_never_sent_to_it_again(hub: RunningHub) -> None:
    hub.provider.script.wire["/userinfo"] = userinfo_with_a_cookie
    for _ in range(2):
        with browser() as client:
            assert_is_in(hub, client, log_in(hub, client))
    assert hub.provider.count("/userinfo") == 2
    assert {key for key, _ in hub.provider.headers} & {"/userinfo cookie", "/token cookie"} == set()


def test_the_hub_asks_as_the_client_that_the_facility_registered(hub: RunningHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        location = log_in(hub, client).headers["location"]
    assert CLIENT_ID.replace(" ", "+").replace("+client", "%2Bclient") in location
