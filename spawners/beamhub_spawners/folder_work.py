"""Work on folders that may hang: done by a child with a time limit, never by the process that asks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

from beamhub_spawners.paths import PathEscapes

LIMIT_S = 20.0
MAX_CHILDREN = 16
BURY_WAIT_S = 0.2
_CODE = """
import sys
sys.path[:] = {path!r}
from beamhub_spawners.folder_task import main
sys.exit(main())
"""


class FolderUnfit(PathEscapes):
    """A folder of a session cannot be used as it is; the reason is fit for the person."""

    def __str__(self) -> str:
        return f"The folder {self.path!r} cannot be used: {self.reason}."


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a child becomes."""

    uid: int
    gid: int
    gids: tuple[int, ...] = ()


Step = dict[str, Any]
_left: list[subprocess.Popen[str]] = []  # killed and not dead yet
_n_working = 0
_lock = threading.Lock()  # of both


def do_steps(
    first: list[Step],
    then: list[Step] | None = None,
    *,
    as_: Identity | None = None,
    limit_s: float = LIMIT_S,
) -> list[Any]:
    """What each step of `folder_task` answers, those of `then` done as another identity where we may.

    Raises
    ------
    FolderUnfit
        At the first step that cannot be done, when all are not done within the limit, or while too many
        earlier ones hang.
    """
    asked = {
        "first": first,
        "identity": [as_.uid, as_.gid, list(as_.gids)] if as_ is not None else None,
        "then": then or [],
    }
    _enter()
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CODE.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={},
        )
        try:
            said, error = child.communicate(json.dumps(asked), timeout=limit_s)
        except subprocess.TimeoutExpired:
            _give_up(child)
            raise FolderUnfit("", _first_path(asked), "its storage does not answer") from None
    finally:
        _leave()
    try:
        answer = json.loads(said)
    except ValueError:
        last = error.strip().splitlines()[-1:] or ["no answer"]
        raise FolderUnfit("", _first_path(asked), f"it could not be looked at ({last[0]})") from None
    if "fault" in answer:
        raise FolderUnfit("", *answer["fault"])
    answers: list[Any] = answer["answers"]
    return answers


def _first_path(asked: dict[str, Any]) -> str:
    return next((str(step["path"]) for step in (*asked["first"], *asked["then"]) if "path" in step), "")


def _enter() -> None:
    global _n_working
    with _lock:
        _left[:] = [child for child in _left if child.poll() is None]
        if _n_working + len(_left) >= MAX_CHILDREN:
            raise FolderUnfit("", "", "too many folders of this host do not answer")
        _n_working += 1


def _leave() -> None:
    global _n_working
    with _lock:
        _n_working -= 1


def _give_up(child: subprocess.Popen[str]) -> None:
    """Kill a child; in uninterruptible sleep it dies only when the server answers again."""
    child.kill()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    try:
        child.wait(BURY_WAIT_S)
    except subprocess.TimeoutExpired:
        with _lock:
            _left.append(child)
