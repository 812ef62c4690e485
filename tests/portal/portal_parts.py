"""A real portal on a real catalogue with real files, and a browser that walks between it and a hub."""

from __future__ import annotations

import html
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
import yaml
from fastapi import FastAPI

from beamhub_catalogue.service import CatalogueService
from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.identity import Entitlement, Principal, account_name
from beamhub_core.techniques import POWDER_DIFFRACTION
from beamhub_portal import build_app
from beamhub_reduction.synthetic.powder import PowderOptions, write_powder_scan
from portal.hub_double import HubDouble, RunningHub  # the folder of these tests, not the room
from postgresql_server import databases

ISSUER = "https://provider.example/oidc"
NAMESPACE = "urn:geant:provider.example"
BASE = "/services/web"
EVIL_TITLE = "<script>alert(1)</script> & \"quotes\" 'too'"
OPEN, EMBARGOED, TEAM = "OP-1", "MA-2", "TO-3"
SECRETS = ("provider", "proxy", "crypt-key", "hub-cookie", "web-cookie", "web-service", "hub-client")


@dataclass
class Clock:
    """The present, which a test may move."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def person(subject: str, *proposals: str) -> Principal:
    """Somebody with membership by entitlement."""
    return Principal(
        issuer=ISSUER,
        subject=subject,
        account=account_name(ISSUER, subject),
        display_name=f"{subject.title()} Example",
        entitlements=tuple(
            Entitlement(namespace=NAMESPACE, group="proposals", subgroups=(name,), role="member")
            for name in proposals
        ),
        checked_at=datetime.now(UTC),
    )


def write_facility(folder: Path, public_url: str, hub_api_url: str) -> FacilityConfig:
    """A facility with three proposals: open, embargoed, and embargoed with metadata for the team only."""
    for name in ("pool", "web", "secrets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in SECRETS:
        (folder / "secrets" / name).write_text(name.encode().hex().ljust(64, "0")[:64] + "\n")
    classes = {
        "open": {"embargo_months": 0, "metadata": "public", "license": "CC-BY-4.0"},
        "standard": {"embargo_months": 36, "metadata": "public", "license": "CC-BY-4.0"},
        "confidential": {"embargo_months": 36, "metadata": "team"},
    }
    policy = {"version": "test-1", "timezone": "Europe/Paris", "classes": classes}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    ended = (datetime.now(UTC).date() - timedelta(days=60)).isoformat()
    begun = (datetime.now(UTC).date() - timedelta(days=90)).isoformat()
    rows = [
        f"{OPEN},Calibration,open,bl09,{begun},{ended}",
        f"{EMBARGOED},Strain under load,standard,bl09,{begun},{ended}",
        f"{TEAM},Secret alloy,confidential,bl09,{begun},{ended}",
    ]
    header = "proposal,title,class,instrument,start,end"
    (folder / "proposals.csv").write_text("\n".join([header, *rows]) + "\n")
    header = "proposal,issuer,subject,orcid,facility_account,name,role,from,until"
    (folder / "members.csv").write_text(f"{header}\n{EMBARGOED},{ISSUER},ines,,,Ines Example,pi,,\n")
    path = folder / "facility.yaml"
    path.write_text(yaml.safe_dump(_config_data(folder, public_url, hub_api_url), sort_keys=False))
    return read_config(path)


def _config_data(folder: Path, public_url: str, hub_api_url: str) -> dict[str, Any]:
    def secret(name: str) -> str:
        return str(folder / "secrets" / name)

    pool = str(folder / "pool")
    return {
        "name": "Test facility",
        "short_name": "test",
        "timezone": "Europe/Paris",
        "pools": [{"name": "pool", "root": pool, "target": pool}],
        "login": {
            "providers": [
                {
                    "name": "community",
                    "title": "Community login",
                    "issuer": ISSUER,
                    "client_id": "beamhub",
                    "client_secret_file": secret("provider"),
                    "entitlement_namespaces": [NAMESPACE],
                }
            ]
        },
        "hub": {
            "public_url": public_url,
            "database_url": f"sqlite:///{folder / 'hub.sqlite'}",
            "state_folder": str(folder),
            "crypt_key_file": secret("crypt-key"),
            "cookie_secret_file": secret("hub-cookie"),
            "web_client_token_file": secret("hub-client"),
            "proxy": {"api_url": "http://127.0.0.1:8001", "token_file": secret("proxy")},
        },
        "web": {
            "internal_url": "http://127.0.0.1:8082",
            "hub_api_url": hub_api_url,
            "hub_service_token_file": secret("web-service"),
            "cookie_secret_file": secret("web-cookie"),
            "database_url": databases.url(folder),
            "state_folder": str(folder / "web"),
            "clients": [
                {
                    "name": "hub",
                    "token_file": secret("hub-client"),
                    "scopes": ["principals:write", "plans:write"],
                }
            ],
        },
        "catalogue": {
            "policy_file": str(folder / "policy.yaml"),
            "user_offices": [
                {
                    "name": "office",
                    "kind": "csv",
                    "proposals": str(folder / "proposals.csv"),
                    "members": str(folder / "members.csv"),
                }
            ],
            "harvest_roots": [{"pool": "pool"}],
        },
        "sessions": {
            "places": [{"name": "here", "backend": "local", "pools": ["pool"]}],
            "profiles": [
                {"name": "small", "title": "Small", "cpu": 1, "memory_gib": 2},
                {"name": "huge", "title": "Huge", "cpu": 8, "memory_gib": 64, "roles": ["admin"]},
            ],
            "environments": [
                {"name": "standard", "title": "Standard", "image": "local"},
                # Offered to nobody, so that the other tests have one choice.
                {"name": "desk", "title": "Desktop", "image": "local", "roles": [], "desktop": True},
            ],
            "templates": [
                {"name": "powder", "title": "Powder", "technique": POWDER_DIFFRACTION, "file": "a/b.ipynb"},
                {"name": "other", "title": "Other", "technique": "x", "file": "c/d.ipynb"},
            ],
            "templates_folder": str(folder),
            "homes_folder": str(folder),
            "state_folder": str(folder),
            "web_url": "http://127.0.0.1:8082",
            "queue": {"look_interval_s": 3600.0},  # the tests look themselves
        },
    }


def write_scans(pool: Path) -> None:
    """One small scan in each proposal; the open one has a title that would run as script."""
    options = {"scan": PowderOptions(), "evil": PowderOptions(title=EVIL_TITLE)}
    write_powder_scan(pool, proposal=OPEN, sample="evil", seed=1, n_frames=2, options=options["evil"])
    write_powder_scan(pool, proposal=EMBARGOED, sample="load", seed=2, n_frames=2, options=options["scan"])
    write_powder_scan(pool, proposal=TEAM, sample="alloy", seed=3, n_frames=2, options=options["scan"])


@dataclass
class House:
    """A portal with its catalogue and its hub."""

    config: FacilityConfig
    service: CatalogueService
    hub: HubDouble
    app: FastAPI
    clock: Clock
    public: str
    """Where the portal is served."""

    def pid(self, proposal: str) -> str:
        """The pid of the only dataset of a proposal, as somebody on its team sees it."""
        found = self.service.search(person("all", OPEN, EMBARGOED, TEAM), f"{proposal}")
        return next(hit.pid for hit in found.hits if hit.proposal == proposal)

    def introduce(self, principal: Principal) -> str:
        """What the hub does at a login: tell web who the account is. The answer is the account."""
        token = self.config.web.clients[0].token_file.read_text().strip()
        answer = httpx.put(
            f"{self.public}/internal/principals/{principal.account}",
            json=principal.model_dump(mode="json"),
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 204
        return principal.account


@contextmanager
def serving(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """The application behind a real server in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, server_header=False))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server ended while starting"
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@contextmanager
def running_house(folder: Path, *, user_cache_s: float = 0.0) -> Iterator[House]:
    """A house with harvested files; nothing of it outlives the block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        public = f"http://127.0.0.1:{listener.getsockname()[1]}"
        secret = b"web-service".hex().ljust(64, "0")[:64]
        hub = HubDouble(callback=f"{public}{BASE}/oauth_callback", client_secret=secret)
        running = RunningHub(hub)
        clock = Clock()
        config = write_facility(folder, public, hub.api_url)
        write_scans(folder / "pool")
        service = CatalogueService(config, clock)
        try:
            report = service.harvester.scan()
            assert not report.problems, report.problems
            app = build_app(config, service, user_cache_s=user_cache_s)
            with serving(app, listener):
                yield House(config, service, hub, app, clock, public)
        finally:
            service.stop()
            running.stop()


@dataclass
class Browser:
    """Walks between the portal and the hub, as one host to its cookies."""

    house: House
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.house.public, timeout=20)

    def close(self) -> None:
        """Give the connections back."""
        self.client.close()

    def get(self, address: str, **headers: str) -> httpx.Response:
        """One answer, no redirect followed."""
        return self.client.get(address, headers=headers)

    def visit(self, address: str) -> httpx.Response:
        """The page at which an address ends, through the hub's login where it leads there."""
        for _ in range(8):
            parts = urlsplit(address)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            if parts.path.startswith("/hub/"):
                hub = urlsplit(self.house.hub.api_url)
                answer = httpx.get(f"{hub.scheme}://{hub.netloc}{path}")
            else:
                answer = self.client.get(path)
            if not answer.is_redirect:
                return answer
            address = answer.headers["location"]
        raise AssertionError(f"too many redirects, the last to {address}")

    def log_in(self, principal: Principal, address: str = f"{BASE}/login") -> httpx.Response:
        """Log in at the hub as somebody, starting at an address."""
        self.house.hub.person = self.house.introduce(principal)
        return self.visit(address)

    def send(self, address: str, **fields: str) -> httpx.Response:
        """Send a form as one of the portal's pages does."""
        return self.client.post(address, data=fields)

    def xsrf(self) -> str:
        """The token of this browser's forms."""
        found = re.search(r'name="_xsrf" value="([0-9a-f]+)"', self.get(f"{BASE}/").text)
        assert found is not None, "nobody is logged in"
        return found[1]


def text_of(page: httpx.Response) -> str:
    """The visible text of a page, white space folded."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page.text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
