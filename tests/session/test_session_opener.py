"""From the planned template to a notebook in the home."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.session import PlannedTemplate
from beamhub_session.errors import (
    HomeNotWritable,
    NotebookOutOfReach,
    TemplateChanged,
    TemplateMissing,
    TemplateUnusable,
)
from beamhub_session.opener import OpenNotebook, contents_path, ensure_notebook, notebook_stem

if TYPE_CHECKING:
    from session.conftest import Stage  # the tests' folder, not the room

PID = "demo:MA-5101:CeO2_0001"
NAME = "powder-diffraction-MA-5101-CeO2_0001.ipynb"


def opened(stage: Stage, *, fresh_copy: bool = False) -> OpenNotebook:
    notebook = ensure_notebook(stage.info, stage.templates, fresh_copy=fresh_copy)
    assert notebook is not None
    return notebook


def planned(stage: Stage, **fields: object) -> PlannedTemplate:
    assert stage.info.template is not None
    return stage.info.template.model_copy(update=fields)


def test_the_notebook_carries_the_planned_values_and_where_it_came_from(stage: Stage) -> None:
    notebook = opened(stage)
    assert notebook == OpenNotebook(file=stage.home / "notebooks" / NAME, is_new=True)
    written = nbformat.read(notebook.file, as_version=4)
    nbformat.validate(written)
    assert written.cells[1].source == f"dataset = {PID!r}\nbins = 1000\n"
    assert written.metadata["beamhub"]["dataset"] == PID
    assert written.metadata["kernelspec"]["name"] == "python3"


def test_existing_work_is_opened_and_never_overwritten(stage: Stage) -> None:
    file = opened(stage).file
    work = nbformat.read(file, as_version=4)
    work.cells[2].source = "my_work = 1"
    nbformat.write(work, file)
    before = file.read_bytes()
    assert opened(stage) == OpenNotebook(file=file, is_new=False)
    assert file.read_bytes() == before


def test_existing_work_opens_even_when_the_template_has_gone_or_changed(stage: Stage) -> None:
    file = opened(stage).file
    (stage.templates / "powder" / "powder.ipynb").unlink()
    assert opened(stage.changed(template=planned(stage, digest="f" * 64))).file == file


def test_a_clean_copy_gets_the_next_free_number(stage: Stage) -> None:
    first = opened(stage).file
    first.write_text("my work")
    copies = [opened(stage, fresh_copy=True).file.name for _ in range(2)]
    assert copies == [NAME.replace(".ipynb", "-2.ipynb"), NAME.replace(".ipynb", "-3.ipynb")]
    assert first.read_text() == "my work"


def test_a_damaged_notebook_of_the_user_is_opened_as_theirs(stage: Stage) -> None:
    file = opened(stage).file
    file.write_text("{ half")
    assert opened(stage) == OpenNotebook(file=file, is_new=False)


def test_a_notebook_of_another_dataset_under_the_same_name_is_left_alone(stage: Stage) -> None:
    file = opened(stage).file
    work = nbformat.read(file, as_version=4)
    work.metadata["beamhub"]["dataset"] = "demo:MA-5101-CeO2:0001"
    nbformat.write(work, file)
    assert opened(stage).file.name == NAME.replace(".ipynb", "-2.ipynb")


def test_too_many_copies_are_refused_with_a_reason(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beamhub_session.opener.MAX_COPIES", 1)
    opened(stage)
    with pytest.raises(HomeNotWritable, match="1 copies already"):
        opened(stage, fresh_copy=True)


def test_a_session_without_a_template_has_no_notebook(stage: Stage) -> None:
    assert ensure_notebook(stage.changed(template=None).info, stage.templates) is None


def test_a_changed_template_is_not_instantiated(stage: Stage) -> None:
    file = stage.templates / "powder" / "powder.ipynb"
    file.write_text(file.read_text() + " ")
    with pytest.raises(TemplateChanged) as caught:
        opened(stage)
    assert caught.value.planned == planned(stage).digest
    assert not (stage.home / "notebooks").exists()


@pytest.mark.parametrize(
    "file", ["absent.ipynb", "../home/x.ipynb", "/etc/passwd", "powder", "", "a/../../b"]
)
def test_a_file_outside_or_absent_is_a_missing_template(stage: Stage, file: str) -> None:
    (stage.home / "x.ipynb").write_text("{}")
    with pytest.raises(TemplateMissing) as caught:
        opened(stage.changed(template=planned(stage, file=file)))
    assert caught.value.file == file


def test_a_link_out_of_the_templates_folder_is_not_followed(stage: Stage) -> None:
    (stage.home / "x.ipynb").write_text("{}")
    (stage.templates / "x.ipynb").symlink_to(stage.home / "x.ipynb")
    with pytest.raises(TemplateMissing):
        opened(stage.changed(template=planned(stage, file="x.ipynb")))


def test_a_template_without_the_planned_parameter_is_unusable(stage: Stage) -> None:
    with pytest.raises(TemplateUnusable, match="assigns no binz"):
        opened(stage.changed(template=planned(stage, parameters={"binz": 5})))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"nbformat": 4}', "not json", '{"cells": 3, "nbformat": 4}']
)
def test_a_template_that_is_no_notebook_is_unusable(stage: Stage, text: str) -> None:
    (stage.templates / "bad.ipynb").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(TemplateUnusable, match=r"bad\.ipynb"):
        opened(stage.changed(template=planned(stage, file="bad.ipynb", digest=digest)))


def test_a_home_that_takes_no_file_is_named(stage: Stage) -> None:
    (stage.home / "notebooks").write_text("a file where the folder should be")
    with pytest.raises(HomeNotWritable) as caught:
        opened(stage)
    assert caught.value.path.endswith(NAME)


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_are_plain_and_differ_when_pids_do(first: str, second: str) -> None:
    stem = notebook_stem("t", first)
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert len(stem) <= 120
    if first != second and ":" not in first + second:
        assert stem != notebook_stem("t", second)


def test_a_link_of_the_session_folder_leads_to_the_notebook(stage: Stage) -> None:
    (stage.root / "home").symlink_to(stage.home, target_is_directory=True)
    (stage.root / "notebooks").mkdir()
    file = opened(stage).file
    assert contents_path(stage.root, file) == f"home/notebooks/{NAME}"


def test_without_a_link_one_is_made_beside_the_data(stage: Stage) -> None:
    file = opened(stage).file
    assert contents_path(stage.root, file) == f"notebooks/{NAME}"
    assert (stage.root / "notebooks" / NAME).read_bytes() == file.read_bytes()


def test_a_root_that_holds_the_home_needs_no_link(stage: Stage) -> None:
    assert contents_path(stage.home, opened(stage).file) == f"notebooks/{NAME}"
    assert contents_path(stage.home.parent, opened(stage).file) == f"home/notebooks/{NAME}"


def test_a_notebook_that_no_path_leads_to_is_reported(stage: Stage, tmp_path: Path) -> None:
    (stage.root / "notebooks").mkdir()
    file = opened(stage).file
    with pytest.raises(NotebookOutOfReach) as caught:
        contents_path(stage.root, file)
    assert caught.value.path == os.fspath(file)
