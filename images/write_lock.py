"""Writes the locks of images: `python images/write_lock.py base` or the name of a field in images/field.

A field's lock holds only what the base's does not have, at versions that fit the base's. Run from the root of
the checkout, after a change of the extras `reduction` or `session`, or of a field's `.in` file.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "images" / "base" / "requirements.lock"
FIELDS = ROOT / "images" / "field"
SETTINGS = (
    "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--no-header", "--no-annotate",
    "--no-emit-index-url", "--no-emit-find-links", "--generate-hashes", "--only-binary", ":all:", "--quiet",
)  # fmt: skip


def entries(lock: str) -> dict[str, str]:
    """Name to the lines of each package of a lock."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    return {block.split("==")[0].lower(): block for block in blocks if "==" in block}


def write_base() -> None:
    """Resolve what a session needs."""
    extras = ("--extra", "reduction", "--extra", "session")
    _compile("pyproject.toml", *extras, "-o", str(BASE))


def write_field(name: str) -> None:
    """Resolve what a field needs besides."""
    lock = FIELDS / f"{name}.lock"
    _compile(str(FIELDS / f"{name}.in"), "-c", str(BASE), "-o", str(lock))
    base = entries(BASE.read_text())
    lock.write_text("".join(block for name, block in entries(lock.read_text()).items() if name not in base))


def _compile(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "pip", "compile", *words, *SETTINGS], cwd=ROOT, check=True)


if __name__ == "__main__":
    known = ["base", *sorted(path.stem for path in FIELDS.glob("*.in"))]
    wanted = sys.argv[1:]
    if not wanted or not set(wanted) <= set(known):
        sys.exit(f"usage: python images/write_lock.py NAME...; names: {', '.join(known)}")
    for name in wanted:
        write_base() if name == "base" else write_field(name)
