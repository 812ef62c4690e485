"""A small image for tests of hosts: this machine's Python and a server that answers like a session's.

The base image takes a minute to carry to a second engine; this one a second. What it does not prove is
anything of the session itself: that is the base image's, in the contract.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *args): pass
print("serving as", os.getuid(), os.getgid(), os.getgroups(), flush=True)  # what a test reads in the log
http.server.ThreadingHTTPServer(("0.0.0.0", 8888), Handler).serve_forever()
"""
SKIPPED = re.compile(
    r"(^|/)(test|tests|idlelib|tkinter|ensurepip|lib2to3|__pycache__|site-packages|config-3[^/]*)(/|$)"
)


def image_tar(
    *, group_lines: Iterable[str] = (), passwd_lines: Iterable[str] = (), command: str = SERVER
) -> bytes:
    """The root file system of the image, as a tar archive.

    Parameters
    ----------
    group_lines, passwd_lines:
        What its /etc/group and /etc/passwd say besides root's line.
    command:
        The Python program that it is to run, as /server.py.
    """
    base = Path(sys.base_prefix)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("tmp", "run", "home", "data", "proc", "sys", "dev", "etc"):
            folder = tarfile.TarInfo(name)
            # The engine gives a folder in memory the mode that the image's has.
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        binary = (base / "bin" / version).resolve()
        tar.add(binary, "usr/bin/python", recursive=False)
        tar.add(base / "lib" / version, f"usr/lib/{version}", filter=_wanted)
        for library in _libraries(binary, base / "lib" / version / "lib-dynload"):
            tar.add(library.resolve(), str(library).lstrip("/"), recursive=False)
        texts = {
            "server.py": command,
            "etc/passwd": "\n".join(("root:x:0:0::/:/bin/false", *passwd_lines)) + "\n",
            "etc/group": "\n".join(("root:x:0:", *group_lines)) + "\n",
        }
        for name, text in texts.items():
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(text.encode()), 0o644
            tar.addfile(file, io.BytesIO(text.encode()))
    return archive.getvalue()


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if SKIPPED.search(member.name):
        return None
    member.mode |= 0o444 | (0o111 if member.isdir() else 0)
    return member


def _libraries(binary: Path, modules: Path) -> set[Path]:
    """The shared libraries of Python and of its modules, as the loader finds them."""
    said = subprocess.run(
        ["ldd", str(binary), *map(str, modules.glob("*.so"))], capture_output=True, text=True, check=False
    ).stdout
    return {Path(found) for found in re.findall(r"(/\S+\.so[.\d]*)", said)} - set(modules.glob("*.so"))


START = ("/usr/bin/python", "-I", "-S", "/server.py")


def make_image(engine: Any, name: str, *, start: Iterable[str] = START, **image: Any) -> str:
    """Import the image into an engine under a name; returns its id."""
    changes = [
        "ENV PYTHONHOME=/usr PYTHONDONTWRITEBYTECODE=1 PATH=/usr/bin",
        f"CMD {json.dumps(list(start))}",
    ]
    repository, _, tag = name.partition(":")
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(image_tar(**image))
        file.flush()
        engine.import_image_from_file(file.name, repository=repository, tag=tag or "latest", changes=changes)
    image_id: str = engine.inspect_image(name)["Id"]
    return image_id
