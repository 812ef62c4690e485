"""Writes the locks of images: `python images/write_lock.py NAME...`, with the name of an image or of a field.

The lock of a field or of the desktop holds only what the base's does not have, at versions that fit it.
Run from the root of the checkout, after a change of the extras that an image installs, or of an `.in` file.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "images"
BASE = IMAGES / "base" / "requirements.lock"
EXTRAS = {
    "base": (BASE, ("reduction", "session")),
    "hub": (IMAGES / "service" / "hub.lock", ("hub", "spawners", "demo")),
    "gateway": (IMAGES / "service" / "gateway.lock", ("gateway", "spawners")),
    "web": (IMAGES / "service" / "web.lock", ("catalogue", "portal")),
}
"""The lock of an image, and what of pyproject.toml it holds."""
PROXY = IMAGES / "proxy"
ADDED = {path.stem: path for path in (*IMAGES.glob("field/*.in"), *IMAGES.glob("desktop/*.in"))}
"""What is added to the base, by the name of the image."""
SETTINGS = (
    "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--no-header", "--no-annotate",
    "--no-emit-index-url", "--no-emit-find-links", "--generate-hashes", "--only-binary", ":all:", "--quiet",
)  # fmt: skip


def entries(lock: str) -> dict[str, str]:
    """Name to the lines of each package of a lock."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    return {block.split("==")[0].lower(): block for block in blocks if "==" in block}


def write_image(name: str) -> None:
    """Resolve what an image installs of our own requirements."""
    lock, names = EXTRAS[name]
    extras = [word for extra in names for word in ("--extra", extra)]
    _compile("pyproject.toml", *extras, "-o", str(lock))


def write_proxy() -> None:
    """Resolve the proxy: Node itself, as a wheel, and what npm installs. No address of a registry is kept."""
    _compile(str(PROXY / "node.in"), "-o", str(PROXY / "node.lock"))
    words = ["install", "--package-lock-only", "--omit=dev", "--no-audit", "--no-fund", "--silent"]
    words += ["--ignore-scripts", "--omit-lockfile-registry-resolved"]
    subprocess.run(["npm", *words], cwd=PROXY, check=True)


def write_added(name: str) -> None:
    """Resolve what an image has besides the base."""
    wanted = ADDED[name]
    lock = wanted.with_suffix(".lock")
    _compile(str(wanted), "-c", str(BASE), "-o", str(lock))
    base = entries(BASE.read_text())
    lock.write_text("".join(block for name, block in entries(lock.read_text()).items() if name not in base))


def _compile(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "pip", "compile", *words, *SETTINGS], cwd=ROOT, check=True)


if __name__ == "__main__":
    known = [*EXTRAS, "proxy", *sorted(ADDED)]
    wanted = sys.argv[1:]
    if not wanted or not set(wanted) <= set(known):
        sys.exit(f"usage: python images/write_lock.py NAME...; names: {', '.join(known)}")
    for name in wanted:
        if name == "proxy":
            write_proxy()
        else:
            write_image(name) if name in EXTRAS else write_added(name)
