"""What programs read of a landing page: forms, typed links, linked data, the map of the site."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from lxml import etree, html

from portal.portal_parts import (  # the folder of these tests, not the room
    BASE,
    EMBARGOED,
    EVIL_TITLE,
    OPEN,
    TEAM,
    Browser,
    House,
    person,
)

FORMS = {
    "application/ld+json": "application/ld+json",
    "application/vnd.datacite.datacite+json": "application/vnd.datacite.datacite+json",
    "application/vnd.datacite.datacite+xml": "application/vnd.datacite.datacite+xml",
    "application/x-bibtex": "application/x-bibtex",
    "application/x-research-info-systems": "application/x-research-info-systems",
    "application/vnd.citationstyles.csl+json": "application/vnd.citationstyles.csl+json",
    "text/html,application/ld+json;q=0.9": "text/html",
    "*/*": "text/html",
    "application/ld+json, text/html;q=0.5": "application/ld+json",
    "nonsense;;q=q,,": "text/html",
}


def asked(browser: Browser, path: str, accept: str) -> Any:
    """An answer in the form that was asked for."""
    return browser.client.get(path, headers={"accept": accept})


@pytest.mark.parametrize(("accept", "kind"), FORMS.items(), ids=range(len(FORMS)))
def test_a_landing_page_gives_the_form_that_was_asked_for(
    browser: Browser, house: House, accept: str, kind: str
) -> None:
    answer = asked(browser, f"{BASE}/datasets/{house.pid(OPEN)}", accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert "Accept" in answer.headers["vary"]


def test_linked_data_in_the_page_holds_the_title_and_cannot_run(browser: Browser, house: House) -> None:
    page = browser.get(f"{BASE}/datasets/{house.pid(OPEN)}")
    script = re.search(r'<script type="application/ld\+json">(.*?)</script>', page.text, re.DOTALL)
    assert script is not None
    item = json.loads(script[1])
    assert item["name"] == EVIL_TITLE
    assert len(item["description"]) >= 50
    assert item["isAccessibleForFree"] is True
    assert "<" not in script[1]
    scripts = html.fromstring(page.text).xpath("//script")
    assert {one.get("type") for one in scripts} <= {None, "application/ld+json"}
    assert not any(one.text for one in scripts if one.get("type") is None)


def test_links_in_the_header_lead_to_what_they_say(browser: Browser, house: House) -> None:
    pid = house.pid(OPEN)
    head = browser.client.head(f"{BASE}/datasets/{pid}")
    assert head.status_code == 200
    links = re.findall(r'<([^>]+)> ; rel="([^"]+)"(?: ; type="([^"]+)")?', head.headers["link"])
    relations = {relation for _, relation, _ in links}
    assert {"cite-as", "describedby", "type", "collection", "item", "license", "linkset"} <= relations
    for address, relation, kind in links:
        if relation in ("describedby", "linkset", "item"):
            answer = browser.get(address.removeprefix(house.public))
            assert answer.status_code == 200, address
            assert answer.headers["content-type"].startswith(kind)
    found = browser.get(f"{BASE}/datasets/{pid}/linkset.json").json()["linkset"][0]
    assert found["anchor"].endswith(f"/datasets/{pid}")
    assert len(found["describedby"]) == 9


def test_an_embargoed_page_gives_metadata_and_no_file(browser: Browser, house: House) -> None:
    path = f"{BASE}/datasets/{house.pid(EMBARGOED)}"
    link = browser.client.head(path).headers["link"]
    assert 'rel="item"' not in link
    item = asked(browser, path, "application/ld+json").json()
    assert item["isAccessibleForFree"] is False
    assert item["conditionsOfAccess"].startswith("embargoed access until ")
    assert {"distribution", "size", "variableMeasured"}.isdisjoint(item)
    browser.log_in(person("ines"))
    assert "size" in asked(browser, path, "application/ld+json").json()


@pytest.mark.parametrize("name", ["datacite.json", "linkset.json", "nothing"])
def test_a_hidden_dataset_has_no_form_as_one_that_never_was(
    browser: Browser, house: House, name: str
) -> None:
    hidden = browser.get(f"{BASE}/datasets/{house.pid(TEAM)}/{name}")
    never = browser.get(f"{BASE}/datasets/test:ZZ-9:x/{name}")
    assert (hidden.status_code, never.status_code) == (404, 404)
    assert browser.get(f"{BASE}/documents/{TEAM}").status_code == 404
    assert browser.get(f"{BASE}/documents/{TEAM}/{name}").status_code == 404


def test_a_proposals_document_lists_its_datasets(browser: Browser, house: House) -> None:
    page = browser.get(f"{BASE}/documents/{OPEN}")
    assert house.pid(OPEN) in page.text
    assert "<script>alert" not in page.text
    attributes = asked(browser, f"{BASE}/documents/{OPEN}", "application/vnd.datacite.datacite+json").json()
    assert attributes["types"]["resourceTypeGeneral"] == "Collection"
    assert [one["relationType"] for one in attributes["relatedIdentifiers"]] == ["HasPart"]


def test_the_map_of_the_site_names_what_everybody_may_see(browser: Browser, house: House) -> None:
    robots = browser.get(f"{BASE}/robots.txt").text
    assert f"Sitemap: {house.public}{BASE}/sitemap.xml" in robots
    index = etree.fromstring(browser.get(f"{BASE}/sitemap.xml").content)
    address = index[0][0].text
    listed = etree.fromstring(browser.get(address.removeprefix(house.public)).content)
    places = [one[0].text for one in listed]
    assert sorted(places) == sorted(
        f"{house.public}{BASE}/datasets/{house.pid(name)}" for name in (OPEN, EMBARGOED)
    )
    assert browser.get(f"{BASE}/sitemap/0.xml").status_code == 404


def test_a_facility_without_the_section_serves_no_harvester(browser: Browser, house: House) -> None:
    assert browser.get("/oai?verb=Identify").status_code == 404
