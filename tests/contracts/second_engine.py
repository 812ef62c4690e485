"""A second Docker engine with a tree of its own: another host on the same machine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

DATA_MIB = 700
START_S = 60.0


@dataclass(frozen=True)
class SecondEngine:
    """An engine in a mount namespace of its own, where some folders are others."""

    socket: Path
    pid: int
    data: Path

    @property
    def url(self) -> str:
        """As docker's client names it."""
        return f"unix://{self.socket}"

    def within(self, *command: str) -> list[str]:
        """A command that sees what this host sees."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--", *command]

    def free_bytes(self, *, leave: int) -> None:
        """Fill the disk of the host but for some bytes, or empty it again with a negative number."""
        script = (
            "import os, sys\n"
            "data, leave = sys.argv[1], int(sys.argv[2])\n"
            "path = os.path.join(data, 'filler')\n"
            "if leave < 0: os.unlink(path); sys.exit()\n"
            "free = os.statvfs(data)\n"
            "with open(path, 'wb') as file:\n"
            "    os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave)\n"
        )
        subprocess.run(self.within("python3", "-c", script, str(self.data), str(leave)), check=True)


@contextmanager
def second_engine(own_folders: dict[Path, Path]) -> Iterator[SecondEngine]:
    """An engine beside the machine's own, on a small disk in memory, until the block ends.

    Parameters
    ----------
    own_folders:
        Folders that are others on this host: where they are seen, to what is seen there.
    """
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "unshare", "nsenter"))):
        pytest.skip("a second engine needs root and dockerd, unshare and nsenter")
    with tempfile.TemporaryDirectory(prefix="bh-") as short, _own_bridge() as bridge:
        folder = Path(short)
        data, socket = folder / "data", folder / "engine.sock"
        data.mkdir()
        mounts = [f"mount -t tmpfs -o size={DATA_MIB}m tmpfs {data}"]
        mounts += [f"mount --bind '{source}' '{target}'" for target, source in own_folders.items()]
        daemon = (
            f"exec dockerd --host unix://{socket} --data-root {data} --exec-root {folder}/x "
            f"--pidfile {folder}/pid --bridge {bridge} --iptables=false --userland-proxy=false "
            "--storage-driver overlay2"
        )
        script = " && ".join([*mounts, daemon])
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            _await_answer(socket, process, folder / "log")
            yield SecondEngine(socket, process.pid, data)
        finally:
            # Its networks are this machine's bridges, which it would leave behind.
            prune = ["docker", "--host", f"unix://{socket}", "network", "prune", "--force"]
            subprocess.run(prune, capture_output=True, check=False)
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@contextmanager
def _own_bridge() -> Iterator[str]:
    """A bridge for the engine: one without any would remove `docker0`, which is the other engine's."""
    name, block = f"bh{secrets.token_hex(4)}", f"10.199.{secrets.randbelow(256)}.1/24"
    try:
        for words in (
            f"link add {name} type bridge",
            f"address add {block} dev {name}",
            f"link set {name} up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def _await_answer(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        if socket.exists():
            try:
                docker.APIClient(base_url=f"unix://{socket}", version="1.41", timeout=5).close()
                client = docker.APIClient(base_url=f"unix://{socket}", version="auto", timeout=5)
            except DockerException:
                continue
            client.close()
            return
        process_wait(process)
    pytest.fail("the second engine did not start:\n" + log.read_text()[-2000:])


def process_wait(process: subprocess.Popen[bytes]) -> None:
    """Wait a moment for the process's end, which would be the answer, too."""
    try:
        process.wait(0.1)
    except subprocess.TimeoutExpired:
        return
