"""The page of speeds says what the files of times say, and the benchmarks' commands name every benchmark."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT / "benchmarks" / "tables.py"
MARKS = re.findall(r"<!-- .* -->", TABLES.read_text("utf-8"))


def tables(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TABLES), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def row(name: str, rate: float, **more: float) -> dict[str, Any]:
    spread = {"slowest": rate / 2, "fastest": rate * 2, "wall_s": [1.0], "processor_s": 1.0}
    return {"name": name, "rate": rate, "unit": "GB/s", **spread, **more}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text("\n".join(["before", *MARKS, "behind", ""]))
    return path


def write_times(folder: Path, command: str = "python benchmarks/bench_xrf.py") -> None:
    rows = [row("h5py, row by row", 2.0, to_peer=1), row("ours, one thread", 12_345.6, to_peer=6172.8)]
    table = {
        "title": "B4 a map, warm",
        "unit": "GB",
        "peer": "h5py, row by row",
        "rows": rows,
        "plan_s": 0.25,
    }
    memory = {"title": "B4, peak resident memory", "unit": "GiB", "rows": [{"rate": 1.5}]}
    facts = {"machine": "a machine", "date": "today", "command": command, "tables": [table, memory]}
    (folder / "reduction-xrf.json").write_text(json.dumps(facts))


def test_the_page_says_what_the_files_say() -> None:
    done = tables("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_was_measured_comes_between_the_marks_and_nowhere_else(tmp_path: Path, page: Path) -> None:
    write_times(tmp_path)
    where = ("--folder", str(tmp_path), "--page", str(page))
    assert tables(*where, "--check").returncode == 1
    assert tables(*where).returncode == 0
    text = page.read_text("utf-8")
    assert text.startswith("before\n") and text.endswith("behind\n")
    assert "| B4, times h5py | >= 5 | 6,173 |" in text
    assert "| B6, times an EXtra-data loop | >= 5 | not measured |" in text
    assert "| h5py, row by row (the peer) | 2 | 1 to 4 | 1.00 x |  |" in text
    assert "plan_s 0.25." in text and "rate 1.5 GiB." in text
    assert tables(*where, "--check").returncode == 0


def test_the_times_of_a_short_run_are_refused(tmp_path: Path, page: Path) -> None:
    write_times(tmp_path, "python benchmarks/bench_xrf.py --quick")
    before = page.read_text("utf-8")
    done = tables("--folder", str(tmp_path), "--page", str(page))
    assert done.returncode == 1
    assert "quick" in done.stderr
    assert page.read_text("utf-8") == before


def test_every_benchmark_of_the_reduction_is_explained_and_compares_results() -> None:
    explained = (ROOT / "docs" / "explanation" / "reduction-speed.md").read_text("utf-8")
    for path in sorted((ROOT / "benchmarks").glob("bench_*.py")):
        text = path.read_text("utf-8")
        if re.search(r"^from side_by_side import .*alternate", text, flags=re.MULTILINE):
            assert f"`{path.stem.removeprefix('bench_')}`" in explained, path.name
            compares = re.search(r"assert |np\.testing\.assert_|content_digest\(", text)
            assert compares, path.name
