"""Where the embedded platform keeps its files, and which ports it uses."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from beamhub_core.errors import BeamhubError

N_PORTS = 5


class PortInUse(BeamhubError):
    """A port that the demo needs is taken by another program."""

    exit_code = 6

    def __init__(self, port: int, used_for: str) -> None:
        super().__init__(port, used_for)
        self.port, self.used_for = port, used_for

    def __str__(self) -> str:
        return (
            f"Port {self.port} (for the {self.used_for}) is in use by another program. "
            f"Choose another block of {N_PORTS} ports with --port, e.g. --port {self.port + 1000}."
        )


class FolderUnusable(BeamhubError):
    """The state folder cannot be made or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder, self.reason = folder, reason

    def __str__(self) -> str:
        return (
            f"The folder {str(self.folder)!r} cannot be used: {self.reason}. Choose another: --state-folder."
        )


@dataclass(frozen=True, slots=True)
class Ports:
    """A block of consecutive ports on loopback; `first` is the one for browsers."""

    first: int

    @property
    def public(self) -> int:
        """The proxy, for browsers."""
        return self.first

    @property
    def proxy_api(self) -> int:
        """The proxy's own API, for the hub."""
        return self.first + 1

    @property
    def web(self) -> int:
        """The web service."""
        return self.first + 2

    @property
    def provider(self) -> int:
        """The demo identity provider."""
        return self.first + 3

    @property
    def hub(self) -> int:
        """The hub."""
        return self.first + 4

    @property
    def gateway(self) -> int:
        """The gateway, where the demo has one."""
        return self.first + 5

    @property
    def gateway_internal(self) -> int:
        """Between the gateway and its own proxy."""
        return self.first + 6

    def named(self) -> dict[str, int]:
        """Each port by what it is for."""
        return {
            "proxy": self.public,
            "proxy's API": self.proxy_api,
            "web service": self.web,
            "demo identity provider": self.provider,
            "hub": self.hub,
            "gateway": self.gateway,
            "gateway's own side": self.gateway_internal,
        }

    def check_free(self) -> None:
        """Nothing when every port of the block is free.

        Raises
        ------
        PortInUse
            Naming the first port that is not.
        """
        for used_for, port in self.named().items():
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise PortInUse(port, used_for) from None


@dataclass(frozen=True, slots=True)
class DemoLayout:
    """The state folder of one embedded platform."""

    root: Path

    @property
    def config_file(self) -> Path:
        """`facility.yaml`, written at each start."""
        return self.root / "facility.yaml"

    @property
    def secrets(self) -> Path:
        """One file a secret, mode 0600."""
        return self.root / "secrets"

    @property
    def facility(self) -> Path:
        """The two storage pools."""
        return self.root / "facility"

    @property
    def homes(self) -> Path:
        """The accounts' homes."""
        return self.root / "homes"

    def state(self, process: str) -> Path:
        """What one process keeps: `hub`, `web` or `sessions`."""
        return self.root / process

    @property
    def policy_file(self) -> Path:
        """The policy document."""
        return self.root / "policy.yaml"

    @property
    def roles_file(self) -> Path:
        """Who has a facility role."""
        return self.root / "roles.csv"

    @property
    def accounts_file(self) -> Path:
        """The people of the demo's identity provider."""
        return self.root / "accounts.json"

    @property
    def user_office(self) -> Path:
        """The user office's CSV files."""
        return self.root / "user-office"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "logs"

    @property
    def clock_offset(self) -> Path:
        """Seconds added to the clock of the web service."""
        return self.root / "clock-offset"

    @property
    def truth_file(self) -> Path:
        """What the generator planted in the demo files."""
        return self.root / "truth.json"

    @property
    def port_file(self) -> Path:
        """The first port of the last start: accounts depend on the provider's address."""
        return self.root / "port"

    def secret(self, name: str) -> Path:
        """The file of one secret."""
        return self.secrets / name
