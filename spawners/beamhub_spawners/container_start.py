"""The first process of a session's container: lay out its view, then be the person's server.

The container's root file system is read-only and its user any number; what is written lies on /run and
/tmp, which are memory. The session file arrives in the environment (it holds no secret), because a
container takes no file before it starts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import ValidationError

from beamhub_core.session import SessionInfo
from beamhub_spawners.rescue import memory_variables, message, notebooks_folder, why_full
from beamhub_spawners.session_server import main as serve
from beamhub_spawners.session_server import view_arguments
from beamhub_spawners.session_view import NOTEBOOKS, view_links, write_view

RUN_FOLDER = Path("/run/beamhub")
SESSION_INFO_VARIABLE = "BEAMHUB_SESSION_INFO"
PASSWD_OF_THE_IMAGE = Path("/opt/beamhub/etc/passwd")
RESCUE = "rescue"
EXIT_NOT_STARTED = 70


def passwd_line(uid: int, gid: int, home: str) -> str:
    """The entry that gives a numeric user a name, a home and a shell."""
    return f"scientist:x:{uid}:{gid}::{home}:/bin/bash\n"


def prepare(info: SessionInfo, folder: Path) -> Path:
    """Write passwd, session file and view below a folder; returns the view, the server's root."""
    folder.mkdir(mode=0o700, exist_ok=True)
    base = PASSWD_OF_THE_IMAGE.read_text() if PASSWD_OF_THE_IMAGE.exists() else ""
    others = [line for line in base.splitlines(True) if line.split(":")[2:3] != [str(os.getuid())]]
    (folder / "passwd").write_text("".join(others) + passwd_line(os.getuid(), os.getgid(), info.home))
    (folder / "session.json").write_text(info.model_dump_json())
    for name in ("session", "runtime"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    notebooks = notebooks_folder(Path(info.home), NOTEBOOKS, folder / RESCUE)
    write_view(folder / "session", {**view_links(info), NOTEBOOKS: str(notebooks)})
    return folder / "session"


def rescued(info: SessionInfo) -> SessionInfo:
    """What the session knows of itself, with a home that is full by now; it is tried as the person itself."""
    reason = why_full(Path(info.home))
    if reason is None:
        return info
    notes = info.notes if info.is_rescue else (*info.notes, message(reason))
    return info.model_copy(update={"is_rescue": True, "notes": notes})


def main() -> int:
    """Become the server; with arguments, execute them instead, for a look into the image."""
    if len(sys.argv) > 1:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the caller's own command
    os.umask(0o077)
    try:
        info = SessionInfo.model_validate_json(os.environ.pop(SESSION_INFO_VARIABLE, ""))
        info = rescued(info)
        view = prepare(info, RUN_FOLDER)
    except (ValidationError, OSError) as error:
        reason = (
            f"{error.error_count()} problem(s) in its plan" if isinstance(error, ValidationError) else error
        )
        sys.stderr.write(f"The session does not start: {reason}\n")
        return EXIT_NOT_STARTED
    os.environ["BEAMHUB_SESSION_FILE"] = str(RUN_FOLDER / "session.json")
    os.environ["JUPYTER_RUNTIME_DIR"] = str(RUN_FOLDER / "runtime")
    if info.is_rescue:
        os.environ.update(memory_variables(RUN_FOLDER / RESCUE))
    os.chdir(view)
    sys.argv[1:] = view_arguments(str(view), str(view / NOTEBOOKS))
    serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
