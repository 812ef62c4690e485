"""Attempts to change raw data from inside a session that owns the files.

    cd tests && python -m spawners.raw_attempts --json ../docs/measurements/sessions-raw-attempts.json

The session is a real container as the uid of the files, whose modes are 0644 and 0755, and another file
system of the same owner is mounted below them: only the mount protects them.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from beamhub_spawners.session_options import read_options
from contracts.docker_parts import (
    NETWORK_BLOCK,
    SOCKET,
    DockerBackend,
    docker_backend,
    docker_facility,
    engine_client,
    own_network,
)
from contracts.small_image import make_image
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import make_facility, principal
from contracts.web_stand_in import serving_stand_in

UID, GID = 4711, 4712
ATTEMPTS = Path(__file__).parent / "attempts_in_session.py"
IMAGE = "beamhub-test-attempts:dev"


def start(backend: DockerBackend, run: Any, **person: Any) -> Any:
    """A spawner whose session runs."""
    spawner = backend.spawner()
    spawner.principal = principal(**person)
    spawner.request = read_options(OPTIONS)
    run(spawner.start())
    return spawner


def tree_digest(folder: Path) -> str:
    """Names, kinds, owners, modes, times, links, attributes and contents of everything below a folder."""
    said = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        kept = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_size, facts.st_mtime_ns, facts.st_nlink)
        attributes = [] if path.is_symlink() else os.listxattr(path)
        said.update(f"{path} {kept} {attributes}\n".encode())
        if path.is_file():
            said.update(path.read_bytes())
    return said.hexdigest()


def attempts(backend: DockerBackend, run: Any, folder: Path, *, count: int, seed: int) -> dict[str, Any]:
    """What so many attempts came to, and whether the data are as they were."""
    raw = folder / "pools/hall-a/MA-5101/raw"
    for i in range(4):
        part = raw / "sample-1" / f"part-{i}"
        part.mkdir()
        (part / f"frames {i}.h5").write_text("frames" * i or "x")
    nested = raw / "sample-1/nested"
    nested.mkdir()
    for path in [raw, *raw.rglob("*")]:
        os.chown(path, UID, GID)
        path.chmod(0o755 if path.is_dir() else 0o644)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(nested)], check=True)
    try:
        os.chown(nested, UID, GID)
        (nested / "below.h5").write_text("below")
        os.chown(nested / "below.h5", UID, GID)
        spawner = start(backend, run, uid=UID, gid=GID)
        before = tree_digest(folder / "pools")
        inside = "/data/hall-a/MA-5101/raw/sample-1"
        asked = {"raw": inside, "neighbour": "/data/hall-a/MA-6202", "count": count, "seed": seed}
        program = ATTEMPTS.read_text().replace("from __future__ import annotations\n", "")
        code = f"import sys; sys.argv = ['', {json.dumps(asked)!r}]\n{program}"
        said: dict[str, Any] = json.loads(backend.look(spawner.plan.id, code))
        said["tree is unchanged"] = tree_digest(folder / "pools") == before
        run(spawner.stop(now=True))
        return said
    finally:
        subprocess.run(["umount", str(nested)], check=True)


def main() -> int:
    """Attempt, print and write; 1 when any attempt succeeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    began = time.monotonic()
    with (
        engine_client() as engine,
        own_network(engine) as (_, gateway),
        serving_stand_in(gateway) as stand_in,
        tempfile.TemporaryDirectory() as name,
        asyncio.Runner() as runner,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        make_image(engine, IMAGE)
        try:
            make_facility(folder)
            host = {"url": SOCKET, "unsafe_direct_socket": True, "network_block": NETWORK_BLOCK}
            fields = docker_facility(folder, stand_in, host, image=IMAGE)
            with docker_backend(engine, stand_in, fields, runner.run) as backend:
                said = attempts(backend, runner.run, folder, count=arguments.count, seed=arguments.seed)
        finally:
            engine.remove_image(IMAGE, force=True)
    facts = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "kernel": platform.release(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python -m spawners.raw_attempts", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began, 1),
        **said,
    }
    text = json.dumps(facts, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return int(said["succeeded"] > 0 or not said["tree is unchanged"])


if __name__ == "__main__":
    sys.exit(main())
