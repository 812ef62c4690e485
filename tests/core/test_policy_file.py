"""Reading policy.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from beamhub_core.errors import ConfigInvalid
from beamhub_core.policy_file import read_policy

GOOD = """
version: "2026-1"
timezone: Europe/Paris
classes:
  open: {embargo_months: 0, metadata: public, license: CC-BY-4.0}
  proprietary: {embargo_months: never, metadata: team, required_assurance: [high]}
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "policy.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        read_policy(path)
    assert caught.value.exit_code == 7
    return caught.value.problems


def test_a_good_policy_is_read(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, GOOD))
    assert policy.classes["proprietary"].embargo_months == "never"
    assert policy.zone.key == "Europe/Paris"


def test_all_problems_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """
version: "1"
timezone: Mars/Base
klasses: 3
classes:
  a: {embargo_months: -1, metadata: publik, licence: x}
  a: {embargo_months: 0, metadata: public}
  b: {metadata: team}
"""
    found = "\n".join(problems_of(written(tmp_path, text)))
    for expected in (
        "timezone: 'Mars/Base' is not an IANA time zone, e.g. 'Europe/Paris', line 3",
        "klasses: unknown key (did you mean 'classes'?), line 4",
        "classes.a: stands twice, in lines 6 and 7",
        "classes.a.embargo_months: is a number of months",
        "classes.a.metadata: input should be 'public' or 'team', line 6",
        "classes.a.licence: unknown key (did you mean 'license'?)",
        "classes.b.embargo_months: is missing",
    ):
        assert expected in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no mapping"),
        ("[1, 2]", "no mapping"),
        ("a: [", "not YAML"),
        (b"version: \xff", "not UTF-8"),
        ('version: "1"\ntimezone: UTC\nclasses: {}\n', "classes"),
        (GOOD.replace("never", "1.5"), "embargo_months"),
        (GOOD.replace("never", "true"), "embargo_months"),
        (GOOD.replace("Europe/Paris", "../../etc"), "timezone"),
    ],
)
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert any(expected in problem for problem in problems_of(written(tmp_path, text)))


def test_a_missing_policy_says_so(tmp_path: Path) -> None:
    assert "cannot be read" in problems_of(tmp_path / "none.yaml")[0]
