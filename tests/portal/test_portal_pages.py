"""What the pages say to whom, on a real catalogue of real files."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from starlette.requests import Request

from beamhub_catalogue.views import DatasetView, Provenance
from beamhub_portal.landing_routes import Landing
from beamhub_portal.pages import Pages, find_addresses
from portal.portal_parts import (  # the folder of these tests, not the room
    BASE,
    EMBARGOED,
    EVIL_TITLE,
    OPEN,
    TEAM,
    Browser,
    House,
    person,
    text_of,
)

UNKNOWN = "test:ZZ-9:no-such-scan"


def same_but_for_reference(page: httpx.Response) -> str:
    """A page without its reference and, for forms, without the visit's token."""
    return re.sub(r"<code>[0-9a-f]+</code>", "<code>REFERENCE</code>", page.text)


def test_an_anonymous_reader_finds_open_and_announced_data_only(browser: Browser) -> None:
    page = text_of(browser.get(f"{BASE}/"))
    assert "2 datasets" in page
    assert OPEN in page
    assert EMBARGOED in page
    assert TEAM not in page


def test_a_member_finds_the_teams_data(browser: Browser) -> None:
    browser.log_in(person("colin", TEAM))
    page = text_of(browser.get(f"{BASE}/"))
    assert "3 datasets" in page
    assert TEAM in page


def test_a_title_with_script_is_shown_as_text(browser: Browser, house: House) -> None:
    for address in (f"{BASE}/", f"{BASE}/datasets/{house.pid(OPEN)}"):
        page = browser.get(address)
        assert "<script>alert" not in page.text
        assert EVIL_TITLE in text_of(page)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "%00", "'"])
def test_a_search_text_is_shown_as_text(browser: Browser, text: str) -> None:
    page = browser.client.get(f"{BASE}/", params={"q": text, "proposal": text, "technique": text})
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=x", "page=9999999", "kind=evil", "readable=2"])
def test_a_search_address_that_does_not_fit_is_still_a_page(browser: Browser, query: str) -> None:
    assert browser.get(f"{BASE}/?{query}").status_code == 200


def test_a_search_without_hits_says_why_and_what_next(browser: Browser) -> None:
    page = browser.get(f"{BASE}/?q=nosuchthing")
    assert page.status_code == 200
    assert "Nothing fits this search" in text_of(page)
    assert "Clear the search" in text_of(page)


def test_an_embargoed_dataset_names_its_end_in_words_and_iso_but_no_file(
    browser: Browser, house: House
) -> None:
    page = browser.get(f"{BASE}/datasets/{house.pid(EMBARGOED)}")
    view = house.service.dataset_page(None, house.pid(EMBARGOED))
    assert isinstance(view, DatasetView)
    assert view.embargo.opens_at is not None
    day = view.embargo.opens_at.astimezone(ZoneInfo(house.config.timezone)).date()
    assert page.status_code == 200
    text = text_of(page)
    assert f"Embargoed until {day.day} " in text
    assert day.isoformat() in text
    assert ".h5" not in page.text
    assert "preview.png" not in page.text
    assert "Log in to open it" in text


def test_a_member_sees_files_parameters_preview_and_the_way_to_a_notebook(
    browser: Browser, house: House
) -> None:
    browser.log_in(person("ines"))
    pid = house.pid(EMBARGOED)
    page = browser.get(f"{BASE}/datasets/{pid}")
    text = text_of(page)
    assert ".h5" in text
    assert "Parameters" in text
    assert f'href="{BASE}/open?pid=test%3A' in page.text
    assert "template=powder" in page.text
    picture = browser.get(f"{BASE}/datasets/{pid}/preview.png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")


def test_a_preview_follows_the_policy(browser: Browser, house: House) -> None:
    assert browser.get(f"{BASE}/datasets/{house.pid(OPEN)}/preview.png").status_code == 200
    refused = [
        browser.get(f"{BASE}/datasets/{pid}/preview.png")
        for pid in (house.pid(EMBARGOED), house.pid(TEAM), UNKNOWN)
    ]
    assert {(answer.status_code, answer.content) for answer in refused} == {(404, b"")}


@pytest.mark.parametrize("way", ["datasets/{}", "open?pid={}"])
@pytest.mark.parametrize("who", [None, "oscar"])
def test_a_hidden_dataset_is_the_same_page_as_an_unknown_one(
    browser: Browser, house: House, way: str, who: str | None
) -> None:
    if who is not None:
        browser.log_in(person(who, "XX-1"))
    hidden = browser.visit(f"{BASE}/{way.format(house.pid(TEAM))}") if who or "open" not in way else None
    unknown = browser.visit(f"{BASE}/{way.format(UNKNOWN)}") if who or "open" not in way else None
    if hidden is None or unknown is None:
        answers = [browser.get(f"{BASE}/{way.format(pid)}") for pid in (house.pid(TEAM), UNKNOWN)]
        assert {answer.status_code for answer in answers} == {303}  # logged out, both lead to the login
        return
    assert hidden.status_code == unknown.status_code == 404
    assert same_but_for_reference(hidden) == same_but_for_reference(unknown)
    assert house.pid(TEAM) not in hidden.text
    assert hidden.headers.keys() == unknown.headers.keys()


def test_when_the_embargo_ends_the_same_link_opens(browser: Browser, house: House) -> None:
    browser.log_in(person("oscar"))
    link = f"{BASE}/datasets/{house.pid(EMBARGOED)}"
    assert "Open in notebook" not in text_of(browser.get(link))
    house.clock.ahead = timedelta(days=4 * 366)
    page = text_of(browser.get(link))
    assert "Open in notebook" in page
    assert ".h5" in page


def test_a_citation_is_there_in_words_and_bibtex(browser: Browser, house: House) -> None:
    page = browser.get(f"{BASE}/datasets/{house.pid(EMBARGOED)}")
    assert "@misc{" in page.text
    assert house.pid(EMBARGOED) in text_of(page)


def test_the_about_page_says_what_is_and_is_not_enforced(browser: Browser) -> None:
    page = text_of(browser.get(f"{BASE}/about"))
    assert "nforced" in page
    assert "Policy version test-1" in page
    assert "User office office : as of " in page


def test_health_tells_no_count(browser: Browser) -> None:
    answer = browser.get(f"{BASE}/health")
    assert answer.json() == {"status": "ok", "database": "ok"}


@pytest.mark.parametrize(
    "path", ["internal/health", "%2e%2e/internal/health", "../internal/health", "static/../internal/health"]
)
def test_the_internal_api_is_not_below_the_public_path(browser: Browser, path: str) -> None:
    address = httpx.URL(f"{browser.house.public}{BASE}/").copy_with(raw_path=f"{BASE}/{path}".encode())
    answer = browser.client.get(address)
    assert answer.status_code == 404
    assert "database" not in answer.text
    assert browser.get("/internal/health").status_code == 200  # from inside it is there


@pytest.mark.parametrize("path", ["", "datasets/x", "about", "nothing", "api/Datasets", "static/portal.css"])
def test_every_answer_carries_the_security_headers(browser: Browser, path: str) -> None:
    headers = browser.get(f"{BASE}/{path}").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert ("public" in headers["cache-control"]) == path.startswith("static")


def test_no_page_holds_inline_script_or_style(browser: Browser, house: House) -> None:
    browser.log_in(person("ines"))
    pid = house.pid(EMBARGOED)
    for path in ("", f"datasets/{pid}", f"open?pid={pid}", "sessions", "about", "sessions/d-0/launch", "x"):
        page = browser.get(f"{BASE}/{path}").text
        # Linked data is no script: a browser reads it and runs nothing of it.
        assert not re.search(r'<script(?![^>]*\bsrc=| type="application/ld\+json">)', page)
        assert not re.search(r"<style|\bstyle=|\son\w+=", page)


def test_the_styles_are_served_from_our_own_address(browser: Browser) -> None:
    page = browser.get(f"{BASE}/").text
    styles = re.findall(r'rel="stylesheet" href="([^"]+)"', page)
    scripts = re.findall(r'script src="([^"]+)"', page)
    assert len(styles) == len(scripts) == 2
    for address in (*styles, *scripts):
        answer = browser.get(address)
        assert answer.status_code == 200
        assert "@import" not in answer.text


def test_a_page_that_is_not_there_is_a_page_with_a_reference(browser: Browser) -> None:
    page = browser.get(f"{BASE}/nothing/here")
    assert page.status_code == 404
    assert re.search(r"Reference [0-9a-f]{8}", text_of(page))


def test_a_large_body_is_refused_before_it_is_read(browser: Browser) -> None:
    large = b"x" * 100_000
    form = {"content-type": "application/x-www-form-urlencoded"}

    def status(content: Any, **headers: str) -> int:
        try:
            return browser.client.post(f"{BASE}/open", content=content, headers=headers).status_code
        except (httpx.ReadError, httpx.WriteError):
            return 413  # the server hung up on what it had not read: the answer may be lost with it

    assert status(large) == 413
    assert status(iter([large])) in (403, 413, 415)
    assert status(iter([large]), **form) == 413
    assert browser.get(f"{BASE}/about").status_code == 200


def test_an_unknown_fault_is_a_page_with_a_reference_and_no_details(
    browser: Browser, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    @house.app.get(f"{BASE}/fault-for-test")
    def fault() -> None:
        raise RuntimeError("secret inner words")

    page = browser.get(f"{BASE}/fault-for-test")
    assert page.status_code == 500
    assert "secret inner words" not in page.text
    assert "Traceback" not in page.text
    found = re.search(r"Reference ([0-9a-f]{8})", text_of(page))
    assert found is not None
    assert found[1] in caplog.text


def test_a_results_evidence_is_a_table_of_figures(house: House) -> None:
    view = house.service.dataset_page(person("all", OPEN), house.pid(OPEN))
    assert isinstance(view, DatasetView)
    provenance = Provenance(
        who="Ines", made_at=house.clock(), software=(), parameters=(), environment="local", image="local",
        plan_id=None, sha256="0" * 64, evidence=(("frames_corrupt", "3"), ("read_by", "<b>HDF5</b>")),
    )  # fmt: skip
    pages = Pages(house.config, house.clock, house.clock, find_addresses(house.config, hub_styles_here=True))
    request = Request({"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []})
    record = house.service.publication.dataset(None, view.pid)
    assert record is not None
    facts: dict[str, Any] = {"landing": Landing(record, "https://facility.example/")}
    facts |= {"open_address": None, "step_up_address": None, "may_read_audit": False}
    shown = {}
    for told in (provenance, replace(provenance, evidence=())):
        dataset = replace(view, kind="product", provenance=told)
        answer = pages.answer(request, "dataset.html", None, dataset=dataset, **facts)
        shown[told] = bytes(answer.body).decode()
    assert '<th scope="row" class="fw-normal">frames corrupt</th><td>3</td>' in shown[provenance]
    assert "&lt;b&gt;HDF5" in shown[provenance]
    assert 'aria-label="Evidence"' not in shown[replace(provenance, evidence=())]
