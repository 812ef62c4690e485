"""Where the platform of `compose.yaml` keeps its files, and under which numbers its services run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from beamhub_core.demo.layout import DemoLayout

GROUP = 7100
"""The group of the platform's services: they read the configuration, which holds no secret."""
USERS = {"hub": 7101, "web": 7102, "proxy": 7103, "provider": 7104, "database": 7105, "gateway": 7106}
"""A user each, so that none reads another's secrets; `compose.yaml` says the same numbers."""
AGENT_USER = 0
"""The agent makes folders for people, who have numbers of their own, and opens the engine's socket."""
SHARED = {"hub-and-web": "hub", "web-and-hub": "web", "gateway-and-hub": "gateway"}
"""Folders of what `facility.yaml` names once for two services: each has a copy, and web and gateway see their
folders under the names of the hub's. The gateway's has the certificate with which both call the agent."""


@dataclass(frozen=True, slots=True)
class ComposeLayout(DemoLayout):
    """A folder of the host that agent, web and sessions see under one path.

    `facility` and `homes` are what sessions may have folders of; `config` holds no secret; `secrets` and
    `state` have a folder for each service, and a service has no other of them.
    """

    @property
    def config(self) -> Path:
        """What the facility edits: configuration, policy, user office, roles, numeric identities."""
        return self.root / "config"

    @property
    def config_file(self) -> Path:
        """`facility.yaml`, written once."""
        return self.config / "facility.yaml"

    @property
    def agent_file(self) -> Path:
        """`agent.yaml`, written once."""
        return self.config / "agent.yaml"

    @property
    def unmapped_homes(self) -> Path:
        """Homes of people without a numeric identity at the facility."""
        return self.root / "unmapped-homes"

    @property
    def identities_file(self) -> Path:
        """The numeric identities of the demo's people."""
        return self.config / "identities.csv"

    @property
    def policy_file(self) -> Path:
        """The policy document."""
        return self.config / "policy.yaml"

    @property
    def roles_file(self) -> Path:
        """Who has a facility role."""
        return self.config / "roles.csv"

    @property
    def accounts_file(self) -> Path:
        """The people of the demo's identity provider."""
        return self.config / "accounts.json"

    @property
    def user_office(self) -> Path:
        """The user office's CSV files."""
        return self.config / "user-office"

    @property
    def clock_offset(self) -> Path:
        """Seconds added to the platform's clock; demonstrations only."""
        return self.config / "clock-offset"

    @property
    def made_file(self) -> Path:
        """What the preparation made: names of secrets, and digests of files that nobody edited since."""
        return self.root / "prepared.json"

    def state(self, process: str) -> Path:
        """What one service keeps: `hub`, `web`, `sessions`, `gateway` or `database`."""
        return self.root / "state" / process

    def secret(self, name: str) -> Path:
        """The file of a secret as the service that asks for it in `facility.yaml` sees it."""
        return self.secrets / HOMES_OF_SECRETS[name][0] / name

    def copies(self, name: str) -> tuple[Path, ...]:
        """Every file of a secret: one for each service that needs it."""
        return tuple(self.secrets / home / name for home in HOMES_OF_SECRETS[name])


HOMES_OF_SECRETS: dict[str, tuple[str, ...]] = {
    "proxy-token": ("hub", "proxy"),
    "hub-cookie": ("hub",),
    "hub-crypt-key": ("hub",),
    "hub-client-token": ("web", "hub"),
    "provider-client-secret": ("hub", "provider"),
    "web-service-token": ("hub-and-web", "web-and-hub"),
    "web-cookie": ("web",),
    "demo-client-token": ("web",),
    "agent-token": ("web", "agent"),
    "gateway-client-token": ("web", "gateway"),
    "gateway-keys": ("gateway",),
    "database-password": ("database",),
    "database-password-of-hub": ("hub", "database"),
    "database-password-of-web": ("web", "database"),
}
"""In which services' folders each secret lies; the first is the one that `facility.yaml` names."""


def owner_of(home: str) -> int:
    """The user that a folder below `secrets` or `state` belongs to."""
    if home == "agent":
        return AGENT_USER
    return USERS["hub"] if home == "sessions" else USERS[SHARED.get(home, home)]
