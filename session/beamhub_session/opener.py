"""From the planned template to a notebook in the person's home, without ever touching existing work."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat as _nbformat
from nbformat import ValidationError

from beamhub_core.session import PlannedTemplate, SessionInfo
from beamhub_session.errors import (
    HomeNotWritable,
    NotebookOutOfReach,
    TemplateChanged,
    TemplateMissing,
    TemplateUnusable,
)
from beamhub_session.parameters import ParameterError, fill_parameters

nbformat: Any = _nbformat  # its functions carry no types
# What nbformat raises for JSON that is no notebook, besides its own error.
UNREADABLE = (ValidationError, ValueError, KeyError, AttributeError, TypeError)

MAX_TEMPLATE_BYTES = 8_000_000
MAX_COPIES = 99
FOLDER = "notebooks"
PARAMETERS_TAG = "parameters"  # Source: papermill's convention


@dataclass(frozen=True, slots=True)
class OpenNotebook:
    """A notebook in the home: where it lies, and whether this call wrote it."""

    file: Path
    is_new: bool


def read_template(templates: Path, template: PlannedTemplate) -> Any:
    """The planned template as a `NotebookNode`, its parameters filled in, not yet written anywhere.

    The very bytes whose digest was compared are the ones parsed.

    Raises
    ------
    TemplateMissing, TemplateChanged, TemplateUnusable
    """
    content = _read_bounded(_below(templates, template.file), template.file)
    found = hashlib.sha256(content).hexdigest()
    if found != template.digest:
        raise TemplateChanged(template.file, template.digest, found)
    try:
        notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
        nbformat.validate(notebook)
    except UNREADABLE as error:
        raise TemplateUnusable(template.file, "it is not a notebook") from error
    cells = [cell for cell in notebook.cells if PARAMETERS_TAG in cell.metadata.get("tags", ())]
    if len(cells) > 1:
        raise TemplateUnusable(template.file, f"{len(cells)} of its cells have the tag 'parameters'")
    if template.parameters:
        if not cells:
            raise TemplateUnusable(template.file, "none of its cells has the tag 'parameters'")
        try:
            cells[0].source = fill_parameters(cells[0].source, dict(template.parameters))
        except ParameterError as error:
            raise TemplateUnusable(template.file, str(error)) from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def ensure_notebook(info: SessionInfo, templates: Path, *, fresh_copy: bool = False) -> OpenNotebook | None:
    """The notebook of this session's template and dataset; written when it is not there yet.

    Existing work is opened as it is, even when the template has changed since. With `fresh_copy` a clean
    copy gets the next free number. None when the session has no template.

    Raises
    ------
    TemplateMissing, TemplateChanged, TemplateUnusable
        Only when a notebook has to be written.
    HomeNotWritable
        If the home takes no file, or has too many copies already.
    """
    template = info.template
    if template is None:
        return None
    origin = {"template": template.name, "digest": template.digest, "dataset": named_dataset(info)}
    folder = Path(info.home) / FOLDER
    stem = notebook_stem(template.name, named_dataset(info))
    for number in range(1, MAX_COPIES + 1):
        file = folder / (f"{stem}.ipynb" if number == 1 else f"{stem}-{number}.ipynb")
        if os.path.lexists(file):
            if not fresh_copy and _is_same_work(file, origin):
                return OpenNotebook(file=file, is_new=False)
            continue
        notebook = read_template(templates, template)
        notebook.metadata["beamhub"] = {**origin, "plan_id": info.plan_id}
        if _write_new(file, nbformat.writes(notebook) + "\n"):
            return OpenNotebook(file=file, is_new=True)
    raise HomeNotWritable(str(folder / f"{stem}.ipynb"), f"there are {MAX_COPIES} copies already")


def named_dataset(info: SessionInfo) -> str:
    """The dataset that the template's parameters name, else the session's first; empty without any."""
    value = info.template.parameters.get("dataset", "") if info.template else ""
    return str(value) or (info.datasets[0].pid if info.datasets else "")


def notebook_stem(template: str, dataset: str) -> str:
    """File name of a notebook without its ending: `<template>-<proposal>-<dataset>`.

    A pid `<facility>:<proposal>:<stem>` loses its facility; what is not [A-Za-z0-9._-] becomes '-' and
    then a short hash of the pid keeps the name its own.
    """
    if not dataset:
        return template
    parts = dataset.split(":")
    readable = "-".join(parts[1:] if len(parts) == 3 else parts)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", readable).strip("-.")[:80]
    if safe != readable:
        safe = f"{safe}-{hashlib.sha256(dataset.encode()).hexdigest()[:8]}".strip("-")
    return f"{template}-{safe}"


def contents_path(root: Path, file: Path) -> str:
    """Where JupyterLab finds a file: its path relative to the server's root folder, with '/' between.

    A link in the root folder that leads to the file's surroundings is used; when there is none, a link
    `notebooks` is made where that is allowed.

    Raises
    ------
    NotebookOutOfReach
        If no path below the root leads there.
    """
    if file.is_relative_to(root):
        return file.relative_to(root).as_posix()
    real = file.resolve()
    if real.is_relative_to(root.resolve()):
        return real.relative_to(root.resolve()).as_posix()
    try:
        links = sorted(entry.name for entry in os.scandir(root) if entry.is_symlink())
        if FOLDER not in links and not os.path.lexists(root / FOLDER):
            (root / FOLDER).symlink_to(file.parent, target_is_directory=True)
            links.insert(0, FOLDER)
    except OSError as error:
        raise NotebookOutOfReach(str(file), str(root)) from error
    for name in sorted(links, key=lambda name: name != FOLDER):
        target = (root / name).resolve()
        if real.is_relative_to(target):
            return (PurePosixPath(name) / real.relative_to(target).as_posix()).as_posix()
    raise NotebookOutOfReach(str(file), str(root))


def _below(templates: Path, file: str) -> Path:
    """The template's path; a name that leads out of the templates folder is a missing template."""
    parts = PurePosixPath(file).parts
    if not parts or file.startswith("/") or ".." in parts or "\0" in file:
        raise TemplateMissing(file)
    try:
        path = templates.joinpath(*parts).resolve(strict=True)
        inside = path.is_relative_to(templates.resolve(strict=True)) and path.is_file()
    except (OSError, RuntimeError) as error:
        raise TemplateMissing(file) from error
    if not inside:
        raise TemplateMissing(file)
    return path


def _read_bounded(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_TEMPLATE_BYTES + 1)
    except OSError as error:
        raise TemplateMissing(name) from error
    if len(content) > MAX_TEMPLATE_BYTES:
        raise TemplateUnusable(name, f"it has more than {MAX_TEMPLATE_BYTES} bytes")
    return content


def _is_same_work(file: Path, origin: dict[str, str]) -> bool:
    """Whether a notebook is of this template and dataset; one that says nothing of it counts by its name."""
    try:
        notebook = nbformat.read(file, as_version=4)
        made_from = notebook.metadata.get("beamhub", origin)
        return bool(
            made_from.get("dataset") == origin["dataset"] and made_from.get("template") == origin["template"]
        )
    except (OSError, *UNREADABLE):
        return True  # damaged, but theirs: Jupyter says what is wrong with it


def _write_new(file: Path, text: str) -> bool:
    """Write a file that must not exist; False when another process was faster."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            try:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                file.unlink(missing_ok=True)  # ours and incomplete
                raise
    except FileExistsError:
        if file.parent.is_dir():
            return False
        raise HomeNotWritable(str(file), f"{str(file.parent)!r} is not a folder") from None
    except OSError as error:
        raise HomeNotWritable(str(file), error.strerror or "unknown reason") from error
    return True
