"""What the services of `compose.yaml` need before they start; a second call keeps what is there.

`python -m beamhub_core.demo.compose --root FOLDER ...`, as root in the container `prepare`: it makes folders
for several users, and ends.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from beamhub_core.clock import utc_now
from beamhub_core.config import read_config
from beamhub_core.config.agent import read_agent_config
from beamhub_core.demo.access_list import let_read
from beamhub_core.demo.compose_config import (
    IDENTITY_HEADER,
    PROPOSAL_GIDS,
    ComposeSettings,
    build_agent_config,
    build_compose_config,
    database_script,
    identity_rows,
    password_line,
)
from beamhub_core.demo.compose_layout import (
    GROUP,
    HOMES_OF_SECRETS,
    SHARED,
    USERS,
    ComposeLayout,
    owner_of,
)
from beamhub_core.demo.prepare import (
    POOLS,
    follow_issuer,
    generate_facility,
    write_csv,
    write_office,
    write_secrets,
)
from beamhub_core.errors import BeamhubError

OURS = ("config", "secrets", "state", "facility", "homes", "unmapped-homes", "prepared.json", "truth.json")
STATES = ("hub", "web", "sessions", "gateway", "database")
SECRET_HOMES = (*USERS, "agent", *SHARED)


class RootUnusable(BeamhubError):
    """The folder that was named for the facility's files cannot be used."""

    exit_code = 7

    def __init__(self, root: Path, reason: str) -> None:
        super().__init__(root, reason)
        self.root, self.reason = root, reason

    def __str__(self) -> str:
        return (
            f"BEAMHUB_FACILITY_ROOT={str(self.root)!r} cannot be used: {self.reason}. Name an absolute path "
            "of a local folder that is empty, or that this platform made, in .env or in the environment."
        )


class SecretMissing(BeamhubError):
    """A secret that the platform was made with is gone."""

    exit_code = 7

    def __init__(self, files: tuple[Path, ...]) -> None:
        super().__init__(files)
        self.files = files

    def __str__(self) -> str:
        names = ", ".join(str(file) for file in self.files)
        return (
            f"Secrets that this platform was made with are missing: {names}. A new one would not open what "
            "the old one closed (the database, people's logins). Bring them back from the backup."
        )


class ConfigElsewhere(BeamhubError):
    """An edited configuration and the variables of Compose name different addresses."""

    exit_code = 7

    def __init__(self, file: Path, problems: tuple[str, ...]) -> None:
        super().__init__(file, problems)
        self.file, self.problems = file, problems

    def __str__(self) -> str:
        return (
            f"{self.file} was edited and is kept, but it does not fit the variables of compose.yaml: "
            f"{'; '.join(self.problems)}. Change one of the two."
        )


@dataclass
class Made:
    """What earlier calls made."""

    secrets: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    issuer: str | None = None

    def save(self, file: Path) -> None:
        """Keep it, whole or not at all."""
        part = file.with_suffix(".part")
        part.write_text(json.dumps(vars(self), indent=1) + "\n", encoding="utf-8")
        part.replace(file)


def prepare_compose(layout: ComposeLayout, settings: ComposeSettings, *, seed: int = 20261) -> None:
    """Make the folder complete.

    Secrets, the user office and the facility's files are written once. A configuration that nobody edited
    follows the variables of Compose; an edited one is kept.

    Raises
    ------
    RootUnusable
        If the folder is not there, not empty and not ours, or on storage that cannot serve.
    SecretMissing
        If a secret that was made is gone.
    ConfigElsewhere
        If an edited configuration has another address than Compose.
    GeneratorFailed
        If the demo files could not be made.
    ConfigInvalid
        If an edited configuration is not valid, with every problem.
    """
    made = _read_made(layout)
    missing = [path for name in made.secrets for path in layout.copies(name)[:1] if not path.exists()]
    if missing:
        raise SecretMissing(tuple(missing))
    made.save(layout.made_file)  # from here on the folder is ours
    _make_folders(layout)
    _write_secrets(layout, made)
    _write_certificates(layout)
    _write_facility_words(layout, settings, made)
    _write_config(layout, settings, made)
    _give_config(layout)
    made.save(layout.made_file)
    if not layout.truth_file.exists():
        generate_facility(layout, seed)
        _give_proposals(layout)
    read_config(layout.config_file)
    read_agent_config(layout.agent_file)


def _read_made(layout: ComposeLayout) -> Made:
    root = layout.root
    if not root.is_absolute() or len(root.parts) < 3:
        raise RootUnusable(root, "it is no folder of its own below a folder of the host")
    try:
        entries = sorted(path.name for path in root.iterdir())
        probe = root / "prepared.part"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise RootUnusable(root, error.strerror or type(error).__name__) from error
    if layout.made_file.exists():
        try:
            return Made(**json.loads(layout.made_file.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise RootUnusable(root, f"{layout.made_file} is not what the preparation wrote") from None
    # The engine made the folders that services mount, empty ones, before this ran.
    foreign = [name for name in entries if name not in OURS] or [
        str(path.relative_to(root)) for path in _first_files(root)
    ]
    if foreign:
        raise RootUnusable(root, f"it holds what this platform did not make ({foreign[0]})")
    return Made()


def _first_files(root: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(root):
        if files:
            yield Path(folder) / files[0]
            return


def _make_folders(layout: ComposeLayout) -> None:
    _folder(layout.config, 0, GROUP, 0o2750)
    _folder(layout.user_office, 0, GROUP, 0o2750)
    _folder(layout.facility, 0, 0, 0o755)
    for parent in (layout.secrets, layout.root / "state", layout.homes, layout.unmapped_homes):
        _folder(parent, 0, 0, 0o711)
    for home in SECRET_HOMES:
        _folder(layout.secrets / home, owner_of(home), GROUP, 0o700)
    for state in STATES:
        _folder(layout.state(state), owner_of(state), GROUP, 0o700)
    for pool in POOLS:
        _folder(layout.facility / pool, 0, 0, 0o755)
        try:
            let_read(layout.facility / pool, USERS["web"])
        except OSError as error:
            reason = f"its file system keeps no access control lists ({error.strerror})"
            raise RootUnusable(layout.root, reason) from error


def _folder(path: Path, uid: int, gid: int, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, uid, gid)
    path.chmod(mode)


def _write_secrets(layout: ComposeLayout, made: Made) -> None:
    write_secrets(layout.secret(name) for name in HOMES_OF_SECRETS if not layout.secret(name).exists())
    made.secrets = sorted({*made.secrets, *HOMES_OF_SECRETS})
    for name, homes in HOMES_OF_SECRETS.items():
        value = layout.secret(name).read_text(encoding="ascii")
        for home, path in zip(homes, layout.copies(name), strict=True):
            _secret_file(path, value, home)
    passwords = {
        service: layout.secret(f"database-password-of-{service}").read_text(encoding="ascii").strip()
        for service in ("hub", "web")
    }
    _secret_file(layout.secrets / "hub" / "pgpass", password_line(passwords["hub"]), "hub")
    scripts = layout.secrets / "database" / "scripts"
    _folder(scripts, USERS["database"], GROUP, 0o700)
    _secret_file(scripts / "databases.sql", database_script(passwords), "database")


def _secret_file(path: Path, value: str, home: str) -> None:
    if not path.exists() or path.read_text(encoding="ascii") != value:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value)
    os.chown(path, owner_of(home), GROUP)
    path.chmod(0o600)


def _write_certificates(layout: ComposeLayout) -> None:
    """The authority's folder is mounted nowhere; who removes it gets a new authority and new pairs."""
    authority = layout.secrets / "authority"
    if not (authority / "agent-agent-key.pem").exists():
        command = [sys.executable, "-m", "beamhub_core.command", "agent", "make-certificates"]
        subprocess.run([*command, str(authority), "--host", "agent"], stdout=subprocess.DEVNULL, check=True)
    of_hub = {"ca.pem": "ca.pem", "hub.pem": "hub.pem", "hub-key.pem": "hub-key.pem"}
    for home, files in {
        "agent": {"ca.pem": "ca.pem", "agent-agent.pem": "agent.pem", "agent-agent-key.pem": "agent-key.pem"},
        "hub": of_hub,
        "gateway-and-hub": of_hub,
    }.items():
        for source, name in files.items():
            _secret_file(layout.secrets / home / name, (authority / source).read_text("ascii"), home)


def _write_facility_words(layout: ComposeLayout, settings: ComposeSettings, made: Made) -> None:
    """User office, policy, roles, numeric identities and the provider's people."""
    if made.issuer is not None:
        files = (layout.user_office / "members.csv", layout.roles_file, layout.accounts_file)
        follow_issuer(made.issuer, settings.issuer, (*files, layout.identities_file))
    made.issuer = settings.issuer
    write_office(layout, settings.issuer, utc_now())
    if not layout.identities_file.exists():
        write_csv(layout.identities_file, IDENTITY_HEADER, identity_rows(settings.issuer))


def _write_config(layout: ComposeLayout, settings: ComposeSettings, made: Made) -> None:
    wanted = {
        layout.config_file: build_compose_config(layout, settings),
        layout.agent_file: build_agent_config(layout),
    }
    for file, content in wanted.items():
        if file.exists() and _digest(file) != made.digests.get(file.name):
            if file == layout.config_file:
                _check_addresses(file, settings)
            sys.stderr.write(f"prepare: {file} was edited and is kept\n")
            continue
        part = file.with_suffix(".part")
        part.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        made.digests[file.name] = _digest(part)
        part.replace(file)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _check_addresses(file: Path, settings: ComposeSettings) -> None:
    config = read_config(file)
    problems = []
    if config.hub.public_url.rstrip("/") != settings.public_url:
        problems.append(f"hub.public_url is {config.hub.public_url}, Compose serves {settings.public_url}")
    if config.short_name != settings.name:
        problems.append(f"short_name is {config.short_name!r}, the Compose project is {settings.name!r}")
    if problems:
        raise ConfigElsewhere(file, tuple(problems))


def _give_config(layout: ComposeLayout) -> None:
    for folder, _, files in os.walk(layout.config):
        for name in files:
            path = Path(folder) / name
            os.chown(path, 0, GROUP)
            path.chmod(0o640)


def _give_proposals(layout: ComposeLayout) -> None:
    for pool in POOLS:
        for proposal, gid in PROPOSAL_GIDS.items():
            give_proposal(layout.facility / pool / proposal, gid)


def give_proposal(folder: Path, gid: int) -> None:
    """Raw data is the facility's; what members make in a proposal's `processed` belongs to its group."""
    for inner, _, files in os.walk(folder):
        Path(inner).chmod(0o755)
        for name in files:
            (Path(inner) / name).chmod(0o644)
    if folder.is_dir():
        shutil.chown(folder, group=gid)
        processed = folder / "processed"
        processed.mkdir(exist_ok=True)
        shutil.chown(processed, group=gid)
        processed.chmod(0o2770)


def main(argv: list[str] | None = None) -> int:
    """Prepare, and say what is wrong in one line."""
    parser = argparse.ArgumentParser(prog="python -m beamhub_core.demo.compose", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="BEAMHUB_FACILITY_ROOT, as the host has it")
    parser.add_argument("--name", required=True, help="name of the Compose project")
    parser.add_argument("--public-url", default="", help="where browsers come, if not to host and port")
    parser.add_argument("--host", required=True, help="host name of the published port")
    parser.add_argument("--port", required=True, help="the published port")
    parser.add_argument("--issuer", required=True, help="where browsers and hub reach the demo's provider")
    parser.add_argument("--image", required=True, help="what sessions run in")
    parser.add_argument("--network-block", required=True, help="addresses of sessions' networks")
    named: dict[str, Any] = vars(parser.parse_args(argv))
    layout = ComposeLayout(named.pop("root"))
    address = f"http://{named.pop('host')}:{named.pop('port')}"
    named["public_url"] = named["public_url"].rstrip("/") or address
    try:
        prepare_compose(layout, ComposeSettings(**named))
    except BeamhubError as error:
        sys.stderr.write(f"prepare: {error}\n")
        return error.exit_code
    sys.stderr.write(f"prepare: {layout.root} is complete\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
