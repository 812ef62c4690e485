"""One account, several identities: each shown at its own provider, in one browser, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from beamhub_core.identity import account_name
from hub.hostile_provider import CLIENT_ID, HostileProvider, hostile_provider
from hub.hub_parts import NAMESPACE, RunningHub, browser, login_cookies, running_hub

pytestmark = pytest.mark.hub

OTHER = "urn:geant:other.example"


class TwoProviders:
    """A hub that knows two providers."""

    def __init__(self, hub: RunningHub, other: HostileProvider) -> None:
        self.hub, self.first, self.other = hub, hub.provider, other
        self.mine = account_name(self.first.issuer, "ines")
        self.others = account_name(other.issuer, "if42")

    def log_in(self, client: httpx.Client, name: str) -> httpx.Response:
        """Walk from the choice to where the login ends."""
        return client.get(f"{self.hub.public_url}/hub/login/{name}", params={"next": "/hub/home"})

    def form(self, client: httpx.Client, action: str, **fields: str) -> httpx.Response:
        """Send a form of the page of identities."""
        page = client.get(f"{self.hub.public_url}/hub/identities")
        token = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert token is not None
        return client.post(f"{self.hub.public_url}{action}", data={"_xsrf": token[1], **fields})

    def link(self, client: httpx.Client) -> httpx.Response:
        """Add an identity of the other provider."""
        return self.form(client, "/hub/login/other/link")

    def proposals(self) -> set[str]:
        """The proposals that web knows of the account."""
        return {item["subgroups"][0] for item in self.hub.web.principals[self.mine]["entitlements"]}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProviders]:
    with ExitStack() as stack:
        other = stack.enter_context(hostile_provider())

        def change(fields: dict[str, Any]) -> None:
            first = fields["login"]["providers"][0]
            secret = first["client_secret_file"]
            fields["login"]["providers"].append(
                {
                    "name": "other",
                    "title": "Other community",
                    "issuer": other.issuer,
                    "client_id": CLIENT_ID,
                    "client_secret_file": secret,
                    "entitlement_namespaces": [OTHER],
                    "unsafe_allow_http": True,
                }
            )

        hub = stack.enter_context(running_hub(tmp_path_factory.mktemp("hub"), change=change))
        yield TwoProviders(hub, other)


@pytest.fixture
def two(platform: TwoProviders) -> TwoProviders:
    platform.first.reset().userinfo["entitlements"] = [f"{NAMESPACE}:group:proposals:MA-1"]
    script = platform.other.reset()
    script.subject = "if42"
    script.userinfo |= {"name": "I. Ferreira", "entitlements": [f"{OTHER}:group:proposals:XY-2"]}
    platform.hub.web.links.clear()
    platform.hub.web.principals.clear()
    return platform


def test_the_choice_offers_both_and_remembers_the_last(two: TwoProviders) -> None:
    with browser() as client:
        page = client.get(f"{two.hub.public_url}/hub/login").text
        assert page.index("Community login") < page.index("Other community")
        two.log_in(client, "other")
        client.cookies.delete("jupyterhub-hub-login")
        client.cookies.delete("jupyterhub-session-id")
        page = client.get(f"{two.hub.public_url}/hub/login").text
        assert page.index("Other community") < page.index("Community login")
        assert "used last time" in page


def test_an_identity_that_was_linked_logs_in_to_the_same_account(two: TwoProviders) -> None:
    with browser() as client:
        assert two.log_in(client, "hostile").url.path == "/hub/home"
        linked = two.link(client)
        assert linked.url.path == "/hub/identities", linked.text
        assert "Other community" in linked.text
    assert two.proposals() == {"MA-1", "XY-2"}
    with browser() as again:
        home = two.log_in(again, "other")
        assert home.url.path == "/hub/home"
        assert "Ines Ferreira" in home.text
        assert "/hub/identities" in home.text
    principal = two.hub.web.principals[two.mine]
    assert (principal["issuer"], principal["subject"]) == (two.first.issuer, "ines")
    assert principal["linked"] == [{"issuer": two.other.issuer, "subject": "if42"}]
    assert two.others not in two.hub.web.principals


def test_an_identity_that_was_removed_is_an_account_of_its_own_again(two: TwoProviders) -> None:
    with browser() as client:
        two.log_in(client, "hostile")
        two.link(client)
        assert two.form(client, "/hub/identities", account=two.others).url.path == "/hub/identities"
        assert two.proposals() == {"MA-1"}
    with browser() as again:
        assert "I. Ferreira" in two.log_in(again, "other").text
    assert two.others in two.hub.web.principals


def test_the_assurance_of_one_identity_is_not_lent_to_another(two: TwoProviders) -> None:
    two.other.script.userinfo["eduperson_assurance"] = ["https://refeds.org/assurance/IAP/high"]
    two.other.script.claims["acr"] = "https://refeds.org/profile/mfa"
    with browser() as client:
        two.log_in(client, "hostile")
        two.link(client)
        principal = two.hub.web.principals[two.mine]
        assert (principal["assurance"], principal["acr"]) == ([], None)
        two.log_in(client, "other")
    assert two.hub.web.principals[two.mine]["acr"] == "https://refeds.org/profile/mfa"


def test_nobody_links_without_a_form_of_ours(two: TwoProviders) -> None:
    with browser() as client:
        two.log_in(client, "hostile")
        forged = client.post(f"{two.hub.public_url}/hub/login/other/link")
        typed = client.get(f"{two.hub.public_url}/hub/login/other/link")
    assert forged.status_code == 403
    assert typed.url.path == "/hub/identities"
    assert two.hub.web.links == {}


def test_an_answer_for_one_account_is_not_taken_by_another(two: TwoProviders) -> None:
    with browser() as client:
        two.log_in(client, "hostile")
        page = client.get(f"{two.hub.public_url}/hub/identities")
        token = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert token is not None
        client.follow_redirects = False
        start = client.post(f"{two.hub.public_url}/hub/login/other/link", data={"_xsrf": token[1]})
        callback = client.get(start.headers["location"]).headers["location"]
        client.follow_redirects = True
        two.first.script.subject = "oscar"
        client.cookies.delete("jupyterhub-hub-login")
        two.log_in(client, "hostile")
        answer = client.get(callback)
    assert answer.status_code == 403
    assert two.hub.web.links == {}


def test_a_callback_of_one_provider_takes_no_attempt_of_another(two: TwoProviders) -> None:
    with browser() as client:
        client.follow_redirects = False
        start = client.get(f"{two.hub.public_url}/hub/login/other")
        callback = client.get(start.headers["location"]).headers["location"]
        client.follow_redirects = True
        answer = client.get(callback.replace("/login/other/", "/login/hostile/"))
        assert answer.status_code == 403
        assert login_cookies(client) == set()


@pytest.mark.parametrize("path", ["login/nobody", "login/nobody/callback", "login/other/callback"])
def test_an_address_without_a_login_is_a_page(two: TwoProviders, path: str) -> None:
    with browser() as client:
        answer = client.get(f"{two.hub.public_url}/hub/{path}")
        assert answer.status_code == (404 if "nobody" in path else 403)
        assert 'data-status="40' in answer.text
        assert login_cookies(client) == set()
