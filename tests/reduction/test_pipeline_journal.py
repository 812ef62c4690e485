"""A journal resumes what was done, refuses what is not its own, and runs no code of a file."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from beamhub_reduction.pipeline import Engine
from beamhub_reduction.pipeline.digest import content_digest
from beamhub_reduction.pipeline.errors import Cancelled, JournalUnusable
from beamhub_reduction.pipeline.journal import classes_of, open_journal
from beamhub_reduction.pipeline.part_codec import PartUndecodable, decode_part, encode_part
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic import Truth
from reduction.engine_parts import Scale, Sum, add_up, merge, pieces

TASK = Scale(np.linspace(0, 7, 50))
arrays = hnp.arrays(
    st.sampled_from(["<f8", "<f4", ">u2", "i1", "?", "c16"]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
)
words = st.text(max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.binary(max_size=6)
values = st.recursive(
    scalars | arrays,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(words, inner, max_size=3)
        | st.builds(Sum, arrays, st.integers(), st.tuples(words))
    ),
    max_leaves=6,
)


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and content_digest(left) == content_digest(right)


@given(value=values)
def test_a_part_comes_back_as_it_was(value: Any) -> None:
    back, extra = decode_part(encode_part(value, {"number": 3}), classes_of(add_up))
    assert same(back, value)
    assert extra == {"number": 3}


@given(data=st.data())
def test_no_changed_byte_goes_unnoticed_and_none_breaks_the_reader(data: st.DataObject) -> None:
    whole = bytearray(encode_part(Sum(np.arange(3.0), 1, ("a",)), {}))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PartUndecodable):
        decode_part(bytes(whole), classes_of(add_up))
    with pytest.raises(PartUndecodable):
        decode_part(bytes(whole[:at]), classes_of(add_up))


def forged(tree: Any) -> bytes:
    """A file with a right checksum around any tree."""
    import hashlib

    text = json.dumps({"extra": {}, "part": tree}).encode()
    body = len(text).to_bytes(8, "little") + text
    return b"BHPART1\n" + hashlib.sha256(body).digest() + body


@pytest.mark.parametrize(
    "tree",
    [
        {"c": ["subprocess:Popen", {"args": "true"}]},
        {"c": ["beamhub_reduction.cluster:connect", {}]},
        {"c": ["pathlib:Path", {}]},
        {"c": ["reduction.engine_parts:Sum", {"values": 1}]},
        {"a": ["|O", [1]]},
        {"a": ["<f8", [1 << 62]]},
        {"a": ["<f8", [-1]]},
        {"a": ["<f8", [0, 1 << 70]]},
        {"a": ["V8", [1]]},
        {"z": 1},
        {"a": 1, "b": 2},
        {},
        1.5,
        {"d": [[{"l": []}, 1]]},
    ],
)
def test_a_forged_tree_builds_nothing(tree: Any) -> None:
    with pytest.raises(PartUndecodable):
        decode_part(forged(tree), classes_of(add_up))


def test_a_deep_tree_and_a_pickle_are_refused() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = {"l": [deep]}
    for content in (forged(deep), pickle.dumps(Sum(np.zeros(1), 1, ())), b""):
        with pytest.raises(PartUndecodable):
            decode_part(content, classes_of(add_up))


def test_what_no_part_may_hold_is_said_when_it_is_written() -> None:
    for value in (object(), np.array([object()]), {1, 2}):
        with pytest.raises(TypeError, match="cannot hold"):
            encode_part(value, {})


def ended_after(n: int, folder: Path, marks: Path) -> None:
    """A reduction of 10 units that is cancelled when n are done."""
    done: list[int] = []
    engine = Engine(
        threads=1, journal=folder, progress=lambda d, _: done.append(d), cancelled=lambda: len(done) >= n
    )
    with pytest.raises(Cancelled, match="goes on from there"):
        engine.run(add_up, pieces(10, marks), TASK, merge=merge)


def test_what_was_done_is_not_done_again_and_the_bits_are_the_same(tmp_path: Path) -> None:
    marks, folder = tmp_path / "marks", tmp_path / "journal"
    marks.mkdir()
    ended_after(6, folder, marks)
    begun = len(list(marks.iterdir()))
    found, execution = Engine(threads=2, journal=folder).run(add_up, pieces(10, marks), TASK, merge=merge)
    fresh, _ = Engine(threads=1).run(add_up, pieces(10), TASK, merge=merge)
    assert found.values.tobytes() == fresh.values.tobytes()
    assert found.seen == fresh.seen
    assert execution.n_resumed >= 6
    assert len(list(marks.iterdir())) - begun == 10 - execution.n_resumed
    assert begun <= 6 + 2
    again, execution = Engine(journal=folder).run(add_up, pieces(10, marks), TASK, merge=merge)
    assert (execution.n_resumed, again.values.tobytes()) == (10, fresh.values.tobytes())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def other_unit(path: Path) -> None:
    path.write_bytes(path.with_name("unit-00000000.part").read_bytes())


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [truncate, flip, other_unit, link, folder])
def test_an_entry_that_is_not_whole_is_done_again_and_told(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    journal = tmp_path / "journal"
    fresh, _ = Engine(threads=1, journal=journal).run(add_up, pieces(4), TASK, merge=merge)
    [entry] = journal.glob("*/unit-00000002.part")
    spoil(entry)
    found, execution = Engine(threads=1, journal=journal).run(add_up, pieces(4), TASK, merge=merge)
    assert found.values.tobytes() == fresh.values.tobytes()
    assert execution.n_resumed == 3
    assert "unit-00000002.part is not used" in execution.notes[0]


def test_a_journal_of_other_inputs_is_ignored_with_a_word(tmp_path: Path) -> None:
    Engine(journal=tmp_path).run(add_up, pieces(4), TASK, merge=merge)
    other = replace(TASK, values=TASK.values + 1)
    found, execution = Engine(journal=tmp_path).run(add_up, pieces(4), other, merge=merge)
    fresh, _ = Engine().run(add_up, pieces(4), other, merge=merge)
    assert found.values.tobytes() == fresh.values.tobytes()
    assert execution.n_resumed == 0
    assert "none of these inputs" in execution.notes[0]


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnusable) as caught:
        open_journal(tmp_path / "file", add_up, pieces(1), TASK)
    assert caught.value.exit_code == 2


def test_entries_appear_whole_and_are_private(tmp_path: Path) -> None:
    Engine(threads=2, journal=tmp_path).run(add_up, pieces(5), TASK, merge=merge)
    [own] = tmp_path.iterdir()
    assert sorted(p.name for p in own.iterdir()) == [
        "reduction.json",
        *(f"unit-{i:08d}.part" for i in range(5)),
    ]
    assert own.stat().st_mode & 0o077 == 0


def test_a_notebook_that_is_killed_redoes_no_more_than_one_unit_a_worker(tmp_path: Path) -> None:
    """A process with two threads ends by SIGKILL in its 12th unit; the next one goes on."""
    marks, journal = tmp_path / "marks", tmp_path / "journal"
    marks.mkdir()
    code = (
        "import os, sys; from pathlib import Path\n"
        "from beamhub_reduction.pipeline import Engine\n"
        "from reduction.engine_parts import *\n"
        "from reduction.test_pipeline_journal import TASK\n"
        "def kill(done, total):\n    done == 12 and os.kill(os.getpid(), 9)\n"
        "engine = Engine(threads=2, journal=Path(sys.argv[2]), progress=kill)\n"
        "engine.run(slowly, pieces(30, sys.argv[1]), TASK, merge=merge)\n"
    )
    root = Path(__file__).resolve().parents[1]
    paths = [str(root), *(p for p in sys.path if p)]
    killed = subprocess.run(
        [sys.executable, "-c", code, str(marks), str(journal)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert killed.returncode == -9
    begun = len(list(marks.iterdir()))
    kept = len(list(journal.glob("*/unit-*.part")))
    assert begun - kept <= 2


def test_a_run_takes_a_journal_and_says_what_came_from_it(
    powder_truth: Truth, outside_session: Path, tmp_path: Path
) -> None:
    run = open_run(powder_truth.file)
    first = run.reduce("azimuthal", journal=tmp_path, progress=silent, bins=50)
    again = run.reduce("azimuthal", journal=tmp_path, progress=silent, bins=50)
    other = run.reduce("azimuthal", journal=tmp_path, progress=silent, bins=51)
    assert again.execution.n_resumed == first.execution.n_units
    assert again.curve.intensity.tobytes() == first.curve.intensity.tobytes()
    assert again.statistics == first.statistics
    assert other.execution.n_resumed == 0
    assert "none of these inputs" in other.warnings[-1]
