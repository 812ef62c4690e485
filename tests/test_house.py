"""The house itself: what stands where, what a wheel holds, what must never be committed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml

from beamhub_core.command import ENTRY_POINT_GROUP, build_parser

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("core", "reduction", "catalogue", "spawners", "session", "hub", "portal")
KINDS = ("added", "changed", "fixed", "removed", "security")
TOP = {
    *ROOMS,
    ".ci",
    ".dockerignore",
    ".editorconfig",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CITATION.cff",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "changes",
    "compose.yaml",
    "docs",
    "helm",
    "images",
    "notebooks",
    "pyproject.toml",
    "tests",
}
MAX_FILE_BYTES = 2_000_000
MAX_LINES = 400
# Files that a tool leaves behind, and that nobody means to commit.
STRAY = re.compile(r"(~|\.(orig|rej|bak|swp|tmp|log|pyc|sqlite|db|ipynb_checkpoints|DS_Store))$|^\.env$")
# Folders that are this machine's own wherever they stand, and a private key.
FORBIDDEN = re.compile(rb"(?<![\w}>])/(?:root|work)/(?=[A-Za-z.])|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")
INDEX_SETTINGS = (
    "/etc/pip.conf",
    "~/.config/pip/pip.conf",
    "~/.pip/pip.conf",
    "~/.npmrc",
    "~/.config/uv/uv.toml",
)
DOUBLE = re.compile(r"^class ([A-Z]\w*Double|StandIn|Hostile\w+|Fake\w+)\b", re.MULTILINE)
MOCKING = re.compile(
    r"^\s*(?:from|import) (?:unittest\.mock|mock|pytest_mock)\b"
    r"|\bmonkeypatch\.setattr\((?!['\"][a-z_.]+\.[A-Z_]+['\"])",
    re.MULTILINE,
)
BUILD_TIMEOUT_S = 240


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Every file that is committed or would be: tracked, and untracked but not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout (or git is missing)")
    return [
        ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name and (ROOT / name).is_file()
    ]


def test_the_top_level_holds_what_it_should_and_nothing_else(files: list[Path]) -> None:
    found = {path.relative_to(ROOT).parts[0] for path in files}
    assert found - TOP == set(), "a stray file, or a new entry that TOP does not know"
    assert TOP - found == set()


def test_no_file_is_left_over_from_a_tool_and_none_is_huge(files: list[Path]) -> None:
    assert [str(path) for path in files if STRAY.search(path.name)] == []
    assert [str(path) for path in files if path.stat().st_size > MAX_FILE_BYTES] == []


def test_no_two_test_files_share_a_name() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_module_of_tests_and_benchmarks_is_long(files: list[Path]) -> None:
    """Those of the rooms are counted in test_layers.py."""
    modules = [path.relative_to(ROOT) for path in files if path.suffix == ".py"]
    lengths = {
        str(path): len((ROOT / path).read_text("utf-8").splitlines())
        for path in modules
        if path.parts[0] in ("tests", "benchmarks")
    }
    assert lengths
    too_long = {name: n for name, n in lengths.items() if n > MAX_LINES}
    assert too_long == {}, "split by subject"


def test_every_double_is_named_with_what_it_does_not_prove() -> None:
    page = (ROOT / "tests" / "README.md").read_text("utf-8")
    doubles = {
        name for path in (ROOT / "tests").rglob("*.py") for name in DOUBLE.findall(path.read_text("utf-8"))
    }
    assert doubles
    assert [name for name in sorted(doubles) if f"| `{name}` " not in page] == []


def test_nothing_is_patched() -> None:
    """A double is a part of its own: no mock library, no patched code; a bound in capitals may be lowered."""
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    found = [path for path in tests if MOCKING.search(path.read_text("utf-8"))]
    assert [str(path.relative_to(ROOT)) for path in found] == []


def _package_index_hosts() -> list[bytes]:
    """Hosts of the package indexes that this machine uses, other than the public ones."""
    tools = ("PIP_", "UV_", "NPM_", "npm_")
    texts = [value for name, value in os.environ.items() if name.startswith(tools)]
    for name in INDEX_SETTINGS:
        path = Path(name).expanduser()
        texts += [path.read_text("utf-8", "replace")] if path.is_file() else []
    hosts = set(re.findall(r"https?://(?:[^/@\s]*@)?([A-Za-z0-9.-]+)", " ".join(texts)))
    public = {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org", "localhost", "127.0.0.1"}
    return [host.encode() for host in sorted(hosts - public) if "." in host]


def _own_places(content: bytes) -> set[str]:
    """Folders of this machine or of the person at it, and headers of private keys, in a file."""
    own = {str(ROOT), str(Path.home())} - {"/", "/root"}  # "/root" alone is also a link in /proc
    return {m.group().decode() for m in FORBIDDEN.finditer(content)} | {
        p for p in own if f"{p}/".encode() in content
    }


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"see /" + b"work/main/x", True),
        (b"/" + b"root/.cache", True),
        (b"-----BEGIN RSA " + b"PRIVATE KEY-----", True),
        (f"{ROOT}/core".encode(), True),
        (b"/home/jovyan/work", False),
        (b"/homes/u-abc", False),
        (b"the root/folder", False),
    ],
)
def test_a_path_of_a_machine_is_told_from_other_words(content: bytes, found: bool) -> None:
    assert bool(_own_places(content)) is found


def test_no_file_names_this_machine_its_indexes_or_a_private_key(files: list[Path]) -> None:
    hosts = _package_index_hosts()
    name = socket.gethostname().encode()
    if len(name) >= 8:  # a short host name may be any word
        hosts.append(name)
    found = []
    for path in files:
        content = path.read_bytes()
        places = _own_places(content)
        places |= {host.decode() for host in hosts if host in content}
        found += [f"{path.relative_to(ROOT)}: {place}" for place in sorted(places)]
    assert found == []


def test_every_room_has_an_extra_or_needs_only_what_core_needs() -> None:
    metadata = requires("beamhub") or []
    extras = {found for line in metadata for found in re.findall(r"extra == ['\"]([a-z]+)['\"]", line)}
    assert {*ROOMS} - {"core"} <= extras
    always = {re.split(r"[^A-Za-z0-9_-]", line)[0].lower() for line in metadata if "extra ==" not in line}
    assert always == {"pydantic", "pyyaml"}


def test_the_extra_all_names_every_other_but_the_peers_of_benchmarks() -> None:
    table = project()["project"]
    assert isinstance(table, dict)
    optional = table["optional-dependencies"]
    [everything] = optional["all"]
    assert set(everything.removeprefix("beamhub[").removesuffix("]").split(",")) == set(optional) - {
        "all",
        "bench",
    }


def test_every_entry_point_of_the_command_belongs_to_a_room_and_brings_its_verb() -> None:
    table = project()["project"]
    assert isinstance(table, dict)
    points = table["entry-points"][ENTRY_POINT_GROUP]
    assert all(target.startswith(tuple(f"beamhub_{room}." for room in ROOMS)) for target in points.values())
    help_text = build_parser().format_help()
    assert [verb for verb in points if f"\n    {verb}" not in help_text] == []


def test_change_fragments_are_well_formed() -> None:
    fragments = sorted(path for path in (ROOT / "changes").iterdir() if path.name != "README.md")
    assert fragments
    for path in fragments:
        assert re.fullmatch(rf"[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md", path.name), path.name
        text = path.read_text("utf-8")
        assert text.endswith(".\n"), f"{path.name} ends with a full stop and one newline"
        assert 20 <= len(text) <= 500, f"{path.name}: one or two sentences"
        assert "\n" not in text.strip(), f"{path.name}: one line"


def test_yaml_and_json_files_can_be_read(files: list[Path]) -> None:
    for path in files:
        if "templates" in path.parts and "helm" in path.parts:
            continue  # Go templates
        if path.suffix in (".yaml", ".yml", ".cff"):
            list(yaml.safe_load_all(path.read_text("utf-8")))
        elif path.suffix in (".json", ".ipynb"):
            json.loads(path.read_text("utf-8"))


def test_the_citation_agrees_with_the_distribution() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    table = project()["project"]
    assert isinstance(table, dict)
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert citation["version"] == table["version"]
    assert citation["license"] == table["license"] == "BSD-3-Clause"
    assert [{"name": author["name"]} for author in citation["authors"]] == table["authors"]


def test_the_chart_has_the_version_of_the_distribution() -> None:
    chart = yaml.safe_load((ROOT / "helm/beamhub/Chart.yaml").read_text("utf-8"))
    table = project()["project"]
    assert isinstance(table, dict)
    assert chart["appVersion"] == table["version"]


def test_links_between_pages_lead_somewhere(files: list[Path]) -> None:
    broken = []
    for page in files:
        if page.suffix != ".md":
            continue
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_pre_commit_runs_without_a_network() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert {hook["language"] for repo in config["repos"] for hook in repo["hooks"]} == {"system"}


def test_the_ci_script_is_strict_and_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text("utf-8")
    assert "set -euo pipefail" in text
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert {"make lint", "make test"} <= set(re.findall(r"make [a-z]+", text))
    assert re.search(r"^SECTIONS=\(.* marked:\d+\)$", text, re.MULTILINE), "pytest's summary comes last"
    sections = re.findall(r"(\w+):\d+", re.findall(r"^SECTIONS=\((.*)\)$", text, re.MULTILINE)[0])
    assert set(sections) == set(re.findall(r"^run_(\w+)\(\)", text, re.MULTILINE))


def _journey(**changes: object) -> dict[str, object]:
    stops = ("portal", "login", "grants", "placement", "plan", "spawn", "template", "reduction", "catalogue")
    return {
        "ok": True,
        "wall_seconds": 90.5,
        "stops": [{"name": name, "seconds": 1.0, "evidence": {"x": 1}} for name in stops],
        "refusals": [{"code": "embargoed"}],
        "enforced": {"write_raw": {"enforced": True}},
    } | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"ok": False}, "ok is False"),
        ({"stops": []}, "the stops are []"),
        ({"wall_seconds": None}, "wall_seconds"),
        ({"refusals": []}, "no refusal"),
        ({"gateway": {"cluster_parts": ["scheduler", "worker"], "gone_after_seconds": 3.5}}, ""),
        ({"gateway": {"cluster_parts": ["scheduler"], "gone_after_seconds": 3.5}}, "had no worker"),
        ({"gateway": {"cluster_parts": ["worker"]}}, "gone after None"),
        ({"enforced": {}}, "nothing says"),
        ({"enforced": {"write_raw": {"enforced": False}}}, "write_raw is not enforced"),
    ],
)
def test_a_journey_that_does_not_hold_fails_ci(changes: dict[str, object], words: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "journey_holds.py")],
        input=json.dumps(_journey(**changes)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if words else 0)
    assert words in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout, built as a release is."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def build_wheel(folder: Path, **environment: str) -> zipfile.ZipFile:
    """A wheel of this checkout; `environment` replaces variables of the build's."""
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--python", sys.executable]
    done = subprocess.run(
        [*command, "--out-dir", str(folder), str(ROOT)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT_S,
    )
    if done.returncode != 0 and ("No module named uv" in done.stderr or "Failed to fetch" in done.stderr):
        pytest.skip("uv, or the package index that it takes hatchling from, is missing")
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_every_room(wheel: zipfile.ZipFile, files: list[Path]) -> None:
    held = set(wheel.namelist())
    wanted = {
        str(path.relative_to(ROOT / room))
        for room in ROOMS
        for path in files
        if path.is_relative_to(ROOT / room / f"beamhub_{room}")
    }
    assert {f"beamhub_{room}/py.typed" for room in ROOMS} <= wanted
    assert any("/templates/" in name for name in wanted)
    assert any("/static/" in name for name in wanted)
    assert wanted - held == set()


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    [info] = [top for top in tops if top.endswith(".dist-info")]
    assert tops - {info} == {f"beamhub_{room}" for room in ROOMS}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or "/test" in name]
    assert f"{info}/licenses/LICENSE" in wheel.namelist()


def test_one_wheel_fits_every_python_of_its_platform(wheel: zipfile.ZipFile) -> None:
    assert wheel.filename is not None
    assert "-py3-none-" in wheel.filename
    compiled = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    assert ("beamhub_reduction/kernels/beamhub_kernels.so" in wheel.namelist()) == compiled
    assert wheel.filename.endswith("-any.whl") != compiled


def test_without_a_compiler_the_wheel_is_pure(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    pure = build_wheel(tmp_path / "out", PATH=str(tmp_path / "bin"), CC="")
    assert pure.filename is not None
    assert pure.filename.endswith("-py3-none-any.whl")
    assert not [name for name in pure.namelist() if name.endswith(".so")]
