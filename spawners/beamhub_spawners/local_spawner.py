"""Sessions as processes of this machine, confined by Landlock where the kernel has it.

All local sessions run as the hub's own operating-system user; what keeps them apart is the launcher's
confinement (`local_launcher`). Use it for one person's machine, for demonstrations and for tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from jupyterhub.spawner import Spawner

from beamhub_core.config.storage import SessionsConfig
from beamhub_core.landlock import available_abi, promises
from beamhub_core.session import Mount, SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.host_folders import check_and_ensure_folders, mount_root, unfit_in_words
from beamhub_spawners.local_launcher import DataFolder, Launch
from beamhub_spawners.local_system import readable_folders, runnable_folders, writable_devices
from beamhub_spawners.paths import PathEscapes
from beamhub_spawners.process_file import (
    FILE_MODE,
    FOLDER_MODE,
    ProcessFile,
    SessionFolder,
    SessionStore,
    is_alive,
    read_process,
    write_private,
)
from beamhub_spawners.processes import family_of, signal_process, started_at
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.rescue import memory_variables
from beamhub_spawners.session_environment import session_environment, token_digest
from beamhub_spawners.session_server import LAB_SETTINGS, LAB_SETTINGS_FILE, SETTINGS, view_arguments
from beamhub_spawners.session_spawner import PlanSpawnerMixin
from beamhub_spawners.session_view import NOTEBOOKS, session_info, view_links, write_view

HOST = "127.0.0.1"
GRACE_S = 5.0
LAUNCH_GRACE_S = 10.0
CHECK_INTERVAL_S = 0.05
LOG_TAIL_BYTES = 4096


def enforced_here() -> dict[str, bool]:
    """Which promises a local session on this machine keeps; all False without Landlock."""
    return {**promises(available_abi()), "memory_per_process": True, "own_numeric_identity": False}


class LocalSessionSpawner(PlanSpawnerMixin, Spawner):  # type: ignore[misc]  # JupyterHub is untyped
    """One process of this machine per session."""

    # The children of this hub process by plan. Kept by the class: a server outlives its spawner object,
    # and a child that nobody waits for stays a zombie.
    _children: ClassVar[dict[str, subprocess.Popen[bytes]]] = {}

    @property
    def _sessions(self) -> SessionsConfig:
        return self.platform.config.sessions

    @property
    def _store(self) -> SessionStore:
        return SessionStore(self._sessions.state_folder)

    # -- the backend's part ---------------------------------------------------------------------

    async def launch(self, plan: SessionPlan) -> None:
        """Make the session's folders and start its launcher in a session of its own."""
        self.ip, self.port = HOST, _free_port()
        self._store.remember(plan.account, plan.server_name, plan.id)
        try:
            session = make_session_folder(self._store, plan)
            await asyncio.to_thread(check_and_ensure_folders, plan, self.platform.config)
            launch = self._rendered(plan, session)
            write_private(session.launch_file, launch.to_json())
        except PathEscapes as error:
            self.log.exception("the folders of session %s cannot be made", plan.id)
            raise StartFailed("The session", unfit_in_words(error, plan)) from error
        except OSError as error:
            self.log.exception("the folders of session %s cannot be made", plan.id)
            raise StartFailed("The session", "its folders could not be made") from error
        session.log_file.touch(FILE_MODE)
        with session.log_file.open("ab") as log:
            self._children[plan.id] = subprocess.Popen(
                [sys.executable, "-P", "-m", "beamhub_spawners.local_launcher", str(session.launch_file)],
                env=self._environment(plan, session),
                cwd=session.top,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # signals to the hub's group do not reach it
                close_fds=True,
            )

    async def is_running(self) -> bool | None:
        """By the child's exit while we are its parent, by its process file after a restart."""
        plan_id = await self.find_plan_id()
        if plan_id is None:
            return False
        child = self._children.get(plan_id)
        if child is not None:
            # A killed process is a zombie while its last threads end, and cannot be waited for until then.
            return child.poll() is None and started_at(child.pid) is not None
        session = self._store.session(plan_id)
        process = read_process(session.process_file)
        if process is not None:
            return is_alive(process)
        # Started by a hub that was killed a moment ago: the launcher may not have written its file yet.
        return _is_fresh(session.launch_file)

    async def find_url(self) -> str | None:
        """From the process file, which only the launcher writes."""
        process = self._process_file()
        return process.url if process is not None else None

    async def find_plan_id(self) -> str | None:
        """From the store's note on this server."""
        return self._store.plan_id(self.user.name, self.name)

    async def backend_id(self) -> str | None:
        """The process's number."""
        process = self._process_file()
        return f"pid:{process.pid}" if process is not None else None

    async def exit_reason(self) -> str:
        """What the launcher said, or the exit status; the whole log stays for the facility."""
        plan_id = await self.find_plan_id()
        if plan_id is None:
            return "nothing was started"
        said = _launcher_said(self._store.session(plan_id).log_file)
        if said is not None:
            return said
        child = self._children.get(plan_id)
        return f"its process ended with status {child.poll() if child is not None else 'unknown'}"

    async def end(self, *, now: bool) -> None:
        """Ask the process to stop, then kill it and every process that came of it."""
        plan_id = await self.find_plan_id()
        if plan_id is None:
            return
        child = self._children.get(plan_id)
        process = self._process_file()
        if process is not None:
            await end_process(process, self._store, now=now)
        elif child is not None and child.poll() is None:
            child.kill()
        if child is not None:
            await asyncio.to_thread(child.wait, GRACE_S)
            del self._children[plan_id]
        self._store.remove(plan_id)

    # -- rendering -------------------------------------------------------------------------------------

    def _rendered(self, plan: SessionPlan, session: SessionFolder) -> Launch:
        sessions = self._sessions
        return Launch(
            process_file=str(session.process_file),
            process={
                "plan_id": plan.id,
                "plan_hash": digest(plan),
                "account": plan.account,
                "server_name": plan.server_name,
                "url": f"http://{HOST}:{self.port}",
                "token_digest": token_digest(self.api_token),
            },
            arguments=server_arguments(session),
            folder=str(session.view),
            read=[
                *readable_folders(),
                os.path.realpath(sessions.templates_folder),
                *(str(path) for path in (session.view, session.config, session.session_file)),
            ],
            run=runnable_folders(sessions.local_read_folders),
            write=[*writable_devices(), str(session.tmp)],
            data=[self._data_folder(mount) for mount in plan.mounts],
            promised=promises(available_abi()),
            memory_bytes=int(plan.limits.memory_gib * 2**30),
        )

    def _data_folder(self, mount: Mount) -> DataFolder:
        root = mount_root(mount, self.platform.config)
        return DataFolder(root=str(root), path=mount.path, writable=mount.mode == "rw")

    def _environment(self, plan: SessionPlan, session: SessionFolder) -> dict[str, str]:
        home = next(mount.target for mount in plan.mounts if mount.purpose == "home")
        path = [str(Path(sys.prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]
        return session_environment(
            self.get_env(),
            of_the_facility=frozenset(self.environment),
            of_the_plan=plan.environment_variables,
            of_the_backend={
                "PATH": os.pathsep.join(path),
                "HOME": home,
                "SHELL": shutil.which("bash") or "/bin/sh",
                "USER": plan.account,
                "LOGNAME": plan.account,
                "TMPDIR": str(session.tmp),
                "JUPYTER_CONFIG_PATH": str(session.config),
                "JUPYTER_RUNTIME_DIR": str(session.tmp / "runtime"),
                "BEAMHUB_SESSION_FILE": str(session.session_file),
                "BEAMHUB_TEMPLATES": str(self._sessions.templates_folder),
                **(memory_variables(session.tmp / "rescue") if plan.is_rescue else {}),
            },
        )

    def _process_file(self) -> ProcessFile | None:
        plan_id = self._store.plan_id(self.user.name, self.name)
        if plan_id is None:
            return None
        return read_process(self._store.session(plan_id).process_file)


def server_arguments(session: SessionFolder) -> list[str]:
    """The command line of the server; -P keeps the working folder out of its imports."""
    arguments = [
        sys.executable,
        "-P",
        "-m",
        "beamhub_spawners.session_server",
        *view_arguments(str(session.view), str(session.view / NOTEBOOKS)),
    ]
    return [*arguments, "--allow-root"] if os.geteuid() == 0 else arguments


def make_session_folder(store: SessionStore, plan: SessionPlan) -> SessionFolder:
    """The files of one session, fresh, readable by their owner only."""
    session = store.session(plan.id)
    for folder in (session.top, session.view, session.tmp, session.tmp / "runtime", session.config):
        folder.mkdir(mode=FOLDER_MODE)
    info = session_info(plan, enforced=enforced_here())
    write_private(session.session_file, info.model_dump_json())
    write_view(session.view, view_links(info))
    write_private(session.config / "jupyter_server_config.json", json.dumps(SETTINGS))
    lab_settings = session.config / LAB_SETTINGS_FILE
    lab_settings.parent.mkdir(mode=FOLDER_MODE)
    write_private(lab_settings, json.dumps(LAB_SETTINGS))
    return session


async def end_process(process: ProcessFile, store: SessionStore, *, now: bool) -> None:
    """End a session's process and all that came of it, and return when it is gone."""
    marker = f"BEAMHUB_SESSION_FILE={store.session(process.plan_id).session_file}"
    if not now and signal_process(process.pid, process.started, signal.SIGTERM):
        await _wait_gone(process, GRACE_S)
    family = family_of(process.pid, marker)
    signal_process(process.pid, process.started, signal.SIGKILL)
    for pid, started in family:
        signal_process(pid, started, signal.SIGKILL)
    await _wait_gone(process, GRACE_S)


async def _wait_gone(process: ProcessFile, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while is_alive(process):
                await asyncio.sleep(CHECK_INTERVAL_S)


def _launcher_said(log_file: Path) -> str | None:
    """The launcher's last word, without what follows it; paths of this machine stay in the log."""
    try:
        with log_file.open("rb") as log:
            log.seek(max(0, log_file.stat().st_size - LOG_TAIL_BYTES))
            tail = log.read().decode(errors="replace")
    except OSError:
        return None
    for line in reversed(tail.splitlines()):
        if line.startswith("The session does not start: "):
            return "this machine could not confine it (the log says why)"
        if "ddress already in use" in line:
            return "its port was taken by another program"
    return None


def _is_fresh(launch_file: Path) -> bool:
    try:
        # The machine's own clock: the platform's may be shifted, the file system's is not.
        return time.time() - launch_file.stat().st_mtime < LAUNCH_GRACE_S
    except FileNotFoundError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
