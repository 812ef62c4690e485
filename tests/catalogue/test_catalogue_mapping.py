"""The mapping of NeXus files: by class and not by path, first match wins, bounded against hostile files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub_catalogue.file_reading import read_file
from beamhub_catalogue.file_report import FileReport, FileRequest
from beamhub_catalogue.nexus_mapping import NexusMapping, default_mapping, read_mapping
from beamhub_core.errors import ConfigInvalid
from beamhub_core.orcid import is_orcid
from beamhub_reduction.nexus import NexusError
from catalogue.catalogue_parts import write_master

MAPPING = default_mapping()


def report_on(path: Path, mapping: NexusMapping = MAPPING) -> FileReport:
    """What the child would report, read in this process."""
    return read_file(FileRequest(path=str(path), explain=True), mapping, (str(path.parent),))


def write_group(parent: Any, called: str, nx_class: str, /, **members: Any) -> Any:
    """A group of a class with members; a pair is a value and its units."""
    group = parent.create_group(called)
    group.attrs["NX_class"] = nx_class
    for member, value in members.items():
        number, units = value if isinstance(value, tuple) else (value, None)
        group[member] = number
        if units is not None:
            group[member].attrs["units"] = units
    return group


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the tests write anew."""
    return tmp_path_factory.mktemp("mapping") / "file.nxs"


class TestByClass:
    """Values come from classes, and the first path that gives one wins."""

    @given(names=st.lists(st.text("abcdefgh", min_size=1, max_size=8), min_size=4, max_size=4, unique=True))
    @settings(max_examples=15)
    def test_a_value_is_found_whatever_its_groups_are_called(self, path: Path, names: list[str]) -> None:
        entry, sample, instrument, source = names
        with h5py.File(path, "w") as file:
            root = write_group(file, entry, "NXentry", title="T", definition="NXtomo")
            write_group(root, sample, "NXsample", name="Si", temperature=(20.0, "degC"))
            made = write_group(root, instrument, "NXinstrument", name="bl09")
            write_group(made, source, "NXsource", probe="x-ray")
        report = report_on(path)
        told = {p.name: (p.value, p.unit) for p in report.parameters}
        assert told["sample_temperature"] == (20.0, "degC")
        assert (report.title, report.instrument, report.sample) == ("T", "bl09", "Si")
        assert report.technique_name == "x-ray tomography"
        assert ("title", f"/{entry}/title") in report.found_at

    def test_arrays_give_their_mean_and_range_and_people_come_without_addresses(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            entry = write_group(file, "entry", "NXentry", definition="NXtomo")
            told = {"name": "Ines", "role": "PI", "email": "i@example.org", "ORCID": "0000-0002-1825-0097"}
            write_group(entry, "user_1", "NXuser", **told)
            write_group(entry, "user_2", "NXuser", name="Sam", ORCID="0000-0002-1825-0098")
            write_group(entry, "s", "NXsample", name="Si", temperature=(np.array([1.0, 3.0, np.nan]), "K"))
            write_group(entry, "c", "NXcollection", ring=7.0)
        report = report_on(path)
        assert {p.name: p.value for p in report.parameters if p.name.startswith("sample")} == {
            "sample_temperature": 2.0,
            "sample_temperature_min": 1.0,
            "sample_temperature_max": 3.0,
        }
        assert [(p.name, p.orcid) for p in report.people] == [("Ines", "0000-0002-1825-0097"), ("Sam", None)]
        assert "example.org" not in report.model_dump_json()
        assert report.technique_name is None  # NXtomo serves neutrons too, and the file names no probe
        assert [field.path for field in report.unmapped] == ["NXcollection/ring"]

    def test_a_facilitys_own_rules_win(self, path: Path, tmp_path: Path) -> None:
        rules = tmp_path / "rules.yaml"
        own = {"version": 1, "fields": {"title": ["NXcollection/label", "title"]}}
        own |= {"parameters": [{"name": "gap", "sources": ["NXcollection/gap"], "unit": "mm"}]}
        rules.write_text(yaml.safe_dump(own))
        with h5py.File(path, "w") as file:
            entry = write_group(file, "entry", "NXentry", title="No", definition="X")
            write_group(entry, "blue", "NXcollection", label="Yes", gap=6.5)
        report = report_on(path, read_mapping(rules))
        assert report.title == "Yes"
        assert [(p.name, p.value, p.unit) for p in report.parameters] == [("gap", 6.5, "mm")]


class TestHostile:
    """What means harm costs a bounded time and reads nothing that it must not."""

    def test_cycles_external_storage_and_foreign_links_give_nothing(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.h5"
        with h5py.File(secret, "w") as file:
            file["word"] = "hush"
        inside = tmp_path / "in"
        path = write_master(inside / "scan.h5")
        with h5py.File(path, "r+") as file:
            entry = file["entry"]
            entry["loop"] = entry  # a group that holds itself
            del entry["sample/name"], entry["title"]
            entry["title"] = h5py.ExternalLink("../secret.h5", "/word")
            entry["sample/name"] = h5py.SoftLink("/entry/sample/name")
            entry["sample"].create_dataset("temperature", (4,), "f8", external=[("/etc/passwd", 0, 32)])
        report = report_on(path)
        assert "hush" not in report.model_dump_json()
        assert (report.title, report.sample) == (None, None)
        assert "sample_temperature" not in {p.name for p in report.parameters}

    def test_a_file_with_too_many_groups_or_too_long_attributes_is_bounded(self, tmp_path: Path) -> None:
        path = write_master(tmp_path / "wide.h5")
        with h5py.File(path, "r+") as file:
            many = file["entry"].create_group("many")
            for i in range(200):
                many.create_group(f"g{i}/h").attrs["NX_class"] = "NXuser"
            file["entry/instrument/name"].attrs["short_name"] = "x" * 60_000
        report = report_on(path)
        assert len(report.instrument or "") <= 1_000
        assert len(report.people) == 0

    def test_a_truncated_tail_is_an_error_of_ours(self, tmp_path: Path) -> None:
        path = write_master(tmp_path / "cut.h5")
        os.truncate(path, path.stat().st_size - 100)
        with pytest.raises(NexusError):
            report_on(path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "version: 2", "version: 1\nfields: {title: [a/../../b@]}", "version: 1\nfields: {colour: [a]}",
     "version: 1\ntechniques: [{equals: x, technique: PaNET1, label: y}]", "{", "a: !!python/name:os.system"],
)  # fmt: skip
def test_a_bad_mapping_is_refused_with_its_problems(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        read_mapping(path)
    assert caught.value.problems


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("0000-0002-1825-0097", True),
        ("0000-0002-9079-593X", True),
        ("0000-0002-1825-0098", False),
        ("", False),
    ],
)
def test_an_orcid_has_a_check_digit(text: str, valid: bool) -> None:
    assert is_orcid(text) == valid
