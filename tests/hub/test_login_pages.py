"""What people see at the login: the choice, refusals with whom to ask, and nothing that must not be there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

import httpx
import pytest

from beamhub_core.identity import account_name
from beamhub_hub.denial import _ADVICE, DenialCode, LoginDenied
from beamhub_hub.login_attempt import COOKIE_PREFIX
from beamhub_hub.static_files import TEMPLATES_FOLDER
from hub.hub_parts import (  # the folder of these tests, not the room
    RunningHub,
    browser,
    log_in,
    login_cookies,
    running_hub,
)

pytestmark = pytest.mark.hub

N_PROVIDERS = 12
SUPPORT = {"support_url": "https://help.example.org/data", "support_email": "data@example.org"}


def many_providers(fields: dict[str, Any]) -> None:
    """Twelve providers, of which one takes hints and one has a title that is no title; a support to ask."""
    first = fields["login"]["providers"][0]
    titles = ["Community login", "<script>alert(1)</script>", *(f"Institute {i}" for i in range(3, 13))]
    names = ["hostile", *(f"provider-{i}" for i in range(2, 13))]
    fields["login"]["providers"] = [
        {**first, "name": name, "title": title} for name, title in zip(names, titles, strict=True)
    ]
    fields["login"]["providers"][0]["idp_hints"] = ["https://idp.example.org"]
    fields["hub"] |= SUPPORT


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub with many providers, and with a template of the facility's own that is broken."""
    folder = tmp_path_factory.mktemp("crowded")
    templates = folder / "own"
    templates.mkdir()
    (templates / "logout.html").write_text("{{ nothing.at.all }}")
    extra = folder / "jupyterhub_config.d"
    extra.mkdir()
    paths = [str(templates), str(TEMPLATES_FOLDER)]
    (extra / "templates.py").write_text(f"c.JupyterHub.template_paths = {paths!r}\n")
    with running_hub(folder, change=many_providers) as hub:
        yield hub


@pytest.fixture
def page(crowded: RunningHub) -> Callable[..., httpx.Response]:
    """A function that opens the choice with a query."""

    def opened(**query: str) -> httpx.Response:
        with browser() as client:
            return client.get(f"{crowded.public_url}/hub/login", params=query)

    return opened


def links(text: str) -> list[str]:
    """The addresses of the ways to log in, in the page's order."""
    return re.findall(r'class="btn beamhub-way[^"]*" href="([^"]+)"', text)


def test_the_choice_names_every_provider_and_no_title_is_markup(page: Callable[..., httpx.Response]) -> None:
    text = page().text
    assert len(links(text)) == N_PROVIDERS
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_what_was_asked_for_goes_on_to_every_provider(page: Callable[..., httpx.Response]) -> None:
    hint, wanted = "https://idp.example.org/x?a=1&b=2", "/hub/token?a=b&c=%22d"
    for link in links(page(next=wanted, aarc_idp_hint=hint).text):
        query = httpx.URL(link.replace("&amp;", "&")).params
        assert (query["next"], query["aarc_idp_hint"]) == (wanted, hint)


def test_a_search_finds_by_part_of_the_title_and_keeps_what_was_asked_for(
    page: Callable[..., httpx.Response],
) -> None:
    found = page(search="INSTITUTE 1", next="/hub/token")
    assert len(links(found.text)) == 3  # 10, 11, 12
    assert 'name="next" value="/hub/token"' in found.text
    nothing = page(search='"><script>x', next="/hub/token")
    assert links(nothing.text) == []
    assert "<script>x" not in nothing.text
    assert "Nothing here is called so" in nothing.text


def test_a_stronger_login_is_announced(page: Callable[..., httpx.Response]) -> None:
    found = page(acr="https://refeds.org/profile/mfa", next="/hub/token")
    assert 'id="needs-more"' in found.text
    assert all("acr=https" in link for link in links(found.text))


def test_what_is_too_long_is_left_out_and_the_login_works(crowded: RunningHub) -> None:
    long = "/hub/token?x=" + "y" * 5000
    with browser() as client:
        text = client.get(f"{crowded.public_url}/hub/login", params={"next": long}).text
        assert "yyyy" not in text
        client.follow_redirects = False
        start = client.get(
            f"{crowded.public_url}/hub/login/hostile", params={"next": "/hub/token?x=" + "y" * 1480}
        )
        (cookie,) = (c for c in start.headers.get_list("set-cookie") if c.startswith(COOKIE_PREFIX))
        assert len(cookie) < 4096


def test_the_provider_of_last_time_comes_first(crowded: RunningHub) -> None:
    with browser() as client:
        client.get(f"{crowded.public_url}/hub/login/provider-7")
        log_in_by = client.get(
            f"{crowded.public_url}/hub/logout", headers={"Sec-Fetch-Site": "same-origin"}
        ).status_code
        assert log_in_by in (200, 500)
        text = client.get(f"{crowded.public_url}/hub/login").text
        assert links(text)[0].startswith("/hub/login/provider-7")
        assert text.count("used last time") == 1


def test_a_hint_that_the_provider_allows_goes_on_to_it_and_no_other(crowded: RunningHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        for hint, sent in (("https://idp.example.org", True), ("https://evil.example", False)):
            start = client.get(f"{crowded.public_url}/hub/login/hostile", params={"aarc_idp_hint": hint})
            assert ("aarc_idp_hint=" in start.headers["location"]) is sent
            assert "evil" not in start.headers["location"]


def test_every_denial_says_what_to_do_in_words_of_its_own() -> None:
    codes: tuple[DenialCode, ...] = get_args(DenialCode)
    texts = [LoginDenied(code).advice for code in codes]
    assert [code for code in codes if code not in _ADVICE] == []
    assert len(set(texts)) == len(codes)
    todo = re.compile(r"\b(Ask|Send|Try|Start|Log|Wait|Choose|Close|begin|ask|tell|send|Only)\b")
    assert [text for text in texts if not todo.search(text)] == []
    assert list(_ADVICE) == sorted(_ADVICE)


def test_a_refusal_names_its_reference_and_the_support(crowded: RunningHub) -> None:
    crowded.provider.script.claims["nonce"] = "another"
    since = len(crowded.log)
    try:
        with browser() as client:
            answer = client.get(f"{crowded.public_url}/hub/login/hostile")
    finally:
        crowded.provider.reset()
    reference = answer.text.partition('id="reference">')[2][:8]
    assert f"reference={reference}" in crowded.log[since:]
    assert f"mailto:data@example.org?subject=Login%2C%20reference%20{reference}" in answer.text
    assert SUPPORT["support_url"] in answer.text


@pytest.mark.parametrize(
    "path", ["/hub/nowhere", "/hub/login/nobody", "/hub/login/nobody/callback", "/hub/admin"]
)
def test_every_error_page_has_a_reference_that_finds_a_line(hub: RunningHub, path: str) -> None:
    since = len(hub.log)
    with browser() as client:
        log_in(hub, client)
        answer = client.get(f"{hub.public_url}{path}")
    assert answer.status_code in (403, 404)
    reference = answer.text.partition('id="reference">')[2][:8]
    assert len(reference) == 8
    assert hub.log[since:].count(f"reference={reference}") == 1


def test_a_broken_template_shows_no_stack(crowded: RunningHub) -> None:
    since = len(crowded.log)
    with browser() as client:
        answer = client.get(f"{crowded.public_url}/hub/logout", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 500
    assert "Traceback" in crowded.log[since:]
    assert "Traceback" not in answer.text
    assert "nothing" not in answer.text
    assert "Something broke on our side" in answer.text


LOGIN_PATHS = [
    "/hub/login",
    "/hub/login/hostile",
    "/hub/login/hostile/callback",
    "/hub/login/nobody",
    "/hub/oauth_login",
]


@pytest.mark.parametrize("path", [*LOGIN_PATHS, "/hub/logout", "/hub/nowhere", "/hub/home", "/hub/api/"])
def test_nothing_of_the_hub_is_kept_or_framed(hub: RunningHub, path: str) -> None:
    headers = httpx.get(f"{hub.public_url}{path}", follow_redirects=False).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] in ("no-referrer", "same-origin")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("path", LOGIN_PATHS)
def test_the_logins_pages_allow_no_foreign_or_inline_script_and_tell_nobody_their_address(
    hub: RunningHub, path: str
) -> None:
    answer = httpx.get(f"{hub.public_url}{path}", follow_redirects=False)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert re.findall(r"<script(?![^>]* src=)", answer.text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", answer.text) == []


def test_a_login_ends_with_no_cookie_that_scripts_or_foreign_forms_get(hub: RunningHub) -> None:
    with browser() as client:
        answer = log_in(hub, client)
        assert login_cookies(client) != set()
    cookies = [c for r in [*answer.history, answer] for c in r.headers.get_list("set-cookie")]
    ours = [
        c for c in cookies if c.startswith(("jupyterhub-", "beamhub-")) and "expires=" not in c[:200].lower()
    ]
    assert ours
    assert [c for c in ours if "HttpOnly" not in c or "SameSite=Lax" not in c] == []


MFA = ("https://refeds.org/profile/mfa", "https://example.org/strong?a=b&c")


@pytest.mark.parametrize("required", [(), MFA[:1], MFA])
def test_a_start_that_needs_a_stronger_login_leads_to_it_and_back(
    hub: RunningHub, required: tuple[str, ...]
) -> None:
    hub.provider.script.subject = f"needs-{len(required)}"
    account = account_name(hub.provider.issuer, hub.provider.script.subject)
    with browser() as client:
        log_in(hub, client)
        hub.web.refusal = {
            "code": "assurance_too_low",
            "subject": "a dataset",
            "reason": "This data needs a login with a second factor.",
            "reference": "abc12345",
            "required_acr": required,
        }
        client.get(f"{hub.public_url}/hub/spawn/{account}/first")
        page = client.get(f"{hub.public_url}/hub/spawn-pending/{account}/first")
        assert page.status_code == 403
        assert "This data needs a login with a second factor." in page.text
        assert "abc12345" in page.text
        found = re.search(r'id="step-up"[^>]*href="([^"]+)"', page.text)
        assert (found is not None) is bool(required)
        if found is None:
            return
        choice = client.get(f"{hub.public_url}{found[1].replace('&amp;', '&')}")
        assert 'id="needs-more"' in choice.text
        (link,) = links(choice.text)
        query = httpx.URL(link.replace("&amp;", "&")).params
        assert query["acr"] == " ".join(required)
        assert query["next"] == f"/hub/spawn/{account}/first"
