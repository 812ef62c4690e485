"""Parts that the spawner tests share: a facility on disk, and a stand-in for hub API and web service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyterhub import orm, roles
from jupyterhub.objects import Hub
from jupyterhub.user import User
from traitlets.config import Config

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.identity import Principal, account_name
from beamhub_core.rights import DatasetRef, Grant, GrantAnswer, PoolPath
from beamhub_core.session import (
    ExplainRecord,
    Place,
    SessionPlan,
    SessionRequest,
)
from beamhub_core.techniques import POWDER_DIFFRACTION
from beamhub_spawners.plan import Occasion, session_plan
from beamhub_spawners.platform import Platform
from beamhub_spawners.start_facts import StartFacts
from beamhub_spawners.web_client import WebClient

if TYPE_CHECKING:
    from contracts.web_stand_in import StandIn

ISSUER = "https://login.example.org"
ACCOUNT = account_name(ISSUER, "ines")
GRANTED_PID = "demo:MA-5101:sample-1"
TOKEN = "test-token-of-the-hub"
FINAL = ("ended", "failed")


def principal(subject: str = "ines", **changes: Any) -> Principal:
    """A person whose claims were checked."""
    fields: dict[str, Any] = {
        "issuer": ISSUER,
        "subject": subject,
        "account": account_name(ISSUER, subject),
        "display_name": subject.title(),
        "checked_at": datetime(2026, 11, 20, tzinfo=UTC),
    }
    return Principal.model_validate({**fields, **changes})


def facility_fields(folder: Path, *, hub_url: str, web_url: str, target: str | None = None) -> dict[str, Any]:
    """The fields of a `facility.yaml` whose folders all lie below one folder; two pools, one place each."""
    pools = [
        {
            "name": name,
            "root": str(folder / "pools" / name),
            "target": f"{target or folder / 'pools'}/{name}",
        }
        for name in ("hall-a", "hall-b")
    ]
    return {
        "name": "Test Facility",
        "short_name": "demo",
        "pools": pools,
        "login": {
            "providers": [
                {
                    "name": "test",
                    "title": "Test",
                    "issuer": ISSUER,
                    "client_id": "beamhub",
                    "client_secret_file": str(folder / "secrets" / "client"),
                }
            ]
        },
        "hub": {
            "public_url": hub_url,
            "database_url": "sqlite://",
            "state_folder": str(folder / "hub"),
            "crypt_key_file": str(folder / "secrets" / "crypt-key"),
            "cookie_secret_file": str(folder / "secrets" / "hub-cookie"),
            "web_client_token_file": str(folder / "secrets" / "web-client"),
            "proxy": {"api_url": hub_url, "token_file": str(folder / "secrets" / "proxy")},
        },
        "web": {
            "internal_url": web_url,
            "hub_api_url": f"{hub_url}/hub/api",
            "hub_service_token_file": str(folder / "secrets" / "service"),
            "cookie_secret_file": str(folder / "secrets" / "web-cookie"),
            "database_url": "sqlite://",
            "state_folder": str(folder / "web"),
            "clients": [
                {
                    "name": "hub",
                    "token_file": str(folder / "secrets" / "web-client"),
                    "scopes": ["plans:write"],
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
        },
        "sessions": {
            "places": [
                {"name": name, "backend": "local", "pools": [name], "capacity": 4}
                for name in ("hall-a", "hall-b")
            ],
            "profiles": [
                {"name": "small", "title": "Small", "cpu": 2, "memory_gib": 4},
                {
                    "name": "large",
                    "title": "Large",
                    "cpu": 16,
                    "memory_gib": 64,
                    "roles": ["instrument_scientist"],
                },
            ],
            "environments": [{"name": "standard", "title": "Standard", "image": "local"}],
            "templates": [
                {
                    "name": "powder",
                    "title": "Powder",
                    "technique": POWDER_DIFFRACTION,
                    "file": "powder/powder.ipynb",
                }
            ],
            "templates_folder": str(folder / "templates"),
            "homes_folder": str(folder / "homes"),
            "state_folder": str(folder / "sessions"),
            "web_url": web_url,
            "start_timeout_s": 60,
        },
    }


NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "cells": [
        {
            "cell_type": "code",
            "id": "parameters",
            "metadata": {"tags": ["parameters"]},
            "execution_count": None,
            "outputs": [],
            "source": 'dataset = ""',
        }
    ],
}


def make_facility(folder: Path) -> None:
    """Files of two proposals in hall-a, one of them embargoed for the person, and the secrets."""
    for path, content in {
        "pools/hall-a/MA-5101/raw/sample-1/scan.h5": "granted",
        "pools/hall-a/MA-5101/raw/detector/frames.h5": "linked",
        "pools/hall-a/MA-6202/raw/sample-9/scan.h5": "embargoed",
        "pools/hall-b/TO-7303/raw/sample-3/scan.h5": "embargoed",
        "secrets/web-client": TOKEN,
        "secrets/crypt-key": "0" * 64,
        "templates/powder/powder.ipynb": json.dumps(NOTEBOOK),
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def granted_answer(account: str = ACCOUNT) -> GrantAnswer:
    """Rights on `sample-1` of MA-5101, on the folder its links lead to, and on processed."""

    def grant(path: str, mode: str, pid: str | None) -> Grant:
        return Grant.model_validate(
            {
                "account": account,
                "folder": {"pool": "hall-a", "path": path},
                "mode": mode,
                "because": "membership",
                "detail": "member of MA-5101",
                "pid": pid,
                "proposal": "MA-5101",
            }
        )

    dataset = DatasetRef(
        pid=GRANTED_PID,
        proposal="MA-5101",
        title="A sample",
        technique=POWDER_DIFFRACTION,
        instrument="ID00",
        folder=PoolPath(pool="hall-a", path="MA-5101/raw/sample-1"),
        file="MA-5101/raw/sample-1/scan.h5",
        size_bytes=7,
        link_closure=(
            PoolPath(pool="hall-a", path="MA-5101/raw/detector"),
            PoolPath(pool="hall-a", path="MA-6202/raw/sample-9"),
        ),
    )
    return GrantAnswer(
        account=account,
        datasets=(dataset,),
        grants=(
            grant("MA-5101/raw/sample-1", "ro", GRANTED_PID),
            grant("MA-5101/raw/detector", "ro", GRANTED_PID),
            grant("MA-5101/processed", "rw", None),
        ),
        ungranted_links=(PoolPath(pool="hall-a", path="MA-6202/raw/sample-9"),),
        policy_version="1",
        decided_at=datetime(2026, 11, 20, tzinfo=UTC),
    )


PLACE = Place(name="hall-a", backend="local", pools=("hall-a",), healthy_pools=("hall-a",), capacity=4)
EXPLAIN = ExplainRecord(chosen="hall-a", because="the only place that fits", verdicts=())
OCCASION = Occasion(
    "0" * 32,
    datetime(2026, 11, 21, 12, tzinfo=UTC),
    "d-1",
    {"powder": "a" * 64},
    facts=StartFacts(unmapped_uid=200_000_042),
)


def docker_plan(**person: Any) -> SessionPlan:
    """A plan for a Docker place, of a person with these changes."""
    fields = facility_fields(Path("/srv"), hub_url="http://hub", web_url="http://web")
    for place in fields["sessions"]["places"]:
        place.update(backend="docker", docker={"url": "unix:///x", "unsafe_direct_socket": True})
    config = FacilityConfig.model_validate(fields)
    placed = (PLACE.model_copy(update={"backend": "docker"}), EXPLAIN)
    request = SessionRequest(datasets=(GRANTED_PID,))
    return session_plan(granted_answer(), request, config, principal(**person), placed, OCCASION)


@dataclass
class HubPart:
    """JupyterHub's own database, user and spawner objects, without the hub's web server."""

    db: Any
    hub: Hub
    platform: Platform

    def user(self, account: str = ACCOUNT) -> User:
        found = self.db.query(orm.User).filter_by(name=account).one_or_none()
        if found is None:
            found = orm.User(name=account)
            self.db.add(found)
            self.db.commit()
            roles.assign_default_roles(self.db, entity=found)
        return User(found, {"spawner_class": None, "hub": self.hub, "config": Config()}, self.db)

    def spawner(
        self, kind: type[Any], *, account: str = ACCOUNT, server_name: str = "", **traits: Any
    ) -> Any:
        """A new spawner object for a server, as a restarted hub would make it: it remembers nothing."""
        kind.platform = self.platform
        user = self.user(account)
        if server_name not in user.orm_spawners:
            self.db.add(orm.Spawner(name=server_name, user=user.orm_user))
            self.db.commit()
        spawner = user._new_spawner(
            server_name, spawner_class=kind, hub=self.hub, oauth_client_id=f"server-{account}", **traits
        )
        if spawner.orm_spawner.server is None:
            server = orm.Server(base_url=f"/user/{account}/{server_name}/".replace("//", "/"))
            self.db.add(server)
            spawner.orm_spawner.server = server
            self.db.commit()
        spawner.api_token = "server-token-" + "0123456789abcdef"
        spawner.principal = principal()
        return spawner


@contextmanager
def hub_part(config: FacilityConfig, stand_in: StandIn) -> Iterator[HubPart]:
    """The hub's objects on a database in memory, with a client of the stand-in."""
    factory = orm.new_session_factory("sqlite://")
    db = factory()
    roles.create_role(db, {"name": "user", "description": "", "scopes": ["self"]})
    roles.create_role(db, {"name": "server", "description": "", "scopes": ["users:activity!user"]})
    port = int(stand_in.url.rpartition(":")[2])
    hub = Hub(ip=stand_in.url.split("/")[2].split(":")[0], port=port, base_url="/hub/", proto="http")
    platform = Platform(config=config, clock=utc_now, web=WebClient(stand_in.url, TOKEN))
    try:
        yield HubPart(db, hub, platform)
    finally:
        engine = db.get_bind()
        db.close()
        engine.dispose()
