"""Wherever a login is told to end, the browser stays on our origin, but for the way to the provider."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, urljoin, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from beamhub_hub.handlers import MAX_NEXT
from hub.hub_parts import RunningHub, browser, login_cookies  # the folder of these tests, not the room

pytestmark = pytest.mark.hub

ATOMS = (
    *(
        "/",
        "//",
        "\\",
        "\\\\",
        "%5c",
        "%2f",
        "%2F%2f",
        ":",
        "@",
        "?",
        "#",
        ";",
        "&",
        "=",
        ".",
        "..",
        "%00",
        "%09",
    ),
    *("\t", "\n", "\r", " ", "\u00a0", "\u2028", "\u3002", "\uff0f", "\u2215", "\u29f5", "\u202e", "\ufeff"),
    *("http", "https:", "http://", "javascript:", "data:", "evil.example", "user:pw@evil.example", "[::1]"),
    *(
        "127.0.0.1",
        "hub",
        "/hub/home",
        "/hub/token",
        "localhost",
        "%e3%80%82",
        "%252f",
        "xn--evil",
        "\x7f",
        "\x00",
    ),
)
WANTED = st.lists(st.sampled_from(ATOMS) | st.text(max_size=4), max_size=8).map("".join)
KEPT_SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def as_a_browser_reads(location: str) -> str:
    """An address as a browser takes it: strips, drops, and '\\' is '/'. Source: WHATWG URL, basic parser."""
    stripped = location.strip("".join(map(chr, range(0x21))))
    return re.sub(r"[\t\n\r]", "", stripped).replace("\\", "/")


def origin_of(base: str, location: str) -> tuple[str, str]:
    """The scheme and host at which a browser ends that gets a `Location` from a page."""
    read = as_a_browser_reads(location)
    if re.match(r"/{2,}", read):  # any number of slashes begins a host
        read = "//" + read.lstrip("/")
    parts = urlsplit(urljoin(base, read))
    return parts.scheme, parts.netloc


def is_ours(hub: RunningHub, location: str) -> bool:
    """Whether a browser that follows stays at the hub."""
    return origin_of(f"{hub.public_url}/hub/x", location) == ("http", f"127.0.0.1:{hub.port}")


def attempt_cookie(answer: httpx.Response) -> dict[str, str]:
    """What the hub itself noted of an attempt."""
    (line,) = [c for c in answer.headers.get_list("set-cookie") if c.startswith("beamhub-login-")]
    # tornado's signed value: 2|key version|time|name|value in base64|signature, each with its length.
    value = line.split(";")[0].split("=", 1)[1].strip('"').split("|")[4].split(":", 1)[1]
    noted: dict[str, str] = json.loads(base64.b64decode(value))
    return noted


@pytest.mark.parametrize(
    ("location", "ours"),
    [
        ("/hub/home", True),
        ("//evil.example", False),
        ("/\\evil.example", False),
        ("///evil.example", False),
        ("/\t/evil.example", False),
        ("javascript:alert(1)", False),
    ],
)
def test_the_tests_own_browser_is_not_fooled(hub: RunningHub, location: str, ours: bool) -> None:
    assert is_ours(hub, location) is ours


@KEPT_SETTINGS
@given(wanted=WANTED)
@example(wanted="//evil.example")
@example(wanted="/\\evil.example")
@example(wanted="/\t/evil.example")
@example(wanted="https:evil.example")
@example(wanted="/%09/evil.example")
def test_no_wish_makes_an_attempt_that_ends_elsewhere(hub: RunningHub, wanted: str) -> None:
    """A login ends at the address in its attempt's cookie, so most wishes are checked there, at the start."""
    with browser() as client:
        client.follow_redirects = False
        start = client.get(f"{hub.public_url}/hub/login/hostile?next={quote(wanted, safe='')}")
    if start.status_code != 302:  # bytes that are no text
        assert start.status_code == 400
        return
    assert start.headers["location"].startswith(f"{hub.provider.issuer}/authorize?")
    next_url = attempt_cookie(start)["next_url"]
    assert len(next_url) <= MAX_NEXT + 2 * wanted.count("\\")
    assert next_url == "" or is_ours(hub, next_url)


@settings(KEPT_SETTINGS, max_examples=30)
@given(wanted=WANTED, already_in=st.booleans())
def test_no_wish_leads_a_browser_elsewhere(hub: RunningHub, wanted: str, already_in: bool) -> None:
    with browser() as client:
        client.follow_redirects = False
        if already_in:
            client.get(
                client.get(client.get(f"{hub.public_url}/hub/login/hostile").headers["location"]).headers[
                    "location"
                ]
            )
            assert login_cookies(client) != set()
        address = f"{hub.public_url}/hub/login?next={quote(wanted, safe='')}"
        for _ in range(6):
            answer = client.get(address)
            if "location" not in answer.headers:
                break
            location = answer.headers["location"]
            if not location.startswith(f"{hub.provider.issuer}/"):
                assert is_ours(hub, location), location
            address = urljoin(address, location)
            if address.startswith(f"{hub.public_url}/services/"):
                break
        assert answer.status_code < 500


@pytest.mark.parametrize(
    "path", ["/hub/logout", "/hub/", "/hub/oauth_login", "/hub/nowhere", "/hub/login/nobody"]
)
@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_no_other_page_follows_a_wish_elsewhere(hub: RunningHub, path: str, wanted: str) -> None:
    answer = httpx.get(f"{hub.public_url}{path}", params={"next": wanted}, follow_redirects=False)
    location = answer.headers.get("location", "/")
    assert location.startswith(f"{hub.provider.issuer}/") or is_ours(hub, location)
    assert "evil.example" not in urlsplit(location).netloc
