"""The walkthrough: nine stops in order, and every name of code on the page exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "walkthrough.md").read_text("utf-8")
NAMES = sorted(set(re.findall(r"`(beamhub_[a-z]+(?:\.[A-Za-z_][A-Za-z0-9_]*)*)`", PAGE)))
STOPS = (
    "Portal: a dataset's page",
    "Hub: login",
    "Grants",
    "Placement",
    "The plan",
    "The server",
    "The notebook",
    "Reduction",
    "The catalogue",
)


def resolve(name: str) -> object:
    """The object with a dotted name: the longest part that is a module, then attributes.

    Raises
    ------
    LookupError
        If there is no such module or attribute.
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module = ".".join(parts[:end])
        try:
            found: object = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there; something that it needs is not
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                raise LookupError(f"{name}: {module} has no {'.'.join(parts[end:])}")
            found = getattr(found, part)
        return found
    raise LookupError(f"{name}: no such module")


def test_the_nine_stops_stand_in_their_order() -> None:
    assert re.findall(r"^## (\d)\. (.+)$", PAGE, re.MULTILINE) == [
        (str(i), s) for i, s in enumerate(STOPS, 1)
    ]


def test_every_stop_names_its_code() -> None:
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        assert re.search(r"`beamhub_[a-z]+\.", section), section.splitlines()[0]


def test_every_room_is_on_the_way() -> None:
    rooms = {"core", "hub", "portal", "catalogue", "spawners", "session", "reduction"}
    assert {name.split(".")[0].removeprefix("beamhub_") for name in NAMES} == rooms


@pytest.mark.parametrize("name", NAMES)
def test_a_name_on_the_page_exists(name: str) -> None:
    assert resolve(name) is not None


@pytest.mark.parametrize("name", ["beamhub_core.nowhere", "beamhub_core.word.nothing", "beamhub_nowhere.x"])
def test_a_name_that_does_not_exist_would_be_found(name: str) -> None:
    with pytest.raises(LookupError, match=name):
        resolve(name)
