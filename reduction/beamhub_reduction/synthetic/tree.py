"""Writing NeXus trees: groups with a class, fields with units, nothing that depends on the clock."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import h5py

from beamhub_core.errors import BeamhubError
from beamhub_core.techniques import technique_label


class AlreadyThere(BeamhubError):
    """A synthetic dataset would take the place of data that exist."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path} exists already and is never overwritten; choose another sample, number or folder."
        )


def check_names(*names: str) -> None:
    """Raise ValueError unless each name can be one component of a path."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", name):
            raise ValueError(f"{name!r} is no name: letters, digits, '.', '_' and '-', no dot or dash first")


def add_group(parent: Any, name: str, nx_class: str, **attributes: Any) -> Any:
    """A new group with its NeXus class."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    for key, value in attributes.items():
        group.attrs[key] = value
    return group


def add_field(group: Any, name: str, value: Any, *, units: str | None = None, **attributes: Any) -> Any:
    """A new dataset with its units."""
    field = group.create_dataset(name, data=value)
    if units is not None:
        field.attrs["units"] = units
    for key, attribute in attributes.items():
        field.attrs[key] = attribute
    return field


def add_fields(group: Any, **values: Any) -> None:
    """New datasets without units: texts and counts."""
    for name, value in values.items():
        add_field(group, name, value)


def add_technique(entry: Any, term: str) -> None:
    """The PaNET term of the measurement, beside its label, as a collection of the entry."""
    add_fields(add_group(entry, "technique", "NXcollection"), name=technique_label(term), pid=term)


def begin_file(path: Path, *, default: str, started_at: datetime, creator: str) -> Any:
    """A new, open NeXus file with the attributes of its root; a file of that name is an error."""
    file = h5py.File(path, "x", libver=("v110", "v110"))
    file.attrs.update(
        NX_class="NXroot",
        default=default,
        creator=creator,
        file_name=path.name,
        file_time=started_at.isoformat(),
    )
    return file


def measurement_time(seed: int) -> datetime:
    """When a synthetic measurement began: some working hour of spring 2026, by its seed only."""
    zone = timezone(timedelta(hours=1))
    first = datetime(2026, 2, 2, 8, 0, tzinfo=zone)
    return first + timedelta(days=seed % 50, minutes=seed % 540)


@contextmanager
def written_together(final: tuple[Path, ...]) -> Iterator[tuple[Path, ...]]:
    """Folders to write in; when all went well they get their final names, the last of `final` last.

    All of `final` share one parent. A scan of the pool that passes by never sees half a dataset, and
    what an interrupted run left is removed by the next one.

    Raises
    ------
    AlreadyThere
        If one of the final folders exists.
    """
    for path in final:
        if os.path.lexists(path):
            raise AlreadyThere(str(path))
    workplace = final[-1].with_name(f".writing-{final[-1].name}")
    shutil.rmtree(workplace, ignore_errors=True)
    inside = tuple(workplace / path.name for path in final)
    for path in inside:
        path.mkdir(parents=True)
    try:
        yield inside
        for path, target in zip(inside, final, strict=True):
            path.rename(target)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
