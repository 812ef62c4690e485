"""The `beamhub` command: its verbs come from the rooms, and every error has its exit code."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from beamhub_core import command
from beamhub_core.errors import BeamhubError, ConfigInvalid, Unavailable
from beamhub_core.rights import Refusal, Refused

BEAMHUB = [sys.executable, "-m", "beamhub_core.command"]
HEAVY = ("jupyterhub", "sqlalchemy", "fastapi", "h5py", "numpy", "distributed", "scipp", "pyFAI", "httpx")


def refused(code: str) -> Refused:
    return Refused(Refusal(code=code, subject="x", reason="no", reference="r1"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (BeamhubError("it failed"), 1),
        (refused("bad_request"), 2),
        (refused("not_found"), 3),
        (refused("embargoed"), 4),
        (refused("not_a_member"), 4),
        (refused("withdrawn"), 4),
        (refused("full"), 5),
        (refused("no_place"), 5),
        (refused("unavailable"), 6),
        (Unavailable("web", "timeout"), 6),
        (ConfigInvalid("facility.yaml", ("hub: is missing",)), 7),
    ],
)
def test_every_error_has_its_exit_code_and_one_line(
    error: BeamhubError, exit_code: int, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.raises = error
    assert command.main(["try"]) == exit_code
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err == f"beamhub: {error}\n"


class Verb:
    """A room's verb for these tests: raises what it is told, or returns 0."""

    raises: BaseException | None = None

    def add(self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        parser = subparsers.add_parser("try")
        parser.add_argument("--json", action="store_true")
        parser.set_defaults(run=self.run)

    def run(self, _: argparse.Namespace) -> int:
        if self.raises is not None:
            raise self.raises
        return 0


VERB = Verb()


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verb:
    """An installed distribution whose only content is an entry point to VERB's class."""
    room = tmp_path / "room"
    info = room / "tried_room-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tried-room\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[beamhub.commands]\nzz-try = tried_room:add\n")
    (room / "tried_room.py").write_text("def add(subparsers): VERB.add(subparsers)\n")
    monkeypatch.syspath_prepend(room)
    import tried_room  # type: ignore[import-not-found]  # made above, after the path was set

    VERB.raises = None
    tried_room.VERB = VERB
    return VERB


def test_json_says_what_failed_on_standard_output(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb.raises = refused("embargoed")
    assert command.main(["try", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"] == "Refused"


def test_an_interrupted_command_says_so_by_its_code(verb: Verb) -> None:
    verb.raises = KeyboardInterrupt()
    assert command.main(["try"]) == 128 + signal.SIGINT


def test_a_command_that_does_its_work_returns_zero(verb: Verb) -> None:
    assert command.main(["try"]) == 0


def test_a_room_whose_libraries_are_absent_brings_no_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "bare_room-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bare-room\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[beamhub.commands]\nbare = bare_room:add\n")
    (tmp_path / "bare_room.py").write_text("import a_library_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "{bare" not in command.build_parser().format_help()


@pytest.mark.parametrize("words", [[], ["no-such-verb"], ["check", "--no-such-option"]])
def test_wrong_words_are_a_usage_error(words: list[str]) -> None:
    done = subprocess.run([*BEAMHUB, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: beamhub" in done.stderr


def test_help_names_the_verbs_and_the_exit_codes() -> None:
    done = subprocess.run([*BEAMHUB, "--help"], capture_output=True, text=True, check=True)
    assert "check" in done.stdout
    assert "7 config invalid" in " ".join(done.stdout.split())


def test_help_loads_no_heavy_library() -> None:
    code = f"""
import sys
from beamhub_core.command import build_parser
build_parser()
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_verb_of_the_distribution_is_there() -> None:
    points: EntryPoints = command.entry_points(group=command.ENTRY_POINT_GROUP)
    missing: list[EntryPoint] = [point for point in points if not callable(point.load())]
    assert missing == []
