"""The page on which a person reads what is recorded, and an investigator what touched the proposal."""

from __future__ import annotations

from beamhub_catalogue.audit import Context, record
from portal.portal_parts import BASE, EMBARGOED, TEAM, Browser, House, person, text_of  # the tests' folder


def entry(house: House, account: str, subject: str = "", proposal: str = EMBARGOED) -> None:
    """Something that somebody did to a proposal."""
    part = {"proposal": proposal, "pid": subject, "because": "membership"}
    with house.service.database.writing() as session:
        record(session, "decision", subject, house.clock(), account=account, decision="granted", parts=[part])


def test_nobody_reads_without_a_login(browser: Browser) -> None:
    for address in (f"{BASE}/audit", f"{BASE}/audit/proposals/{EMBARGOED}"):
        page = browser.get(address)
        assert page.is_redirect
        assert "/login" in page.headers["location"]


def test_a_person_reads_their_own_entries_and_no_others(browser: Browser, house: House) -> None:
    colin, mia = person("colin", TEAM), person("mia")
    browser.log_in(colin)
    entry(house, house.introduce(mia), "test:MA-2:of-mia")
    entry(house, colin.account, "test:MA-2:of-colin")
    page = browser.get(f"{BASE}/audit")
    assert page.status_code == 200
    assert "of-colin" in page.text
    assert "Account became known here" in text_of(page)
    assert "of-mia" not in page.text
    assert mia.account not in page.text


def test_what_was_recorded_is_shown_as_text(browser: Browser, house: House) -> None:
    ines = person("ines")
    browser.log_in(ines)
    entry(house, ines.account, "<script>alert(1)</script>\"'&")
    for address in (f"{BASE}/audit", f"{BASE}/audit/proposals/{EMBARGOED}"):
        page = browser.get(address)
        assert "<script>alert" not in page.text
        assert "<script>alert(1)</script>" in text_of(page)


def test_an_investigator_reads_the_proposals_entries_with_the_teams_names(
    browser: Browser, house: House
) -> None:
    mate, stranger = person("mate", EMBARGOED), person("stranger")
    entry(house, house.introduce(mate), "test:MA-2:mates")
    with house.service.database.writing() as session:
        context = Context(proposals=[EMBARGOED])
        record(
            session,
            "decision",
            "",
            house.clock(),
            account=house.introduce(stranger),
            context=context,
            decision="embargoed",
        )
    browser.log_in(person("ines"))
    text = text_of(browser.get(f"{BASE}/audit/proposals/{EMBARGOED}"))
    assert mate.display_name in text
    assert "somebody outside the team" in text
    assert stranger.display_name not in text
    dataset = browser.get(f"{BASE}/datasets/{house.pid(EMBARGOED)}").text
    assert f"{BASE}/audit/proposals/{EMBARGOED}" in dataset


def test_for_others_a_proposals_record_looks_like_one_that_is_not_there(
    browser: Browser, house: House
) -> None:
    browser.log_in(person("colin", EMBARGOED, TEAM))
    pages = [browser.get(f"{BASE}/audit/proposals/{name}") for name in (EMBARGOED, TEAM, "ZZ-9")]
    assert [page.status_code for page in pages] == [404, 404, 404]
    assert len({len(page.text) for page in pages}) == 1
    assert f"{BASE}/audit/proposals" not in browser.get(f"{BASE}/datasets/{house.pid(EMBARGOED)}").text


def test_pages_lead_to_older_entries(browser: Browser, house: House) -> None:
    who = person("many")
    browser.log_in(who)
    for i in range(60):
        entry(house, who.account, f"test:MA-2:number-{i}-")
    page = browser.get(f"{BASE}/audit")
    assert "number-59-" in page.text
    assert "number-1-" not in page.text
    address = page.text.split('rel="next"')[0].rpartition('href="')[2].split('"')[0]
    older = browser.get(address.replace("&amp;", "&"))
    assert "number-1-" in older.text
    assert "Newest" in older.text
    for odd in ("x", "-1", "9" * 40, "%00"):
        assert browser.get(f"{BASE}/audit?before={odd}").status_code == 200


def test_the_pages_that_fit_lead_there(browser: Browser) -> None:
    browser.log_in(person("ines"))
    for address in (f"{BASE}/about", f"{BASE}/sessions"):
        assert f'href="{BASE}/audit"' in browser.get(address).text
