"""The same login, start and stop against JupyterHub itself, in a process of its own."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest

from beamhub_catalogue.service import CatalogueService
from beamhub_core.session import server_name_for
from beamhub_portal import build_app
from portal.portal_parts import (  # the folder of these tests, not the room
    BASE,
    EMBARGOED,
    Clock,
    House,
    person,
    serving,
    text_of,
    write_facility,
    write_scans,
)
from portal.real_jupyterhub import PARTS, running_jupyterhub

pytestmark = pytest.mark.hub
pytest.importorskip("jupyterhub", reason="JupyterHub is not installed")

# A hub without proxy and with servers that are a listening socket: what lies between portal and hub is real.
HUB_CONFIG = (
    PARTS
    + """
class SocketSpawner(Spawner):
    _listening = None
    async def start(self):
        if self.user_options.get("template") == "other":
            full = "Both places are full. [full, reference ab12cd34]"
            raise SpawnException(full, reason="full", status_code=503)
        self._listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        return "http://127.0.0.1:%d" % self._listening.sockets[0].getsockname()[1]
    async def poll(self):
        return None if self._listening else 0
    async def stop(self, now=False):
        if self._listening:
            self._listening.close()
            self._listening = None

c.JupyterHub.spawner_class = SocketSpawner
c.JupyterHub.oauth_require_pkce = True
c.JupyterHub.extra_user_scopes = {{"access:services!service=web"}}
c.JupyterHub.services = [{{
    "name": "web",
    "api_token": {token!r},
    "oauth_redirect_uri": "{public}{base}/oauth_callback",
    "oauth_no_confirm": True,
    "oauth_client_allowed_scopes": [
        "access:services!service=web", "read:users!user", "servers!user", "access:servers!user"
    ],
}}]
"""
)


@dataclass
class RealHub:
    """JupyterHub on a loopback port."""

    url: str

    def log_in(self, account: str) -> httpx.Client:
        """A browser that is logged in at the hub."""
        client = httpx.Client(base_url=self.url, follow_redirects=False, timeout=20)
        form = client.get("/hub/login").text
        xsrf = re.search(r'name="_xsrf" value="([^"]+)"', form)
        assert xsrf is not None
        fields = {"username": account, "password": "x", "_xsrf": xsrf[1]}
        assert client.post("/hub/login", data=fields).status_code == 302
        return client


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, RealHub]]:
    """A portal and a real hub that know each other."""
    folder = tmp_path_factory.mktemp("real")
    with socket.socket() as listener, socket.socket() as probe:
        listener.bind(("127.0.0.1", 0))
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        public = f"http://127.0.0.1:{listener.getsockname()[1]}"
        hub = RealHub(f"http://127.0.0.1:{port}")
        config = write_facility(folder, public, f"{hub.url}/hub/api")
        write_scans(folder / "pool")
        text = HUB_CONFIG.format(
            cookie=str(folder / "cookie"),
            port=port,
            public=public,
            token=config.web.hub_service_token_file.read_text().strip(),
            base=BASE,
        )
        service = CatalogueService(config, Clock())
        try:
            service.harvester.scan()
            app = build_app(config, service, user_cache_s=0.0)
            with running_jupyterhub(folder, text, port), serving(app, listener):
                yield House(config, service, None, app, Clock(), public), hub  # type: ignore[arg-type]
        finally:
            service.stop()


@dataclass
class TwoHosts:
    """A browser whose hub and portal lie on two ports; each keeps its own cookies."""

    portal: httpx.Client
    hub: httpx.Client

    def visit(self, address: str) -> httpx.Response:
        """The page at which an address ends."""
        for _ in range(10):
            parts = urlsplit(address)
            client = self.hub if parts.path.startswith("/hub/") else self.portal
            answer = client.get(parts.path + (f"?{parts.query}" if parts.query else ""))
            if not answer.is_redirect:
                return answer
            address = answer.headers["location"]
        raise AssertionError(f"too many redirects, the last to {address}")

    def send(self, address: str, **fields: str) -> httpx.Response:
        """Send one of our forms."""
        found = re.search(r'name="_xsrf" value="([0-9a-f]+)"', self.visit(f"{BASE}/").text)
        assert found is not None, "nobody is logged in"
        return self.portal.post(address, data={"_xsrf": found[1], **fields})


@pytest.fixture
def ines(parts: tuple[House, RealHub]) -> Iterator[TwoHosts]:
    """The principal investigator, logged in at the portal through the hub."""
    house, hub = parts
    account = house.introduce(person("ines"))
    browser = TwoHosts(httpx.Client(base_url=house.public, timeout=30), hub.log_in(account))
    page = browser.visit(f"{BASE}/login")
    assert "Ines Example" in text_of(page), page.text
    yield browser
    browser.portal.close()
    browser.hub.close()


def _until(ines: TwoHosts, address: str, state: str) -> dict[str, str]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status: dict[str, str] = ines.portal.get(f"{address}/status").json()
        if status["state"] == state:
            return status
        time.sleep(0.05)
    raise AssertionError(f"{status} instead of {state}")


def test_a_person_starts_opens_again_and_stops_a_server(parts: tuple[House, RealHub], ines: TwoHosts) -> None:
    house, _ = parts
    pid = house.pid(EMBARGOED)
    name = server_name_for((pid,))
    launch = f"{BASE}/sessions/{name}/launch"
    started = ines.send(f"{BASE}/open", pid=pid, template="powder", profile="small")
    assert (started.status_code, started.headers.get("location")) == (303, launch)
    status = _until(ines, launch, "ready")
    assert status["url"] == f"/user/{person('ines').account}/{name}/beamhub/open"
    again = ines.send(f"{BASE}/open", pid=pid, template="powder", profile="small")
    assert (again.status_code, again.headers.get("location")) == (303, launch)
    assert "Running" in text_of(ines.visit(f"{BASE}/sessions"))
    assert ines.send(f"{BASE}/sessions/{name}/stop").status_code == 303
    _until(ines, launch, "stopped")


def test_a_refusal_of_the_spawner_is_a_page(parts: tuple[House, RealHub], ines: TwoHosts) -> None:
    answer = ines.send(f"{BASE}/open", pid=parts[0].pid(EMBARGOED), template="other", profile="small")
    assert answer.status_code == 503
    assert "Both places are full." in text_of(answer)
    assert "ab12cd34" in answer.text
    launch = f"{BASE}/sessions/{server_name_for((parts[0].pid(EMBARGOED),))}/launch"
    assert _until(ines, launch, "failed")
    assert "ab12cd34" in ines.visit(launch).text


def test_logging_out_at_the_hub_ends_the_login_here(parts: tuple[House, RealHub], ines: TwoHosts) -> None:
    assert "Ines Example" in text_of(ines.visit(f"{BASE}/"))
    ines.hub.get("/hub/logout", headers={"Sec-Fetch-Site": "same-origin"})
    assert "Ines Example" not in text_of(ines.portal.get(f"{BASE}/"))
    assert ines.portal.get(f"{BASE}/sessions").status_code == 303
