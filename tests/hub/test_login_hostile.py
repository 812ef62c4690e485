"""Attempts, cookies and callbacks in other hands than they were made for: nobody is in."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from beamhub_hub.login_attempt import COOKIE_PREFIX
from hub.hub_parts import (  # the folder of these tests, not the room
    RunningHub,
    browser,
    log_in,
    login_cookies,
)

pytestmark = pytest.mark.hub


def half_done(hub: RunningHub, client: httpx.Client, next_url: str = "/hub/home") -> str:
    """The callback's address of a login whose code nobody has used yet."""
    client.follow_redirects = False
    return str(client.get(log_in(hub, client, next_url).headers["location"]).headers["location"])


def attempt_cookies(client: httpx.Client) -> dict[str, str]:
    """The cookies of unfinished logins."""
    jar = client.cookies.jar
    return {cookie.name: cookie.value or "" for cookie in jar if cookie.name.startswith(COOKIE_PREFIX)}


def test_a_callback_replayed_logs_nobody_in(hub: RunningHub) -> None:
    with browser() as client:
        answer = log_in(hub, client)
        callback = next(r.url for r in answer.history if r.url.path == "/hub/login/hostile/callback")
    with browser() as thief:
        replayed = thief.get(callback)
        assert replayed.status_code == 403
        assert login_cookies(thief) == set()


def test_a_callback_of_another_browser_logs_nobody_in(hub: RunningHub) -> None:
    """Login CSRF: a victim is made to open the attacker's callback."""
    with browser() as attacker, browser() as victim:
        callback = half_done(hub, attacker)
        assert victim.get(callback).status_code == 403
        assert login_cookies(victim) == set()
    assert hub.provider.count("/token") == 0


def test_a_code_used_twice_logs_nobody_in_again(hub: RunningHub) -> None:
    with browser() as client:
        callback = half_done(hub, client)
        kept = attempt_cookies(client)
        assert client.get(callback).status_code == 302
        with browser() as again:
            again.cookies.update(kept)
            assert again.get(callback).status_code == 403
            assert login_cookies(again) == set()


def test_a_changed_attempt_cookie_is_not_ours(hub: RunningHub) -> None:
    with browser() as client:
        callback = half_done(hub, client)
        for cookie in list(client.cookies.jar):
            if cookie.name.startswith(COOKIE_PREFIX):
                cookie.value = (cookie.value or "")[:-3] + "000"
        assert client.get(callback).status_code == 403
        assert login_cookies(client) == set()


def test_the_cookie_of_another_attempt_answers_for_its_own_state_only(hub: RunningHub) -> None:
    """Signed by us, but moved under the name of another attempt: the signature covers the name."""
    with browser() as first, browser() as second:
        callback = half_done(hub, first)
        half_done(hub, second)
        (name,), (value,) = attempt_cookies(first), attempt_cookies(second).values()
    with browser() as mixed:
        mixed.cookies.set(name, value)
        assert mixed.get(callback).status_code == 403
        assert login_cookies(mixed) == set()


def test_an_answer_without_a_login_that_was_started_is_refused(hub: RunningHub) -> None:
    with browser() as client:
        for query in ("", "?code=x", f"?code=x&state={'A' * 43}", "?state=", "?error=access_denied"):
            answer = client.get(f"{hub.public_url}/hub/login/hostile/callback{query}")
            assert answer.status_code == 403
            assert login_cookies(client) == set()
    assert hub.provider.requests == []


NO_TEXT = {
    "bytes that are no UTF-8": "?code=%ff&state=%ff",
    "a zero byte": "?code=%00",
    "two thousand parameters": "?" + "a=b&" * 2000,
    "a code of 9 kB": "?code=" + "x" * 9000,
}


@pytest.mark.parametrize("case", NO_TEXT)
def test_an_answer_that_is_no_text_is_a_4xx_page(hub: RunningHub, case: str) -> None:
    since = len(hub.log)
    with browser() as client:
        answer = client.get(f"{hub.public_url}/hub/login/hostile/callback{NO_TEXT[case]}")
        assert 400 <= answer.status_code < 500
        assert login_cookies(client) == set()
    assert "Traceback" not in hub.log[since:]


def test_a_hundred_attempts_of_one_browser_leave_a_few_cookies(hub: RunningHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        for _ in range(100):
            assert log_in(hub, client).status_code == 302
        assert len(attempt_cookies(client)) <= 9


def memory_kib(hub: RunningHub) -> int:
    """What the hub holds in memory now."""
    status = Path(f"/proc/{hub.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_logins_that_are_only_started_leave_nothing_in_the_hub(hub: RunningHub) -> None:
    with httpx.Client(timeout=30) as nobody:

        def start(count: int) -> None:
            for _ in range(count):
                nobody.cookies.clear()
                assert log_in(hub, nobody).status_code == 302

        start(300)  # what is made once is made now
        database = (hub.folder / "hub" / "hub.sqlite").stat().st_size
        memory = memory_kib(hub)
        start(1000)
        assert (hub.folder / "hub" / "hub.sqlite").stat().st_size == database
        assert memory_kib(hub) - memory < 4 * 1024, "less than 4 KiB for each"
