"""An account with two identities: each is asked about by itself, and gives what its own provider says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from beamhub_core.identity import account_name
from hub.hostile_provider import HostileProvider, hostile_provider  # the folder of these tests, not the room
from hub.hub_parts import NAMESPACE, RunningHub, browser, running_hub
from hub.session_parts import await_that
from hub.test_login_linking import TwoProviders

pytestmark = pytest.mark.hub


def group(name: str) -> list[str]:
    """Membership of one proposal."""
    return [f"{NAMESPACE}:group:proposals:{name}"]


@dataclass
class Linked:
    """A browser whose account has an identity at each of two providers; the first one logged in last."""

    hub: RunningHub
    second: HostileProvider
    client: httpx.Client
    account: str

    def proposals(self) -> list[str]:
        """What web was told of the account last, after the hub was visited."""
        self.client.get(f"{self.hub.public_url}/hub/home")
        principal = self.hub.web.principals.get(self.account, {"entitlements": []})
        return sorted(entitlement["subgroups"][0] for entitlement in principal["entitlements"])


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProviders]:
    """A hub that knows two providers, for people of each test's own."""
    with hostile_provider() as second:

        def add_second(fields: dict[str, Any]) -> None:
            providers = fields["login"]["providers"]
            providers.append({**providers[0], "name": "other", "issuer": second.issuer})

        with running_hub(tmp_path_factory.mktemp("hub"), change=add_second) as hub:
            yield TwoProviders(hub, second)


@pytest.fixture
def person(platform: TwoProviders, request: pytest.FixtureRequest) -> Iterator[Linked]:
    """Somebody who logged in at both providers and linked the two."""
    hub, second, subject = platform.hub, platform.other, request.node.name
    script, its_script = hub.provider.reset(), second.reset()
    script.subject, its_script.subject = subject, f"{subject}-at-home"
    script.userinfo["entitlements"] = group("MA-1")
    its_script.userinfo["entitlements"] = group("MB-1")
    hub.web.removed.clear()
    account = account_name(hub.provider.issuer, subject)
    with browser() as client:
        assert platform.log_in(client, "hostile").url.path == "/hub/home"
        assert platform.link(client).url.path == "/hub/identities"
        assert platform.log_in(client, "hostile").url.path == "/hub/home"
        found = Linked(hub, second, client, account)
        await_that(lambda: found.proposals() == ["MA-1", "MB-1"], "both identities' rights")
        yield found


def test_each_identity_gives_what_its_own_provider_says_now(person: Linked) -> None:
    person.second.script.status["/userinfo"] = 503
    person.hub.provider.script.userinfo["entitlements"] = group("MA-2")
    await_that(lambda: person.proposals() == ["MA-2", "MB-1"], "the last answer of the silent one")
    person.second.script.status.clear()
    person.second.script.userinfo["entitlements"] = group("MB-2")
    await_that(lambda: person.proposals() == ["MA-2", "MB-2"], "both answers")
    person.second.access.clear()
    person.second.refresh.clear()
    person.hub.provider.script.userinfo["entitlements"] = group("MA-3")
    await_that(lambda: person.proposals() == ["MA-3", "MB-2"], "tokens refused say nothing of a person")
    assert person.hub.web.removed == []


def test_an_identity_that_is_denied_is_dropped_at_once_and_the_account_goes_on(person: Linked) -> None:
    person.second.script.userinfo["voperson_id"] = "test@second.example"
    await_that(lambda: person.proposals() == ["MA-1"], "the other identity's rights alone")
    del person.second.script.userinfo["voperson_id"]
    person.hub.provider.script.userinfo["entitlements"] = group("MA-2")
    await_that(lambda: person.proposals() == ["MA-2"], "a dropped identity does not come back by itself")
    assert person.hub.web.removed == []
    page = person.client.get(f"{person.hub.public_url}/hub/home")
    assert page.url.path == "/hub/home"


def test_a_current_identity_that_is_denied_ends_the_account(person: Linked) -> None:
    person.hub.provider.script.userinfo["voperson_id"] = "test@first.example"
    await_that(lambda: person.proposals() == [], "the end")
    assert person.hub.web.removed == [person.account]
