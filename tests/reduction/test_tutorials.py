"""The tutorials: every block of every page is executed as it stands, and gives what the page says."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot

from beamhub_core.command import main as beamhub
from beamhub_reduction.synthetic.__main__ import main as synthetic

PAGES = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SYNTHETIC = ["python", "-m", "beamhub_reduction.synthetic"]


@dataclass(frozen=True)
class Block:
    """One block of a page: what to run, and the lines that its output holds, in their order."""

    language: str
    source: str
    stated: tuple[str, ...]


def blocks_of(text: str) -> Iterator[Block]:
    """Commands (`$ ...`) with the lines below them, and Python with the `text` block behind it."""
    found = FENCE.findall(text)
    for i, (language, body) in enumerate(found):
        if language == "console":
            commands = re.split(r"^\$ ", body, flags=re.MULTILINE)
            assert not commands[0], f"a console block begins with a command: {body}"
            for command in commands[1:]:
                line, _, rest = command.replace("\\\n", " ").partition("\n")
                yield Block(language, line, tuple(rest.splitlines()))
        elif language == "python":
            after = found[i + 1] if i + 1 < len(found) else ("", "")
            yield Block(language, body, tuple(after[1].splitlines()) if after[0] == "text" else ())
        else:
            assert language == "text", f"a tutorial has console, python and text blocks, not {language!r}"


def run_block(block: Block, names: dict[str, Any]) -> str:
    """What the block prints; commands run in this process, through the same functions as at a prompt."""
    out, progress = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(progress):
        if block.language == "python":
            exec(compile(block.source, "tutorial", "exec"), names)  # noqa: S102  # the page's own code
            return out.getvalue()
        words = shlex.split(block.source)
        code = synthetic(words[3:]) if words[:3] == SYNTHETIC else None
        if words[0] == "beamhub":
            code = beamhub(words[1:])
    assert code == 0, f"{block.source}: {code}\n{out.getvalue()}{progress.getvalue()}"
    return out.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    blocks = list(blocks_of(page.read_text("utf-8")))
    assert {block.language for block in blocks} == {"console", "python"}
    try:
        with contextlib.chdir(tmp_path):
            for block in blocks:
                lines = iter([" ".join(line.split()) for line in run_block(block, names).splitlines()])
                for stated in block.stated:
                    assert " ".join(stated.split()) in lines, f"{stated!r} is not what follows {block.source}"
    finally:
        pyplot.close("all")


def test_every_technique_has_a_tutorial() -> None:
    assert [page.stem for page in PAGES] == [
        "fluorescence",
        "fly-scan-map",
        "neutron-time-of-flight",
        "powder-diffraction",
        "saxs",
        "tomography",
        "xfel-pulses",
    ]
