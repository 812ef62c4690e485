"""Attempts to change raw data from inside a session that owns the files.

    cd tests && python -m spawners.raw_attempts --json ../docs/measurements/sessions-raw-attempts.json
    cd tests && python -m spawners.raw_attempts --on kubernetes --json FILE

The session is a real container, or a pod, as the uid of the files, whose modes are 0644 and 0755, and
another file system of the same owner is mounted below them: only the mount protects them.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from beamhub_spawners.session_options import read_options
from contracts.cluster_parts import HOST, NODES, TestCluster, load_image, test_namespace
from contracts.docker_parts import (
    NETWORK_BLOCK,
    SOCKET,
    docker_backend,
    docker_facility,
    engine_client,
    own_network,
)
from contracts.small_image import make_image
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import make_facility, principal
from contracts.web_stand_in import serving_stand_in
from spawners.kubernetes_tests import backend_of, small_facility

UID, GID = 4711, 4712
ATTEMPTS = Path(__file__).parent / "attempts_in_session.py"
IMAGE = "beamhub-test-attempts:dev"


def start(backend: Any, run: Any, **person: Any) -> Any:
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


@contextmanager
def mounted_here(folder: Path) -> Iterator[Path]:
    """A file system in memory on a folder of this machine."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def attempts(
    backend: Any, run: Any, pool: Path, nesting: Callable[[Path], Any], *, count: int, seed: int
) -> dict[str, Any]:
    """What so many attempts came to, and whether the data are as they were.

    Parameters
    ----------
    pool:
        The root of the first pool; what lies beside it is looked at, too.
    nesting:
        Mounts another file system on a folder of the data; gives the folder where this process sees it.
    """
    raw = pool / "MA-5101/raw"
    for i in range(4):
        part = raw / "sample-1" / f"part-{i}"
        part.mkdir()
        (part / f"frames {i}.h5").write_text("frames" * i or "x")
    nested = raw / "sample-1/nested"
    nested.mkdir()
    for path in [raw, *raw.rglob("*")]:
        os.chown(path, UID, GID)
        path.chmod(0o755 if path.is_dir() else 0o644)
    with nesting(nested) as below:
        os.chown(below, UID, GID)
        (below / "below.h5").write_text("below")
        os.chown(below / "below.h5", UID, GID)
        spawner = start(backend, run, uid=UID, gid=GID)
        before = tree_digest(pool.parent), tree_digest(below)
        inside = "/data/hall-a/MA-5101/raw/sample-1"
        asked = {"raw": inside, "neighbour": "/data/hall-a/MA-6202", "count": count, "seed": seed}
        program = ATTEMPTS.read_text().replace("from __future__ import annotations\n", "")
        code = f"import sys; sys.argv = ['', {json.dumps(asked)!r}]\n{program}"
        shown = backend.look(spawner.plan.id, f"print(os.listdir({inside + '/nested'!r}))")
        said: dict[str, Any] = json.loads(backend.look(spawner.plan.id, code))
        said["the mount below is shown"] = "below.h5" in shown
        said["tree is unchanged"] = before == (tree_digest(pool.parent), tree_digest(below))
        run(spawner.stop(now=True))
        return said


@contextmanager
def docker_part(image: str, run: Any) -> Iterator[tuple[Any, Path, Callable[[Path], Any]]]:
    """A backend of containers, the root of its first pool, and what mounts below it."""
    with (
        engine_client() as engine,
        own_network(engine) as (_, gateway),
        serving_stand_in(gateway) as stand_in,
        tempfile.TemporaryDirectory() as name,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        make_facility(folder)
        host = {"url": SOCKET, "unsafe_direct_socket": True, "network_block": NETWORK_BLOCK}
        fields = docker_facility(folder, stand_in, host, image=image)
        with docker_backend(engine, stand_in, fields, run) as backend:
            yield backend, folder / "pools/hall-a", mounted_here


@contextmanager
def kubernetes_part(image: str, run: Any) -> Iterator[tuple[Any, Path, Callable[[Path], Any]]]:
    """A backend of pods; the same."""
    with (
        test_namespace() as cluster,
        serving_stand_in(HOST) as stand_in,
        tempfile.TemporaryDirectory() as name,
    ):
        load_image(image, cluster.run_folder)
        fields = small_facility(Path(name), cluster, stand_in, image)
        with backend_of(cluster, stand_in, fields, run) as backend:
            yield backend, Path(fields["pools"][0]["root"]), on_the_node(cluster)


def on_the_node(cluster: TestCluster) -> Callable[[Path], Any]:
    """What mounts below a folder of the first node."""
    home = cluster.node_folder(NODES[0])
    return lambda folder: cluster.mounted(NODES[0], str(folder.relative_to(home)), "mode=777")


PARTS = {"docker": docker_part, "kubernetes": kubernetes_part}


def main() -> int:
    """Attempt, print and write; 1 when any attempt succeeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--on", choices=PARTS, default="docker")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    began = time.monotonic()
    with engine_client() as engine, asyncio.Runner() as runner:
        make_image(engine, IMAGE)
        try:
            with PARTS[arguments.on](IMAGE, runner.run) as (backend, pool, nesting):
                said = attempts(
                    backend, runner.run, pool, nesting, count=arguments.count, seed=arguments.seed
                )
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
