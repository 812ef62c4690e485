"""What a notebook must not be able to do, tried from inside its kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ATTEMPTS = """
import json, os, pathlib
_raw = pathlib.Path({raw!r}); _foreign = pathlib.Path({foreign!r}); _secret = pathlib.Path({secret!r})
_database = pathlib.Path({database!r}); _hub = {hub_pid}

def _append():
    with open(_raw, "ab") as f: f.write(b"x")
def _truncate(): os.truncate(_raw, 0)
def _create(): (_raw.parent / "planted").write_text("x")
def _link(): os.link(_raw, pathlib.Path.home() / "hard-link")
def _read_foreign():
    with open(_foreign, "rb") as f: return f.read(4)
def _list_foreign(): return os.listdir(_foreign.parent)
def _signal_hub(): os.kill(_hub, 0)

_attempts = dict(
    write_raw=_append, truncate_raw=_truncate, create_in_raw=_create, hard_link_raw=_link,
    rename_raw=lambda: _raw.rename(_raw.with_suffix(".moved")), delete_raw=lambda: _raw.unlink(),
    read_ungranted=_read_foreign, list_ungranted=_list_foreign, read_secret=lambda: _secret.read_bytes(),
    read_hub_database=lambda: _database.read_bytes(),
    gap_change_mode=lambda: os.chmod(_raw, _raw.stat().st_mode),
    gap_change_time=lambda: os.utime(_raw, ns=(_raw.stat().st_atime_ns, _raw.stat().st_mtime_ns)),
    read_hub_environment=lambda: pathlib.Path("/proc/%d/environ" % _hub).read_bytes(), signal_hub=_signal_hub,
)
_outcomes = {{}}
for _name, _attempt in _attempts.items():
    try:
        _attempt()
    except OSError as error:
        _outcomes[_name] = {{"enforced": True, "error": type(error).__name__}}
    else:
        _outcomes[_name] = {{"enforced": False, "error": None}}
with open(_raw, "rb") as f: _outcomes["read_granted"] = {{"works": f.read(4) == b"\\x89HDF"}}
print(json.dumps(_outcomes))
"""


def attempts(*, raw: Path, foreign: Path, secret: Path, database: Path, hub_pid: int) -> str:
    """The cell that tries everything and prints one JSON line."""
    return ATTEMPTS.format(
        raw=str(raw), foreign=str(foreign), secret=str(secret), database=str(database), hub_pid=hub_pid
    )


GAP = "gap_"
"""Attempts that the security model lists as not prevented in local sessions; each changes nothing."""


def read_outcomes(text: str) -> dict[str, Any]:
    """The outcome of each attempt."""
    outcomes: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return outcomes
