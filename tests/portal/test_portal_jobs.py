"""Long jobs on *My sessions*: how far they are, in words that their person chose and nobody executes."""

from __future__ import annotations

import secrets

from sqlalchemy import select

from beamhub_catalogue.models import SessionRow
from portal.portal_parts import BASE, Browser, House, person
from portal.test_portal_desktop import running_session

JOB = {
    "id": "0" * 16,
    "title": "<b>night</b>",
    "phase": "running",
    "n_done": 3,
    "n_units": 8,
    "text": "3 of 8 frames",
}


def test_jobs_show_how_far_they_are_and_what_a_title_says_is_text(browser: Browser, house: House) -> None:
    browser.log_in(person("ines"))
    name = f"d-{secrets.token_hex(4)}"
    running_session(house, name, environment="standard", template=None)
    assert "<dt>Jobs</dt>" not in browser.get(f"{BASE}/sessions").text
    with house.service.database.writing() as session:
        row = session.scalars(select(SessionRow).where(SessionRow.server_name == name)).one()
        row.jobs = [JOB]
    page = browser.get(f"{BASE}/sessions").text
    assert "&lt;b&gt;night&lt;/b&gt;: running" in page
    assert "<b>night" not in page
    assert '<progress max="8" value="3"' in page
    assert "3 of 8 frames" in page

    house.hub.servers.clear()
    with house.service.database.writing() as session:
        row = session.scalars(select(SessionRow).where(SessionRow.server_name == name)).one()
        row.state, row.ended_at = "ended", row.created_at  # other tests share the house
    assert "goes on when you open this again" in browser.get(f"{BASE}/sessions").text
