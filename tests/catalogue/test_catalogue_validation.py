"""Files beside their application definitions: what is written by one passes, every miss has its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_catalogue.nxdl import Definitions, DefinitionUnknown, Rule
from beamhub_catalogue.validation import UNITLESS, validate_file

PACKAGED = Definitions().names()


def write_by(path: Path, name: str, definitions: Definitions) -> None:
    """The smallest file that a definition allows, written from its rules."""
    with h5py.File(path, "w") as file:
        for rule in definitions.read(name).rules:
            if rule.type in ("NXentry", "NXsubentry"):
                entry = file.create_group("entry")
                entry.attrs["NX_class"] = "NXentry"
                _write(entry, rule.children)
                if "definition" not in entry:
                    entry["definition"] = name


def _write(group: Any, rules: tuple[Rule, ...]) -> None:
    for rule in rules:
        if rule.need != "required":
            continue
        if rule.kind == "attribute":
            group.attrs[rule.name] = rule.values[0] if rule.values else "x"
        elif rule.kind == "group":
            made = group.require_group(rule.name if not rule.any_name else (rule.name or rule.type).lower())
            made.attrs["NX_class"] = rule.type
            _write(made, rule.children)
        elif not rule.any_name:
            if rule.name in group:
                del group[rule.name]
            group[rule.name] = _value(rule)
            if rule.units not in UNITLESS:
                group[rule.name].attrs["units"] = "m"
            _write(group[rule.name], rule.children)


def _value(rule: Rule) -> Any:
    if rule.type in ("NX_DATE_TIME", "ISO8601"):
        return "2026-01-01T00:00:00"
    if rule.type == "NX_CHAR_OR_NUMBER" or rule.type == "NX_CHAR":
        return rule.values[0] if rule.values else "x"
    one = int(rule.values[0]) if rule.values and rule.values[0].lstrip("-").isdigit() else 1
    kind = {"NX_FLOAT": "f8", "NX_NUMBER": "f8", "NX_COMPLEX": "c16"}.get(rule.type, "i4")
    return np.full((1,) * (rule.rank or 0), one, "i4" if rule.values else kind)


@pytest.mark.parametrize("name", ["NXtomo", "NXmx", "NXarpes", "NXsas", "NXtofnpd", "NXxlaueplate"])
def test_a_file_written_by_a_definition_passes_and_each_miss_is_named(tmp_path: Path, name: str) -> None:
    definitions, path = Definitions(), tmp_path / "file.nxs"
    write_by(path, name, definitions)
    found = validate_file(str(path), definitions)
    assert [miss for miss in found.misses if miss.severity == "error"] == []
    assert found.definitions == {"/entry": name}
    with h5py.File(path, "r+") as file:
        victim = next(n for n in file["entry"] if n != "definition")
        del file[f"entry/{victim}"]
    misses = [miss.path for miss in validate_file(str(path), definitions).misses if miss.severity == "error"]
    assert len(misses) == 1
    assert misses[0].startswith("/entry/")


def test_every_packaged_definition_can_be_read() -> None:
    definitions = Definitions()
    assert len(PACKAGED) > 40
    assert all(definitions.read(name).rules for name in PACKAGED)


def test_wrong_types_units_values_and_times_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.nxs"
    write_by(path, "NXtomo", Definitions())
    with h5py.File(path, "r+") as file:
        entry = file["entry"]
        sample = next(group for group in entry.values() if group.attrs.get("NX_class") == "NXsample")
        del sample["rotation_angle"], entry["definition"]
        sample["rotation_angle"] = "ten"
        entry["start_time"], entry["definition"] = "yesterday", "NXother"
        sample["x_translation"] = 1.0  # without its units
    found = validate_file(str(path), Definitions(), "NXtomo").misses
    reasons = {miss.path.rsplit("/", 1)[-1]: miss.reason for miss in found}
    assert "no time" in reasons["start_time"]
    assert "none of NXtomo" in reasons["definition"]
    assert "not NX_FLOAT" in reasons["rotation_angle"]
    assert "NX_LENGTH" in reasons["x_translation@units"]


def test_a_contributed_definition_is_a_file_and_no_code(tmp_path: Path) -> None:
    (tmp_path / "NXours.nxdl.xml").write_text(
        '<definition name="NXours" extends="NXtomo" type="group" category="application" '
        'xmlns="http://definition.nexusformat.org/nxdl/3.1"><group type="NXentry">'
        '<field name="badge" type="NX_INT"/></group></definition>'
    )
    path, own = tmp_path / "file.nxs", Definitions(tmp_path)
    write_by(path, "NXtomo", own)
    misses = [m.path for m in validate_file(str(path), own, "NXours").misses if m.severity == "error"]
    assert "/entry/badge" in misses
    with pytest.raises(DefinitionUnknown, match="NXabsent"):
        validate_file(str(path), own, "NXabsent")
    (tmp_path / "NXbad.nxdl.xml").write_text("<definition")
    with pytest.raises(DefinitionUnknown, match="no XML"):
        own.read("NXbad")
