"""Landlock tried on real child processes: each attempts what it must not, and reports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beamhub_core import landlock

pytestmark = pytest.mark.skipif(landlock.available_abi() == 0, reason="this kernel has no Landlock")

NOBODY = 65534
CHILD = r"""
import ctypes, json, os, sys
from pathlib import Path
from beamhub_core.landlock import restrict
if sys.argv[3]:
    os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is the user's own again
base = Path(sys.argv[1]); parent = int(sys.argv[2])
status = restrict(read=[base / "granted", Path("/proc")],
                  write=[base / "home", Path("/dev/null")], execute=[Path("/usr")])
said = {"abi": status.abi, "enforced": status.enforced}
def attempt(name, call):
    try:
        call()
        said[name] = "done"
    except OSError as error:
        said[name] = type(error).__name__
raw = base / "granted" / "raw.h5"
attempt("read granted", raw.read_bytes)
attempt("list granted", lambda: os.listdir(base / "granted"))
attempt("read through link", (base / "home" / "link").read_bytes)
attempt("write raw", lambda: raw.write_bytes(b""))
attempt("append raw", lambda: raw.open("ab"))
attempt("truncate raw", lambda: os.truncate(raw, 0))
attempt("unlink raw", raw.unlink)
attempt("rename raw", lambda: raw.rename(raw.with_name("moved")))
attempt("hard link raw to home", lambda: os.link(raw, base / "home" / "stolen"))
attempt("make a file beside raw", (base / "granted" / "new").touch)
attempt("make a folder beside raw", (base / "granted" / "folder").mkdir)
attempt("read ungranted", (base / "ungranted" / "secret").read_bytes)
attempt("list ungranted", lambda: os.listdir(base / "ungranted"))
attempt("list the parent", lambda: os.listdir(base))
attempt("read ungranted through a link", (base / "home" / "way-out").read_bytes)
attempt("write home", lambda: (base / "home" / "note").write_text("x"))
attempt("rename in home", lambda: (base / "home" / "note").rename(base / "home" / "sub" / "note"))
attempt("write /dev/null", lambda: Path("/dev/null").write_text("x"))
attempt("read parent's environment", Path(f"/proc/{parent}/environ").read_bytes)
attempt("look through parent's root", lambda: os.listdir(f"/proc/{parent}/root/"))
attempt("follow parent's descriptor", lambda: os.readlink(f"/proc/{parent}/fd/0"))
attempt("read parent's memory map", Path(f"/proc/{parent}/maps").read_bytes)
attempt("read kernel memory", lambda: os.open("/proc/kcore", os.O_RDONLY))
attempt("set a kernel parameter", lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
attempt("become another user", lambda: os.setuid(12345))
attempt("signal parent", lambda: os.kill(parent, 0))
attempt("read own environment", Path("/proc/self/environ").read_bytes)
code = os.spawnv(os.P_WAIT, "/usr/bin/env", ["env", "cat", str(base / "ungranted" / "secret")])
said["a child reads ungranted"] = "done" if code == 0 else "PermissionError"
print(json.dumps(said))
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """Folders that any user may reach: modes grant everything, so that only Landlock protects."""
    folder = Path(tempfile.mkdtemp(prefix="landlock-"))
    for name in ("granted", "ungranted", "home/sub"):
        (folder / name).mkdir(parents=True)
    (folder / "granted" / "raw.h5").write_bytes(b"counts")
    (folder / "ungranted" / "secret").write_text("embargoed")
    (folder / "home" / "link").symlink_to(folder / "granted" / "raw.h5")
    (folder / "home" / "way-out").symlink_to(folder / "ungranted" / "secret")
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def confined(base: Path, user: int | None) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(base), str(os.getpid()), str(user or "")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("user", [None, NOBODY], ids=["same user", "nobody"])
def test_a_confined_process_keeps_its_grants_and_nothing_else(base: Path, user: int | None) -> None:
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root can start a process as another user")
    said = confined(base, user)

    may = {
        "read granted",
        "list granted",
        "read through link",
        "write home",
        "rename in home",
        "write /dev/null",
        "read own environment",
    }
    outcomes = {name: outcome for name, outcome in said.items() if name not in ("abi", "enforced")}
    assert {name for name, outcome in outcomes.items() if outcome == "done"} - {"signal parent"} == may
    assert (base / "granted" / "raw.h5").read_bytes() == b"counts"
    if landlock.promises(landlock.available_abi())["signals_scoped"]:
        assert outcomes["signal parent"] == "PermissionError"


def test_the_status_names_the_abi_and_its_promises(base: Path) -> None:
    said = confined(base, None)
    assert said["abi"] == landlock.available_abi()
    assert said["enforced"] == landlock.promises(landlock.available_abi())


def in_child(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout + done.stderr


def test_a_symbolic_link_is_not_granted_in_place_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    code = (
        "import sys; from pathlib import Path; from beamhub_core.landlock import restrict;"
        "restrict(read=[Path(sys.argv[1])])"
    )
    assert "symbolic link" in in_child(code, str(tmp_path / "link"))


@pytest.mark.parametrize(("missing_ok", "expected"), [("True", "confined"), ("False", "LandlockFailed")])
def test_a_missing_path_is_an_error_unless_it_is_optional(
    tmp_path: Path, missing_ok: str, expected: str
) -> None:
    code = (
        "import sys; from pathlib import Path; from beamhub_core.landlock import restrict;"
        "restrict(read=[Path(sys.argv[1])], missing_ok=sys.argv[2] == 'True'); print('confined')"
    )
    assert expected in in_child(code, str(tmp_path / "absent"), missing_ok)


def test_an_open_descriptor_can_be_granted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    code = (
        "import os, sys; from pathlib import Path; from beamhub_core.landlock import restrict;"
        "fd = os.open(sys.argv[1], os.O_PATH); restrict(read=[fd]); os.close(fd);"
        "print(Path(sys.argv[1], 'file').read_text())"
    )
    assert in_child(code, str(tmp_path)) == "content\n"


def test_a_process_with_other_threads_is_refused_rather_than_half_confined(tmp_path: Path) -> None:
    code = (
        "import threading; from beamhub_core.landlock import restrict, LandlockFailed\n"
        "stop = threading.Event(); threading.Thread(target=stop.wait).start()\n"
        "try: restrict()\n"
        "except LandlockFailed as error: print(error)\n"
        "finally: stop.set()"
    )
    assert "2 threads" in in_child(code)


def test_a_confined_process_can_only_confine_itself_further(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    code = (
        "import os, sys; from pathlib import Path; from beamhub_core.landlock import restrict\n"
        "fd = os.open(sys.argv[1], os.O_PATH)\n"
        "restrict(); restrict(read=[fd])\n"
        "print(Path(sys.argv[1], 'file').read_text())"
    )
    assert "PermissionError" in in_child(code, str(tmp_path))


def test_older_kernels_promise_less() -> None:
    kept = [sum(landlock.promises(abi).values()) for abi in range(8)]
    assert kept[0] == 0
    assert kept == sorted(kept)
    assert not landlock.promises(2)["raw_read_only"]  # truncate is not handled before ABI 3
