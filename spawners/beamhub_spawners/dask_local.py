"""Parts of clusters as processes of this machine, confined as the session beside them is.

They run as the gateway's own operating-system user, as local sessions run as the hub's; what keeps them
apart is the launcher's confinement. Certificate, key and token of a cluster are files with mode 0600 in a
folder of each part's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from beamhub_core.config import FacilityConfig
from beamhub_core.landlock import available_abi, promises
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners import dask_preload
from beamhub_spawners.dask_render import (
    TOKEN_VARIABLE,
    DaskPart,
    PartFiles,
    part_command,
    part_limits,
    part_variables,
)
from beamhub_spawners.dask_runner import FoundPart, PartAddress, PartNotStarted, Secrets, gateway_of
from beamhub_spawners.host_folders import mount_root
from beamhub_spawners.local_launcher import DataFolder, Launch
from beamhub_spawners.local_system import readable_folders, runnable_folders, writable_devices
from beamhub_spawners.process_file import FOLDER_MODE, ProcessFile, is_alive, read_process, write_private
from beamhub_spawners.processes import family_of, signal_process

HOST = "127.0.0.1"
GRACE_S = 3.0
LAUNCH_S = 10.0
CHECK_INTERVAL_S = 0.05
MARKER = "BEAMHUB_CLUSTER_PART"
# Private memory that every part's Python needs, however small its share.
SMALLEST_DATA_GIB = 1.0


class LocalRunner:
    """Clusters on this machine. `_children` are of this process: one that nobody waits for stays."""

    knows_schedulers = False

    def __init__(self, config: FacilityConfig) -> None:
        self._config, self._gateway = config, gateway_of(config)
        self._children: dict[Path, subprocess.Popen[bytes]] = {}

    async def start(self, plan: SessionPlan, part: DaskPart, secrets: Secrets, scheduler: str) -> None:
        """Make the part's folder and start its launcher in a session of its own."""
        folder = self._folder(plan.id, part.cluster, part.name)
        if folder.exists():
            return
        try:
            launch, environment = self._prepared(plan, part, secrets, folder)
            if scheduler:
                environment["DASK_SCHEDULER_ADDRESS"] = scheduler
            write_private(folder / "launch.json", launch.to_json())
            log_file = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                self._children[folder] = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-m", "beamhub_spawners.local_launcher"),
                        str(folder / "launch.json"),
                    ],
                    env=environment,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=log_file,
                    start_new_session=True,
                    close_fds=True,
                )
            finally:
                os.close(log_file)
        except OSError as error:
            raise PartNotStarted(part.role, f"its folder could not be made ({error.strerror})") from error

    async def end(self, found: FoundPart) -> None:
        """Ask the process to stop, kill it and all that came of it, and remove its folder."""
        folder = self._folder(found.plan_id, found.cluster, found.name)
        child = self._children.pop(folder, None)
        process = await self._process(folder, child)
        if process is not None:
            if signal_process(process.pid, process.started, signal.SIGTERM):
                await _wait_gone(process, GRACE_S)
            for pid, started in family_of(process.pid, f"{MARKER}={folder}"):
                signal_process(pid, started, signal.SIGKILL)
            signal_process(process.pid, process.started, signal.SIGKILL)
        elif child is not None:
            child.kill()
        if child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.wait, GRACE_S)
        self._keep_log(folder)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        for above in (folder.parent, folder.parent.parent):
            with contextlib.suppress(OSError):  # other parts are still in it
                above.rmdir()

    async def look(self) -> tuple[FoundPart, ...]:
        """Every part's folder, whether its process lives or not."""
        return tuple(self._looked())

    async def is_alive(self, found: FoundPart) -> bool:
        """By the child's exit while we are its parent, else by the process file."""
        return self._lives(self._folder(found.plan_id, found.cluster, found.name))

    async def address(self, found: FoundPart) -> PartAddress | None:
        """The loopback; its ports are the kernel's choice."""
        is_there = self._lives(self._folder(found.plan_id, found.cluster, found.name))
        return PartAddress(HOST) if is_there else None

    async def close(self) -> None:
        """Forget the children; they go on by themselves."""
        self._children.clear()

    # -- files -----------------------------------------------------------------------------------------

    @property
    def _clusters(self) -> Path:
        return self._gateway.state_folder / "clusters"

    def _folder(self, plan_id: str, cluster: str, name: str) -> Path:
        return self._clusters / plan_id / cluster / name

    def _prepared(
        self, plan: SessionPlan, part: DaskPart, secrets: Secrets, folder: Path
    ) -> tuple[Launch, dict[str, str]]:
        """The part's folder with its secrets, and what its launcher does in which environment."""
        tmp = folder / "tmp"
        for one in (
            *reversed(folder.relative_to(self._clusters).parents),
            folder.relative_to(self._clusters),
        ):
            (self._clusters / one).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        tmp.mkdir(mode=FOLDER_MODE)
        texts = {"dask.crt": secrets.certificate, "dask.pem": secrets.key, "token": secrets.token}
        for name, text in texts.items():
            write_private(folder / name, text)
        files = PartFiles(*(str(folder / name) for name in texts))
        variables = part_variables(part, plan, self._gateway, scheduler="", files=files)
        return self._launch(plan, part, folder), {
            **variables,
            TOKEN_VARIABLE: files.token,
            "PATH": os.pathsep.join((str(Path(sys.prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin")),
            "USER": plan.account,
            "LOGNAME": plan.account,
            "TMPDIR": str(tmp),
            "DASK_TEMPORARY_DIRECTORY": str(tmp),
            MARKER: str(folder),
        }

    def _launch(self, plan: SessionPlan, part: DaskPart, folder: Path) -> Launch:
        limits = part_limits(part, plan, self._gateway)
        command = part_command(
            part, self._gateway, host=HOST, ports=(0, 0), folder=str(folder / "tmp"), preload=_preload_file()
        )
        sessions = self._config.sessions
        return Launch(
            process_file=str(folder / "process.json"),
            process={
                "plan_id": plan.id,
                "plan_hash": digest(plan),
                "account": plan.account,
                "server_name": plan.server_name,
                "url": "",
                "token_digest": "",
            },
            arguments=[sys.executable, "-P", "-m", *command],
            folder=str(folder / "tmp"),
            read=[*readable_folders(), *(str(folder / name) for name in ("dask.crt", "dask.pem", "token"))],
            run=runnable_folders(sessions.local_read_folders),
            write=[*writable_devices(), str(folder / "tmp")],
            data=[
                DataFolder(str(mount_root(one, self._config)), one.path, one.mode == "rw")
                for one in plan.mounts
            ],
            promised=promises(available_abi()),
            memory_bytes=int(max(limits.memory_gib, SMALLEST_DATA_GIB) * 2**30),
        )

    def _looked(self) -> Iterator[FoundPart]:
        places = self._config.sessions.places
        for folder in sorted(self._clusters.glob("*/*/*/")):
            plan_id, cluster, name = folder.parts[-3:]
            with contextlib.suppress(FileNotFoundError):
                # The machine's own clock: the platform's may be shifted, the file system's is not.
                age_s = time.time() - folder.stat().st_mtime
                yield FoundPart(plan_id, cluster, name, places[0].name, self._lives(folder), age_s)

    def _lives(self, folder: Path) -> bool:
        child = self._children.get(folder)
        if child is not None:
            return child.poll() is None
        process = read_process(folder / "process.json")
        return process is not None and is_alive(process)

    async def _process(self, folder: Path, child: subprocess.Popen[bytes] | None) -> ProcessFile | None:
        """The process file, waited for while a launcher may be about to write it."""
        until = time.monotonic() + LAUNCH_S
        while (process := read_process(folder / "process.json")) is None:
            if child is None or child.poll() is not None or time.monotonic() > until:
                return None
            await asyncio.sleep(CHECK_INTERVAL_S)
        return process

    def _keep_log(self, folder: Path) -> None:
        logs = self._gateway.state_folder / "logs"
        with contextlib.suppress(OSError):
            logs.mkdir(mode=FOLDER_MODE, exist_ok=True)
            (folder / "log").replace(logs / f"{folder.parent.name}-{folder.name}.log")


def _preload_file() -> str:
    """The preload as a file: it loads also where this package is not installed."""
    return str(Path(dask_preload.__file__).resolve())


async def _wait_gone(process: ProcessFile, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while is_alive(process):
                await asyncio.sleep(CHECK_INTERVAL_S)
