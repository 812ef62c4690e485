"""A `facility.yaml` that is no file, no YAML, torn or mutated: told as invalid, and never a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.config.reading import MAX_CONFIG_BYTES
from beamhub_core.errors import ConfigInvalid
from core.config_parts import Make, at, everything, problems_of


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no mapping of sections"),
        (b"- a\n", "no mapping of sections"),
        (b"just words", "no mapping of sections"),
        (b"\xff\xfe\x00", "not UTF-8 (byte 0)"),
        (b"a: [", "is not YAML"),
        (b"a: 1\n\tb: 2\n", "is not YAML"),
        (b"#" * (MAX_CONFIG_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    [problem] = problems_of(_bytes(tmp_path / "facility.yaml", content))
    assert words in problem


def test_a_byte_order_mark_does_no_harm(facility_config: Make) -> None:
    file = facility_config()
    _bytes(file.path, b"\xef\xbb\xbf" + file.path.read_bytes())
    assert file.read().name == "Test facility"


def test_a_missing_file_a_folder_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert "No such file" in problems_of(tmp_path / "nothing.yaml")[0]
    assert "not a regular file" in problems_of(tmp_path)[0]
    assert "not a regular file" in problems_of(tmp_path / "pipe")[0]
    assert "cannot be read" in problems_of(tmp_path / "loop")[0]


def _leaves(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from _leaves(value, (*path, key))


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_valid_or_invalid_and_never_a_traceback(
    data: st.DataObject, facility_config: Make
) -> None:
    file = facility_config()
    content = everything(file)
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(list(_leaves(content))))
        where = at(content, path[:-1])
        match data.draw(st.sampled_from(["replace", "remove", "rename"])):
            case "replace":
                where[path[-1]] = data.draw(junk)
            case "remove":
                where.pop(path[-1])
            case "rename":
                if isinstance(where, dict):
                    where[data.draw(st.text(max_size=20))] = where.pop(path[-1])
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")
    try:
        assert isinstance(read_config(_bytes(file.path, text)), FacilityConfig)
    except ConfigInvalid as error:
        assert error.problems
        assert all(problem.isprintable() for problem in error.problems)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_torn_file_is_valid_or_invalid_and_never_a_traceback(
    data: st.DataObject, facility_config: Make
) -> None:
    file = facility_config()
    whole = file.path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    torn = whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:]
    try:
        assert isinstance(read_config(_bytes(file.path, torn)), FacilityConfig)
    except ConfigInvalid as error:
        assert error.problems
