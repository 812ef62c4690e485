"""Sessions whose image has a desktop: where My sessions and the launch page lead."""

from __future__ import annotations

import secrets
from datetime import timedelta

import httpx
import pytest

from beamhub_core.clock import utc_now
from beamhub_core.session import PlannedTemplate
from beamhub_core.word import digest
from contracts.spawner_parts import docker_plan
from portal.hub_double import Server  # the folder of these tests, not the room
from portal.portal_parts import BASE, Browser, House, person

POWDER = PlannedTemplate(name="powder", digest="0" * 64, file="a/b.ipynb", parameters={})


def running_session(house: House, name: str, *, environment: str, template: PlannedTemplate | None) -> None:
    """A session of Ines that runs, as hub and web know it."""
    account, now = person("ines").account, utc_now()
    plan = docker_plan(uid=4711, gid=4712).model_copy(
        update={
            "id": secrets.token_hex(16),
            "account": account,
            "server_name": name,
            "environment": environment,
            "template": template,
            "created_at": now,
            "expires_at": now + timedelta(hours=1),
        }
    )
    plan = plan.model_copy(update={"place": plan.place.model_copy(update={"name": "here"})})
    token = house.config.web.clients[0].token_file.read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{house.public}/internal/sessions/{plan.id}"
    body = {"plan": plan.model_dump(mode="json"), "plan_hash": digest(plan)}
    answer = httpx.put(url, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    answer = httpx.post(f"{url}/update", json={"state": "running"}, headers=headers)
    assert answer.status_code == 204, answer.text
    house.hub.servers.setdefault(account, {})[name] = Server(ready=True)


@pytest.mark.parametrize(
    ("environment", "template", "has_link", "opens"),
    [
        ("desk", None, True, "desktop/"),
        ("desk", POWDER, True, "beamhub/open"),
        ("standard", None, False, "beamhub/open"),
    ],
)
def test_a_session_with_a_desktop_leads_there(
    browser: Browser,
    house: House,
    environment: str,
    template: PlannedTemplate | None,
    has_link: bool,
    opens: str,
) -> None:
    browser.log_in(person("ines"))
    name = f"d-{secrets.token_hex(4)}"
    running_session(house, name, environment=environment, template=template)
    path = f"/user/{person('ines').account}/{name}/"
    status = browser.get(f"{BASE}/sessions/{name}/launch/status").json()
    assert (status["state"], status["url"]) == ("ready", path + opens)
    page = browser.get(f"{BASE}/sessions").text
    assert (f'href="{path}desktop/"' in page) is has_link
    assert f'href="{path}beamhub/open"' in page
