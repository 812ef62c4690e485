"""What the embedded platform needs before its first process starts; a second call keeps what is there."""

from __future__ import annotations

import csv
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.demo.layout import DemoLayout, FolderUnusable, Ports
from beamhub_core.demo.people import CLIENT_ID, NAMESPACE, PEOPLE, proposals
from beamhub_core.errors import BeamhubError
from beamhub_core.techniques import POWDER_DIFFRACTION, TOF_POWDER_DIFFRACTION

POOLS = ("hall-a", "hall-b")
TOKENS = (
    "proxy-token",
    "hub-cookie",
    "hub-crypt-key",
    "web-cookie",
    "web-service-token",
    "hub-client-token",
    "demo-client-token",
    "provider-client-secret",
    "gateway-client-token",
    "gateway-keys",
)
POLICY = {
    "version": "demo-1",
    "timezone": "Europe/Paris",
    "classes": {
        "open": {"embargo_months": 0, "metadata": "public", "license": "CC-BY-4.0"},
        "standard": {"embargo_months": 36, "metadata": "public", "license": "CC-BY-4.0"},
        "confidential": {"embargo_months": 36, "metadata": "team", "license": "CC-BY-4.0"},
    },
}


class GeneratorFailed(BeamhubError):
    """The demo facility's files could not be made."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"Making the demo facility's files failed (exit code {self.code}); its message stands above."


def prepare(
    layout: DemoLayout, ports: Ports, *, templates: Path, seed: int = 20261, clusters: bool = False
) -> FacilityConfig:
    """Make the state folder complete and return the configuration that stands in it.

    Secrets, the user office and the facility's files are written once and kept; the configuration, which
    holds the ports, is written at each call.

    Raises
    ------
    FolderUnusable
        If the folder cannot be written.
    GeneratorFailed
        If the demo files could not be made.
    ConfigInvalid
        If the written configuration is not valid, which would be a fault of ours.
    """
    try:
        for folder in ("secrets", "user-office", "facility", "logs", "hub", "web", "sessions", "homes"):
            (layout.root / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        write_probe = layout.root / ".writable"
        write_probe.write_text("")
        write_probe.unlink()
    except OSError as error:
        raise FolderUnusable(layout.root, error.strerror or type(error).__name__) from error
    write_secrets(layout.secret(name) for name in TOKENS)
    _follow_ports(layout, ports)
    write_office(layout, f"http://127.0.0.1:{ports.provider}", utc_now())
    content = build_config(layout, ports, templates)
    if clusters:
        content = with_gateway(content, layout, ports)
    layout.config_file.write_text(yaml.safe_dump(content, sort_keys=False))
    layout.port_file.write_text(f"{ports.first}\n")
    generate_facility(layout, seed)
    return read_config(layout.config_file)


def _follow_ports(layout: DemoLayout, ports: Ports) -> None:
    try:
        former = Ports(int(layout.port_file.read_text()))
    except (OSError, ValueError):
        return
    old, new = (f"http://127.0.0.1:{each.provider}" for each in (former, ports))
    follow_issuer(old, new, (layout.user_office / "members.csv", layout.roles_file, layout.accounts_file))


def follow_issuer(old: str, new: str, files: Iterable[Path]) -> None:
    """Give the people of an earlier start their rows back when the demo's provider has another address.

    An account is an issuer and a subject, and the issuer is that address: elsewhere people have new
    accounts, with new homes, but the same proposals and roles.
    """
    if old == new:
        return
    for path in files:
        if path.exists():
            part = path.with_suffix(".part")
            part.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
            part.replace(path)


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        path.write_text(text, encoding="utf-8")


def write_secrets(files: Iterable[Path]) -> None:
    """A random secret in each of the files that is not there yet, 64 hexadecimal digits, mode 0600."""
    for path in files:
        if path.exists():
            continue
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")


def write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Write a table whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    part.replace(path)


def write_office(layout: DemoLayout, issuer: str, now: datetime) -> None:
    """The user office, the policy, the facility's roles and the provider's people; what is there stays."""
    office = layout.user_office
    rows = proposals(now.year)
    if not (office / "proposals.csv").exists():
        write_csv(
            office / "proposals.csv",
            ("proposal", "title", "class", "instrument", "start", "end"),
            [(p.id, p.title, p.policy_class, p.instrument, p.start, p.end) for p in rows],
        )
    if not (office / "members.csv").exists():
        names = {person.subject: person.name for person in PEOPLE}
        write_csv(
            office / "members.csv",
            ("proposal", "issuer", "subject", "orcid", "facility_account", "name", "role", "from", "until"),
            [
                (p.id, issuer, subject, "", "", names[subject], role, "", "")
                for p in rows
                for subject, role in p.members
            ],
        )
    if not layout.roles_file.exists():
        write_csv(
            layout.roles_file,
            ("issuer", "subject", "role"),
            [(issuer, person.subject, person.role) for person in PEOPLE if person.role],
        )
    accounts = {
        "issuer_url": issuer,
        "users": [{"subject": p.subject, "name": p.name, "claims": p.claims()} for p in PEOPLE],
    }
    _write_once(layout.accounts_file, json.dumps(accounts, indent=1))
    _write_once(layout.policy_file, yaml.safe_dump(POLICY, sort_keys=False))


def build_config(layout: DemoLayout, ports: Ports, templates: Path) -> dict[str, Any]:
    """The content of `facility.yaml` for the embedded platform."""
    public = f"http://127.0.0.1:{ports.public}"
    web = f"http://127.0.0.1:{ports.web}"
    return {
        "name": "Beamhub demo facility",
        "short_name": "demo",
        "timezone": "Europe/Paris",
        "pools": [
            {"name": name, "root": str(layout.facility / name), "target": str(layout.facility / name)}
            for name in POOLS
        ],
        "login": {
            "providers": [
                {
                    "name": "demo",
                    "title": "Demo identity provider",
                    "issuer": f"http://127.0.0.1:{ports.provider}",
                    "client_id": CLIENT_ID,
                    "client_secret_file": str(layout.secret("provider-client-secret")),
                    "scopes": ["openid", "profile", "email", "eduperson_entitlement", "voperson_id"],
                    "algorithms": ["RS256"],
                    "entitlement_namespaces": [NAMESPACE],
                    "unsafe_allow_http": True,
                }
            ],
            "role_assignments": str(layout.roles_file),
            "refresh_s": 15,
        },
        "hub": {
            "public_url": public,
            "listen_port": ports.hub,
            "database_url": f"sqlite:///{layout.state('hub') / 'hub.sqlite'}",
            "state_folder": str(layout.state("hub")),
            "crypt_key_file": str(layout.secret("hub-crypt-key")),
            "cookie_secret_file": str(layout.secret("hub-cookie")),
            "web_client_token_file": str(layout.secret("hub-client-token")),
            "proxy": {
                "api_url": f"http://127.0.0.1:{ports.proxy_api}",
                "token_file": str(layout.secret("proxy-token")),
            },
        },
        "web": {
            "listen_port": ports.web,
            "internal_url": web,
            "hub_api_url": f"http://127.0.0.1:{ports.hub}/hub/api",
            "hub_service_token_file": str(layout.secret("web-service-token")),
            "cookie_secret_file": str(layout.secret("web-cookie")),
            "database_url": f"sqlite:///{layout.state('web') / 'web.sqlite'}",
            "state_folder": str(layout.state("web")),
            "clients": [
                {
                    "name": "hub",
                    "token_file": str(layout.secret("hub-client-token")),
                    "scopes": [
                        "principals:write",
                        "grants:read",
                        "plans:read",
                        "plans:write",
                        "sessions:recheck",
                        "audit:write",
                    ],
                },
                {
                    "name": "demo",
                    "token_file": str(layout.secret("demo-client-token")),
                    "scopes": ["harvest:write", "grants:read", "plans:read"],
                },
            ],
            "unsafe_clock_offset_file": str(layout.clock_offset),
        },
        "catalogue": {
            "policy_file": str(layout.policy_file),
            "user_offices": [
                {
                    "name": "demo",
                    "kind": "csv",
                    "proposals": str(layout.user_office / "proposals.csv"),
                    "members": str(layout.user_office / "members.csv"),
                }
            ],
            "harvest_roots": [{"pool": name} for name in POOLS],
            "harvest_interval_s": 10,
        },
        "sessions": {
            "places": [{"name": name, "backend": "local", "pools": [name], "capacity": 4} for name in POOLS],
            "profiles": [
                {
                    "name": "small",
                    "title": "Small: 1 core, 2 GiB",
                    "cpu": 1,
                    "memory_gib": 2,
                    "lifetime_h": 8,
                    "max_lifetime_h": 24,
                },
                {
                    "name": "large",
                    "title": "Large: 2 cores, 8 GiB",
                    "cpu": 2,
                    "memory_gib": 8,
                    "lifetime_h": 8,
                    "max_lifetime_h": 24,
                },
            ],
            "environments": [{"name": "standard", "title": "Beamhub standard", "image": "local"}],
            "templates": [
                {
                    "name": "powder-diffraction",
                    "title": "Powder diffraction: from frames to a pattern",
                    "technique": POWDER_DIFFRACTION,
                    "file": "powder_diffraction/powder_diffraction.ipynb",
                },
                {
                    "name": "tof-powder-diffraction",
                    "title": "Time of flight: from events to a pattern",
                    "technique": TOF_POWDER_DIFFRACTION,
                    "file": "tof_powder_diffraction/tof_powder_diffraction.ipynb",
                },
            ],
            "templates_folder": str(templates),
            "homes_folder": str(layout.homes),
            "state_folder": str(layout.state("sessions")),
            "web_url": web,
        },
    }


def with_gateway(content: dict[str, Any], layout: DemoLayout, ports: Ports) -> dict[str, Any]:
    """The same configuration with a gateway, which web knows."""
    token = str(layout.secret("gateway-client-token"))
    client = {"name": "gateway", "token_file": token, "scopes": ["plans:read", "usage:write"]}
    web = {**content["web"], "clients": [*content["web"]["clients"], client]}
    gateway = {
        "listen_port": ports.gateway,
        "internal_port": ports.gateway_internal,
        "session_url": f"http://127.0.0.1:{ports.gateway}",
        "web_token_file": token,
        "database_url": f"sqlite:///{layout.root / 'gateway' / 'gateway.sqlite'}",
        "keys_file": str(layout.secret("gateway-keys")),
        "state_folder": str(layout.root / "gateway"),
    }
    return {**content, "web": web, "gateway": gateway}


def generate_facility(layout: DemoLayout, seed: int) -> None:
    """The facility's files with what was planted in them, made once.

    Raises
    ------
    GeneratorFailed
        If they could not be made.
    """
    if layout.truth_file.exists():
        return
    command = [sys.executable, "-m", "beamhub_reduction.synthetic", "facility", str(layout.facility)]
    command += ["--seed", str(seed), "--truth", str(layout.truth_file)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # progress is on standard error
    if done.returncode != 0:
        layout.truth_file.unlink(missing_ok=True)
        raise GeneratorFailed(done.returncode)
