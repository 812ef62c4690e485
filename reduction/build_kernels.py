"""Compiles the kernels of beamhub_reduction into one plain shared library, as the package's own build step.

Hatch calls the hook for wheels and for editable installs; `python reduction/build_kernels.py` does the same
for a checkout. Every C file is compiled once for each instruction set that the machine's family knows, and
the library chooses at run time. It holds no Python: one wheel for a platform serves all its Pythons. Without
a compiler the package installs all the same, and NumPy and SciPy do the work.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).resolve().parent / "beamhub_reduction" / "kernels"
LIBRARY = KERNELS / "beamhub_kernels.so"
COMPILE_TIMEOUT_S = 300

# No contraction into fused multiply-adds and no fast math: every path must give the same bits.
FLAGS = [
    "-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-Wall", "-Wextra",
]  # fmt: skip
X86_PATHS = {
    "plain": [],
    "avx2": ["-mavx2", "-mbmi", "-mbmi2", "-mpopcnt"],
    "avx512": [
        "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512cd", "-mavx2", "-mbmi", "-mbmi2",
        "-mpopcnt", "-mprefer-vector-width=512",
    ],
}  # fmt: skip


class CompilerMissing(Exception):
    """There is no C compiler, or it failed; the message says what happened."""


def instruction_paths() -> dict[str, list[str]]:
    """Name to compiler flags of each instruction set of this machine's family."""
    return X86_PATHS if platform.machine().lower() in ("x86_64", "amd64") else {"plain": []}


def find_compiler() -> list[str]:
    """The C compiler's command: CC of the environment, else cc, gcc or clang.

    Raises
    ------
    CompilerMissing
    """
    named = shlex.split(os.environ.get("CC", ""))
    for command in (named, ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    raise CompilerMissing("no C compiler was found (cc, gcc, clang)")


def compile_kernels(library: Path = LIBRARY) -> Path:
    """Compile all C files and put the library in place as a whole.

    Raises
    ------
    CompilerMissing
    """
    compiler = find_compiler()
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects: list[str] = []
        commands = []
        for name, flags in instruction_paths().items():
            for source in sorted((KERNELS / "src").glob("*.c")):
                if source.name == "paths.c" and name != "plain":
                    continue  # what asks the processor is there once
                made = str(Path(folder) / f"{source.stem}_{name}.o")
                commands.append(
                    [*compiler, *FLAGS, *flags, f"-DBH_PATH={name}", "-c", str(source), "-o", made]
                )
                objects.append(made)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_call, commands))
        whole = Path(folder) / library.name
        _call([*compiler, "-shared", "-o", str(whole), *objects, "-lm"])
        whole.replace(library)
    return library


def ensure_kernels() -> Path:
    """The library in the checkout, compiled again only if its sources or the way of building changed.

    Raises
    ------
    CompilerMissing
    """
    if not _is_current():
        compile_kernels()
        LIBRARY.with_suffix(".stamp").write_text(_digest())
    return LIBRARY


def _is_current() -> bool:
    stamp = LIBRARY.with_suffix(".stamp")
    return LIBRARY.exists() and stamp.exists() and stamp.read_text() == _digest()


def _digest() -> str:
    digest = hashlib.sha256(platform.machine().encode())
    for source in (Path(__file__), *sorted((KERNELS / "src").iterdir())):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerMissing(f"{command[0]}: {error}") from error
    if done.returncode:
        raise CompilerMissing(f"{shlex.join(command)}\n{done.stderr[-4000:]}")
    if done.stderr:
        sys.stderr.write(done.stderr)


def platform_tag() -> str:
    """The wheel's platform: any Python 3, this operating system and processor."""
    return f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run by hand, outside a build
    BuildHookInterface = object


class KernelBuildHook(BuildHookInterface):  # type: ignore[misc]  # object where hatchling is absent
    """Compiles the kernels for a wheel or an editable install; a pure wheel where there is no compiler."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to what is built."""
        if self.target_name != "wheel":
            return
        editable = version == "editable"
        made = LIBRARY if editable else Path(tempfile.mkdtemp(prefix="beamhub-kernels-")) / LIBRARY.name
        try:
            find_compiler()
            if editable:
                ensure_kernels()
            elif _is_current():  # a checkout that has compiled them already
                shutil.copy(LIBRARY, made)
            else:
                compile_kernels(made)
        except CompilerMissing as error:
            made.unlink(missing_ok=True)
            self.app.display_warning(f"beamhub installs without compiled kernels: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = platform_tag()
        if not editable:
            build_data["force_include"][str(made)] = f"beamhub_reduction/kernels/{made.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled for the wheel."""
        for made in build_data["force_include"]:
            if Path(made).name == LIBRARY.name:
                shutil.rmtree(Path(made).parent)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{ensure_kernels()}\n")
    except CompilerMissing as error:
        LIBRARY.unlink(missing_ok=True)
        sys.stderr.write(f"no compiled kernels, NumPy and SciPy will do the work: {error}\n")
