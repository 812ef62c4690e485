"""Become a local session: confine this process, then execute the person's server in it.

`python -m beamhub_spawners.local_launcher LAUNCHFILE`, started by `LocalSessionSpawner` with a clean
environment. The launch file says what may be touched; it holds no secret. Standard library only, so that
it costs little of the start and no thread runs when Landlock is applied.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from beamhub_core.errors import BeamhubError
from beamhub_core.landlock import Grantable, restrict
from beamhub_spawners.paths import opened_beneath
from beamhub_spawners.processes import started_at

EXIT_NOT_STARTED = 70
MAX_OPEN_FILES = 65_536


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder of a pool or of the homes, resolved again below its root right before it is granted."""

    root: str
    path: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Launch:
    """What the launcher does, as the spawner rendered it from the plan.

    Parameters
    ----------
    process_file, process:
        Where to write the process file, and its fields but for the process's own.
    arguments, folder:
        Command line to execute and the folder to execute it in.
    read, run, write:
        Absolute paths of the system and the session; missing ones are skipped.
    data:
        Granted folders; a missing one is an error.
    promised:
        What the plan's pages say is enforced. If the kernel keeps less, the session does not start.
    """

    process_file: str
    process: dict[str, str]
    arguments: list[str]
    folder: str
    read: list[str]
    run: list[str]
    write: list[str]
    data: list[DataFolder]
    promised: dict[str, bool]
    memory_bytes: int

    def to_json(self) -> str:
        """The launch file's text."""
        return json.dumps(asdict(self))


class NotStarted(BeamhubError):
    """The session must not start like this."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def read_launch(path: Path) -> Launch:
    """The launch in a file."""
    fields = json.loads(path.read_text())
    fields["data"] = [DataFolder(**folder) for folder in fields["data"]]
    return Launch(**fields)


def main(arguments: list[str]) -> int:
    """Confine, write the process file, execute. Returns only when that failed."""
    try:
        launch = read_launch(Path(arguments[1]))
        os.umask(0o077)
        _write_process_file(launch)
        _limit(launch)
        os.chdir(launch.folder)
        _confine(launch)
        os.execv(launch.arguments[0], launch.arguments)  # noqa: S606 - our own words, no shell wanted
    except (BeamhubError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        sys.stderr.write(f"The session does not start: {error}\n")
    return EXIT_NOT_STARTED


def _write_process_file(launch: Launch) -> None:
    """Before the confinement, which takes the right to write there; so a session cannot forge it."""
    path = Path(launch.process_file)
    text = json.dumps({**launch.process, "pid": os.getpid(), "started": started_at(os.getpid())})
    partial = path.with_suffix(".part")
    partial.write_text(text)
    partial.replace(path)


def _limit(launch: Launch) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_files = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files))
    # Private memory of each process, not of all together: the kernel has no such limit without cgroups.
    # The address space is left alone: memory maps of large files would count.
    resource.setrlimit(resource.RLIMIT_DATA, (launch.memory_bytes, launch.memory_bytes))


def _confine(launch: Launch) -> None:
    with ExitStack() as stack:
        read: list[Grantable] = [Path(path) for path in launch.read if os.path.lexists(path)]
        run: list[Grantable] = [Path(path) for path in launch.run if os.path.lexists(path)]
        write: list[Grantable] = [Path(path) for path in launch.write if os.path.lexists(path)]
        for folder in launch.data:
            fd = stack.enter_context(opened_beneath(Path(folder.root), folder.path))
            (write if folder.writable else read).append(fd)
            if folder.writable:
                run.append(fd)  # people compile and run their own programs at home
        status = restrict(read=read, write=write, execute=run, missing_ok=True)
    broken = [name for name, kept in launch.promised.items() if kept and not status.enforced.get(name)]
    if broken:
        raise NotStarted(f"the kernel does not enforce {', '.join(broken)}, which the plan promised")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
