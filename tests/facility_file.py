"""The smallest valid `facility.yaml`, which tests of several rooms begin with, and all that it names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from beamhub_core.config import FacilityConfig, read_config


@dataclass(frozen=True)
class FacilityFile:
    """A valid `facility.yaml` in a folder of its own, with every file and folder that it names."""

    folder: Path
    data: dict[str, Any]

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "facility.yaml"

    def write(self, data: Any = None) -> Path:
        """Write `data`, or what this object holds, as the file, and return its path."""
        self.path.write_text(yaml.safe_dump(self.data if data is None else data, sort_keys=False), "utf-8")
        return self.path

    def read(self) -> FacilityConfig:
        """The file as it stands, read by the platform's own reader."""
        return read_config(self.path)

    def copy(self) -> dict[str, Any]:
        """The data, to change and to give to `write`."""
        return copy.deepcopy(self.data)


NAMES = ("provider", "proxy", "crypt-key", "hub-cookie", "web-cookie", "web-service", "hub-client")
SECRETS = {name: name.encode().hex().ljust(64, "0")[:64] for name in NAMES}
FOLDERS = ("pool", "hub", "web", "sessions", "homes", "templates")


def facility_data_in(folder: Path) -> dict[str, Any]:
    """The smallest configuration that is valid: one pool, one local place, one provider."""

    def secret(name: str) -> str:
        return str(folder / "secrets" / name)

    return {
        "name": "Test facility",
        "short_name": "test",
        "pools": [{"name": "pool", "root": str(folder / "pool"), "target": str(folder / "pool")}],
        "login": {
            "providers": [
                {
                    "name": "community",
                    "title": "Community login",
                    "issuer": "https://provider.example/oidc",
                    "client_id": "beamhub",
                    "client_secret_file": secret("provider"),
                }
            ]
        },
        "hub": {
            "public_url": "http://127.0.0.1:8000",
            "database_url": f"sqlite:///{folder / 'hub' / 'hub.sqlite'}",
            "state_folder": str(folder / "hub"),
            "crypt_key_file": secret("crypt-key"),
            "cookie_secret_file": secret("hub-cookie"),
            "web_client_token_file": secret("hub-client"),
            "proxy": {"api_url": "http://127.0.0.1:8001", "token_file": secret("proxy")},
        },
        "web": {
            "internal_url": "http://127.0.0.1:8082",
            "hub_api_url": "http://127.0.0.1:8081/hub/api",
            "hub_service_token_file": secret("web-service"),
            "cookie_secret_file": secret("web-cookie"),
            "database_url": f"sqlite:///{folder / 'web' / 'web.sqlite'}",
            "state_folder": str(folder / "web"),
            "clients": [{"name": "hub", "token_file": secret("hub-client"), "scopes": ["grants:read"]}],
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
            "places": [{"name": "here", "backend": "local", "pools": ["pool"]}],
            "profiles": [{"name": "small", "title": "Small", "cpu": 1, "memory_gib": 2}],
            "environments": [{"name": "standard", "title": "Standard", "image": "local"}],
            "templates_folder": str(folder / "templates"),
            "homes_folder": str(folder / "homes"),
            "state_folder": str(folder / "sessions"),
            "web_url": "http://127.0.0.1:8082",
        },
    }


def write_folders_and_secrets(folder: Path, secrets: Mapping[str, str] = SECRETS) -> None:
    """Every folder that the file names, and the files of its secrets, for the owner's eyes."""
    for name in (*FOLDERS, "secrets"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, value in secrets.items():
        path = folder / "secrets" / name
        path.touch(mode=0o600)
        path.write_text(value + "\n")


def write_rules_and_rows(folder: Path) -> None:
    """A policy, and a user office that knows nobody."""
    (folder / "policy.yaml").write_text(
        'version: "1"\ntimezone: UTC\nclasses: {standard: {embargo_months: 36, metadata: public}}\n'
    )
    (folder / "proposals.csv").write_text("proposal,title,class,instrument,start,end\n")
    (folder / "members.csv").write_text(
        "proposal,issuer,subject,orcid,facility_account,name,role,from,until\n"
    )
