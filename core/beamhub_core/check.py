"""`beamhub check`: what a facility should know before it starts the platform, all of it at once."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from beamhub_core.check_docker import docker_weaknesses
from beamhub_core.check_finding import Finding, Level
from beamhub_core.check_storage import check_storage
from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.config.facility import lies_in
from beamhub_core.config.reading import is_secret
from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity_table import read_identity_table
from beamhub_core.landlock import available_abi, promises
from beamhub_core.policy_file import read_policy

REPORT_VERSION = 1
EXTRA_FOLDER = "jupyterhub_config.d"
KEYS = ("hub.crypt_key_file", "hub.cookie_secret_file")
KEY_LINE = re.compile(r"[0-9a-f]{64}")
MAX_SECRET_BYTES = 16_384


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `check`."""
    parser = subparsers.add_parser(
        "check",
        help="report every problem of the configuration and of what it names",
        description="Read the configuration and look at every file and folder that it names. Starts nothing.",
        epilog="Examples: beamhub check --config /etc/beamhub/facility.yaml; beamhub check --json. "
        "Exit codes: 0 no problem, 1 something that the configuration names is not as it must be, "
        "7 the configuration itself is invalid.",
    )
    parser.add_argument(
        "--config", type=Path, default=Path("facility.yaml"), help="the configuration file (./facility.yaml)"
    )
    parser.add_argument(
        "--live", action="store_true", help="also try to write where sessions write; leaves nothing behind"
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object to standard output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Report on the configuration that the arguments name and return the exit code."""
    path: Path = arguments.config
    try:
        findings = check_environment(read_config(path), path, live=arguments.live)
        code = 1 if any(finding.level == "problem" for finding in findings) else 0
    except ConfigInvalid as error:
        findings = tuple(_from_config(problem) for problem in error.problems)
        code = error.exit_code
    if arguments.json:
        sys.stdout.write(json.dumps(report(path, findings, code), ensure_ascii=False) + "\n")
    else:
        _write_text(path, findings)
    return code


def report(path: Path, findings: tuple[Finding, ...], code: int) -> dict[str, Any]:
    """The findings as the JSON object of `beamhub check --json`."""

    def those(level: Level) -> list[dict[str, str]]:
        return [
            {"path": finding.path, "message": finding.message, "hint": finding.hint}
            for finding in findings
            if finding.level == level
        ]

    return {
        "version": REPORT_VERSION,
        "ok": code == 0,
        "exit_code": code,
        "config": str(path),
        "problems": those("problem"),
        "warnings": those("warning"),
        "notes": those("note"),
    }


def _from_config(problem: str) -> Finding:
    path, separator, message = problem.partition(": ")
    if separator and " " not in path:
        return Finding("problem", path, message)
    return Finding("problem", "(file)", problem)  # of the file as a whole


def _write_text(path: Path, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        hint = f"\n    {finding.hint}" if finding.hint else ""
        sys.stdout.write(f"{finding.level}: {finding.path}: {finding.message}{hint}\n")
    n_problems = sum(finding.level == "problem" for finding in findings)
    n_warnings = sum(finding.level == "warning" for finding in findings)
    sys.stderr.write(f"beamhub: {path}: {n_problems} problem(s), {n_warnings} warning(s)\n")


def check_environment(
    config: FacilityConfig, config_file: Path, *, live: bool = False
) -> tuple[Finding, ...]:
    """Everything that a valid configuration names and that is not, or not fully, as it must be.

    With `live`, also what only trying shows: that pools and homes can be written to.
    """
    return (
        *_secrets(config),
        *_folders(config),
        *check_storage(config, live=live),
        *_files(config),
        *_templates(config),
        *_database_folders(config),
        *_confinement(config),
        *_unsafe_switches(config),
        *(Finding("warning", *one) for one in docker_weaknesses(config)),
        *_addresses(config),
        *_extra_settings(config_file),
    )


def values(section: BaseModel, path: str = "") -> Iterator[tuple[str, str, BaseModel, Any]]:
    """Every key that stands below a section: its path, its name, its section and its value."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        here = f"{path}.{name}" if path else name
        yield here, name, section, value
        if isinstance(value, BaseModel):
            yield from values(value, here)
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from values(item, f"{here}[{i}]")


def _secrets(config: FacilityConfig) -> Iterator[Finding]:
    for where, name, section, path in values(config):
        if not is_secret(type(section).model_fields[name]) or path is None:
            continue
        problem = _secret_problem(path, is_key=where in KEYS)
        if problem is not None:
            yield Finding("problem", where, f"{path}: {problem[0]}", problem[1])


def _secret_problem(path: Path, *, is_key: bool) -> tuple[str, str] | None:
    make = f"(umask 077; openssl rand -hex 32 > {path})"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return "is not a regular file", "name the file that holds the secret"
        # A secret that an orchestrator mounts belongs to root and is handed over by a group.
        handed_over = found.st_uid != os.geteuid() and found.st_uid == 0
        if found.st_mode & (0o037 if handed_over else 0o077):
            mode = stat.S_IMODE(found.st_mode)
            return f"may be used by others than its owner (mode {mode:04o})", f"chmod 600 {path}"
        if found.st_size > MAX_SECRET_BYTES:
            return f"has {found.st_size} bytes, which is no secret", "name the file that holds the secret"
        text = path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})", f"make it: {make}"
    if not text.strip():
        return "is empty", f"make it: {make}"
    if not text.isascii():
        return "is not plain ASCII text", f"make it again: {make}"
    if is_key and not all(KEY_LINE.fullmatch(line.decode()) for line in text.split()):
        return "holds a line that is no key of 64 hexadecimal digits", f"make it again: {make}"
    return None


def _folders(config: FacilityConfig) -> Iterator[Finding]:
    own = {
        "hub.state_folder": config.hub.state_folder,
        "web.state_folder": config.web.state_folder,
        "sessions.state_folder": config.sessions.state_folder,
    }
    for where, folder in own.items():
        problem = _not_writable(folder)
        if problem is not None:
            yield Finding(
                "problem", where, f"{folder}: {problem}", f"mkdir -p -m 0700 {folder}, owned by the platform"
            )
        elif folder.stat().st_mode & 0o007:
            yield Finding(
                "warning", where, f"{folder}: every user of this machine may enter it", f"chmod o= {folder}"
            )
    # Homes are storage, which may hang: check_storage looks at them.
    for where, folder in {**own, "sessions.homes_folder": config.sessions.homes_folder}.items():
        for pool in config.pools:
            if lies_in(folder, pool.root):
                yield Finding(
                    "warning",
                    where,
                    f"{folder}: lies in pool {pool.name!r}, beside data that sessions mount",
                    "keep the platform's own files outside the storage pools",
                )


def _not_writable(folder: Path) -> str | None:
    """Why nothing can be written into a folder; tried, since modes say nothing of full or read-only disks."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def _files(config: FacilityConfig) -> Iterator[Finding]:
    named = [
        ("login.role_assignments", config.login.role_assignments),
    ]
    if config.login.identity_map is not None and config.login.identity_map.ldap is not None:
        named.append(("login.identity_map.ldap.ca_file", config.login.identity_map.ldap.ca_file))
    for i, office in enumerate(config.catalogue.user_offices):
        if office.kind == "csv":
            here = f"catalogue.user_offices[{i}]"
            named += [
                (f"{here}.proposals", office.proposals),
                (f"{here}.members", office.members),
                (f"{here}.staff", office.staff),
            ]
    for where, path in named:
        problem = _not_readable(path) if path is not None else None
        if problem is not None:
            yield Finding("problem", where, f"{path}: {problem}", "write the file, or correct the path")
    if config.login.identity_map is not None and config.login.identity_map.file is not None:
        yield from _identity_table(config.login.identity_map.file)
    try:
        read_policy(config.catalogue.policy_file)
    except ConfigInvalid as error:
        for text in error.problems:
            yield Finding("problem", "catalogue.policy_file", f"{error.source}: {text}", "correct the policy")


def _identity_table(path: Path) -> Iterator[Finding]:
    try:
        read_identity_table(path)
    except ConfigInvalid as error:
        for text in error.problems:
            message = f"{error.source}: {text}"
            yield Finding(
                "problem",
                "login.identity_map.file",
                message,
                "nobody logs in with a broken table; correct it",
            )


def _not_readable(path: Path) -> str | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _templates(config: FacilityConfig) -> Iterator[Finding]:
    folder = config.sessions.templates_folder
    if not folder.is_dir():
        yield Finding(
            "problem", "sessions.templates_folder", f"{folder}: is not a folder", "correct the path"
        )
        return
    for i, template in enumerate(config.sessions.templates):
        where, path = f"sessions.templates[{i}].file", folder / template.file
        if not lies_in(path.resolve(), folder.resolve()):
            yield Finding(
                "problem", where, f"{template.file}: leads out of {folder}", "keep templates below the folder"
            )
        elif (problem := _not_readable(path)) is not None:
            yield Finding("problem", where, f"{path}: {problem}", "add the notebook, or remove the template")


def _database_folders(config: FacilityConfig) -> Iterator[Finding]:
    for where, url in (
        ("hub.database_url", config.hub.database_url),
        ("web.database_url", config.web.database_url),
    ):
        if not url.startswith("sqlite:///"):
            continue
        folder = Path(url.removeprefix("sqlite:///").partition("?")[0]).parent
        problem = _not_writable(folder)
        if problem is not None:
            yield Finding("problem", where, f"{folder}: {problem}", f"mkdir -p -m 0700 {folder}")


def _confinement(config: FacilityConfig) -> Iterator[Finding]:
    if not any(place.backend == "local" for place in config.sessions.places):
        return
    abi = available_abi()
    missing = sorted(name for name, kept in promises(abi).items() if not kept)
    if not missing:
        yield Finding("note", "sessions.places", f"local sessions are confined by Landlock (ABI {abi})")
        return
    kernel = f"this kernel has Landlock ABI {abi}" if abi else "this machine has no Landlock"
    yield Finding(
        "warning",
        "sessions.places",
        f"not enforced for local sessions: {', '.join(missing)} ({kernel})",
        "let one person only use local places here, or run a Linux kernel that has Landlock ABI 6 (6.12)",
    )


def _unsafe_switches(config: FacilityConfig) -> Iterator[Finding]:
    for where, name, _, value in values(config):
        if name.startswith("unsafe_") and value not in (None, False):
            yield Finding("warning", where, "an unsafe switch is on", "for demonstrations and tests only")


def _addresses(config: FacilityConfig) -> Iterator[Finding]:
    public = urlsplit(config.hub.public_url)
    if public.scheme == "http" and not is_loopback(public.hostname or ""):
        yield Finding(
            "warning",
            "hub.public_url",
            "has no TLS: whoever is on the way between a browser and the platform can take over any login",
            "put a certificate in front of the proxy and write https",
        )
    is_for_one_person = len(config.sessions.places) == 1 and config.sessions.places[0].backend == "local"
    if config.hub.subdomain_host is None and not is_for_one_person:
        yield Finding(
            "warning",
            "hub.subdomain_host",
            "is not set: all sessions share one host name, so a page that one person's session shows can act "
            "as whoever opens it, in that one's own sessions",
            "make a wildcard DNS entry and certificate below the host of hub.public_url, and set this key",
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _extra_settings(config_file: Path) -> Iterator[Finding]:
    folder = config_file.resolve().parent / EXTRA_FOLDER
    for path in sorted(folder.glob("*.py")) if folder.is_dir() else []:
        yield Finding(
            "note", f"{EXTRA_FOLDER}/{path.name}", "is loaded last and may change any setting of the hub"
        )
