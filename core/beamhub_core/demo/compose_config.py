"""The demo's configuration for the services of `compose.yaml`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from beamhub_core.demo.compose_layout import ComposeLayout
from beamhub_core.demo.layout import Ports
from beamhub_core.demo.people import PEOPLE
from beamhub_core.demo.prepare import POOLS, build_config

HUB_PORT, WEB_PORT, PROXY_API_PORT, AGENT_PORT, METRICS_PORT = 8081, 8082, 8001, 8443, 9108
GATEWAY_PORT = 8786
PEERS = ("proxy", "hub", "web", "gateway")
"""The platform's containers that are in every session's network, under these names."""
PLACE = "docker-host"
TEMPLATES = Path("/opt/beamhub/notebooks")
"""Where every image of the platform has the notebook templates."""
FIRST_UID, STAFF_GID = 52001, 53000
PROPOSAL_GIDS = {"MA-5101": 53001, "MA-6202": 53002, "TO-7303": 53003}
"""Numeric identities of the demo facility: a user each and a group a proposal, as a facility has them."""
GROUPS_OF = {
    "ines": ("MA-6202", "TO-7303"),
    "colin": ("MA-6202", "TO-7303"),
    "sam": ("MA-5101", "MA-6202"),
}
IDENTITY_HEADER = ("issuer", "subject", "account", "uid", "gid", "gids", "home_organisation", "name")


@dataclass(frozen=True, slots=True)
class ComposeSettings:
    """What `compose.yaml` says by its variables.

    Parameters
    ----------
    name:
        The Compose project: short name of the facility, and first part of the containers' names.
    public_url, issuer:
        Where browsers reach the platform and the demo's identity provider.
    image:
        What sessions run in.
    network_block:
        Addresses of the sessions' own networks.
    capacity:
        Sessions at once.
    """

    name: str
    public_url: str
    issuer: str
    image: str
    network_block: str = "10.177.0.0/16"
    capacity: int = 8

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.name}-{service}"


def build_compose_config(layout: ComposeLayout, settings: ComposeSettings) -> dict[str, Any]:
    """The content of `facility.yaml`: the demo's, with services on hosts of their own and PostgreSQL."""
    config = build_config(layout, Ports(8000), TEMPLATES)
    config["short_name"] = settings.name
    login = config["login"]
    login["providers"][0]["issuer"] = settings.issuer
    login["identity_map"] = {"kind": "csv", "file": str(layout.identities_file)}
    host = settings.public_url.partition("//")[2].partition(":")[0]
    config["hub"].update(
        public_url=settings.public_url,
        subdomain_host=host,
        listen_host="0.0.0.0",  # noqa: S104 - of the container
        listen_port=HUB_PORT,
        database_url=_hub_database(layout),
        web_client_token_file=str(layout.copies("hub-client-token")[1]),
        proxy={
            "api_url": f"http://proxy:{PROXY_API_PORT}",
            "token_file": str(layout.secret("proxy-token")),
        },
    )
    config["web"].update(
        listen_host="0.0.0.0",  # noqa: S104 - of the container
        listen_port=WEB_PORT,
        internal_url=f"http://web:{WEB_PORT}",
        hub_api_url=f"http://hub:{HUB_PORT}/hub/api",
        database_url="postgresql://beamhub_web@database/beamhub_web",
        database_password_file=str(layout.secret("database-password-of-web")),
    )
    config["web"]["clients"] += [
        {"name": name, "token_file": str(layout.secret(file)), "scopes": scopes}
        for name, file, scopes in (
            ("agent", "agent-token", ["plans:read"]),
            ("gateway", "gateway-client-token", ["plans:read", "usage:write"]),
        )
    ]
    config["gateway"] = _gateway(layout)
    config["sessions"].update(
        places=[_place(layout, settings)],
        environments=[{"name": "standard", "title": "Beamhub standard", "image": settings.image}],
        web_url=f"http://web:{WEB_PORT}",
        homes={"unmapped_folder": str(layout.unmapped_homes)},
    )
    return config


def build_agent_config(layout: ComposeLayout) -> dict[str, Any]:
    """The content of `agent.yaml`."""
    tls = layout.secrets / "agent"
    return {
        "facility_file": str(layout.config_file),
        "place": PLACE,
        "listen": {
            "host": "agent-for-hub",  # its address in the network that it shares with its two callers
            "port": AGENT_PORT,
            "accepted_subjects": ["beamhub-hub"],
        },
        "tls": {
            "ca_file": str(tls / "ca.pem"),
            "cert_file": str(tls / "agent.pem"),
            "key_file": str(tls / "agent-key.pem"),
        },
        "web_url": f"http://web:{WEB_PORT}",
        "web_token_file": str(layout.copies("agent-token")[1]),
        "metrics_port": METRICS_PORT,
        "pull": False,
    }


def identity_rows(issuer: str) -> list[tuple[str, ...]]:
    """The demo's people at their facility; somebody who has no proposal there is not known there."""
    rows: list[tuple[str, ...]] = []
    for i_person, person in enumerate(PEOPLE):
        if person.subject not in GROUPS_OF and person.role is None:
            continue
        number = str(FIRST_UID + i_person)
        gids = [str(PROPOSAL_GIDS[each]) for each in GROUPS_OF.get(person.subject, ())]
        if person.role is not None:
            gids.append(str(STAFF_GID))
        rows.append((issuer, person.subject, person.subject, number, number, " ".join(gids), "", person.name))
    return rows


def database_script(passwords: dict[str, str]) -> str:
    """The SQL that gives hub and web a database each, which the other cannot open."""
    lines = []
    for service, password in sorted(passwords.items()):
        name = f"beamhub_{service}"
        lines += [
            f"CREATE ROLE {name} LOGIN PASSWORD '{password}';",
            f"CREATE DATABASE {name} OWNER {name} ENCODING 'UTF8' TEMPLATE template0;",
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;",
        ]
    return "\n".join(lines) + "\n"


def password_line(password: str) -> str:
    """The hub's password in the form of libpq's own file."""
    return f"database:5432:beamhub_hub:beamhub_hub:{password}\n"


def _hub_database(layout: ComposeLayout) -> str:
    passwords = quote(str(layout.secrets / "hub" / "pgpass"))
    return f"postgresql+psycopg://beamhub_hub@database/beamhub_hub?passfile={passwords}"


def _place(layout: ComposeLayout, settings: ComposeSettings) -> dict[str, Any]:
    tls = layout.secrets / "hub"
    return {
        "name": PLACE,
        "backend": "docker",
        "pools": list(POOLS),
        "capacity": settings.capacity,
        "docker": {
            "url": f"https://agent:{AGENT_PORT}",
            "tls": {
                "ca_file": str(tls / "ca.pem"),
                "cert_file": str(tls / "hub.pem"),
                "key_file": str(tls / "hub-key.pem"),
            },
            "network_block": settings.network_block,
            "peers": [{"container": settings.container(name), "alias": name} for name in PEERS],
            "hub_api_url": f"http://hub:{HUB_PORT}/hub/api",
        },
    }


def _gateway(layout: ComposeLayout) -> dict[str, Any]:
    state = layout.state("gateway")
    return {
        "listen_host": "0.0.0.0",  # noqa: S104 - of the container
        "listen_port": GATEWAY_PORT,
        "session_url": f"http://gateway:{GATEWAY_PORT}",
        "web_token_file": str(layout.copies("gateway-client-token")[1]),
        "database_url": f"sqlite:///{state / 'gateway.sqlite'}",
        "keys_file": str(layout.secret("gateway-keys")),
        "state_folder": str(state),
    }
