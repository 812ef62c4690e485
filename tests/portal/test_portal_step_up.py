"""Data that needs a second factor: the portal's pages say so, lead to that login, and back again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml

from beamhub_catalogue.people import as_of_now
from beamhub_core.rights import Refusal
from portal.portal_parts import (  # the folder of these tests, not the room
    BASE,
    EMBARGOED,
    Browser,
    House,
    person,
    running_house,
    text_of,
)

MFA, HARDWARE = "https://refeds.org/profile/mfa", "https://example.org/strong?a=b&c"


@pytest.fixture(scope="module")
def strict_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose embargoed data needs one of two authentication contexts."""
    folder = tmp_path_factory.mktemp("strict")
    with running_house(folder) as house:
        path = folder / "policy.yaml"
        policy = yaml.safe_load(path.read_text())
        policy["version"] = "test-2"
        policy["classes"]["standard"]["required_acr"] = [MFA, HARDWARE]
        path.write_text(yaml.safe_dump(policy))
        house.service.rules.refresh()
        yield house


@pytest.fixture
def browser(strict_house: House) -> Iterator[Browser]:
    """A browser of the strict house."""
    one = Browser(strict_house)
    yield one
    one.close()


def step_up(page: httpx.Response) -> dict[str, str]:
    """What the page's button asks the hub for."""
    found = re.search(r'id="step-up" href="([^"]+)"', page.text)
    assert found is not None, text_of(page)
    address = urlsplit(unescape(found[1]))
    assert (address.scheme, address.netloc, address.path) == ("", "", "/hub/login")
    return {name: values[0] for name, values in parse_qs(address.query).items()}


def form_address(house: House) -> str:
    """The form that opens the embargoed dataset."""
    return f"{BASE}/open?pid={house.pid(EMBARGOED)}&template=powder"


def test_the_form_refuses_and_leads_to_the_stronger_login_and_back(
    strict_house: House, browser: Browser
) -> None:
    page = browser.log_in(person("ines"), form_address(strict_house))
    assert page.status_code == 403
    assert "This data needs a login with a second factor" in text_of(page)
    wanted = step_up(page)
    assert wanted["acr"] == f"{MFA} {HARDWARE}"
    assert wanted["next"] == form_address(strict_house)


def test_a_form_sent_too_late_leads_back_to_the_form(strict_house: House, browser: Browser) -> None:
    browser.log_in(person("ines"))
    pid = strict_house.pid(EMBARGOED)
    answer = browser.send(f"{BASE}/open", pid=pid, template="powder", _xsrf=browser.xsrf())
    assert answer.status_code == 303
    back = browser.get(answer.headers["location"])
    assert back.status_code == 403
    sent = parse_qs(urlsplit(step_up(back)["next"]).query)
    assert sent == {"pid": [pid], "template": ["powder"]}
    assert strict_house.hub.starts == 0


def test_the_datasets_own_page_leads_there_too(strict_house: House, browser: Browser) -> None:
    browser.log_in(person("ines"))
    page = browser.get(f"{BASE}/datasets/{strict_house.pid(EMBARGOED)}")
    assert page.status_code == 200
    assert step_up(page)["next"] == f"{BASE}/datasets/{strict_house.pid(EMBARGOED)}"


def test_either_context_opens_the_data_and_no_button_is_left(strict_house: House, browser: Browser) -> None:
    strong = person("ines").model_copy(update={"acr": HARDWARE})
    page = browser.log_in(strong, form_address(strict_house))
    assert page.status_code == 200
    assert "step-up" not in page.text


@pytest.mark.parametrize("subject", ["oscar", None])
def test_who_gains_nothing_by_it_is_not_told_of_it(
    strict_house: House, browser: Browser, subject: str | None
) -> None:
    if subject is not None:
        browser.log_in(person(subject))
    page = browser.get(f"{BASE}/datasets/{strict_house.pid(EMBARGOED)}")
    assert "step-up" not in page.text
    assert "second factor" not in page.text


def test_a_refusal_names_the_contexts_only_where_they_help() -> None:
    known = {"code": "not_a_member", "subject": "", "reason": "", "reference": "r"}
    assert Refusal.model_validate(known).required_acr == ()


def test_a_guest_stays_a_guest_however_old_the_word_is(strict_house: House) -> None:
    login = strict_house.config.login
    guest = person("anna").model_copy(update={"roles": ("guest", "trainer"), "assurance": ("x",)})
    later = datetime.now(UTC) + timedelta(hours=login.grace_h + 1)
    aged = as_of_now(guest, login, later)
    assert aged is not None
    assert (aged.roles, aged.assurance, aged.entitlements) == (("guest",), (), ())
