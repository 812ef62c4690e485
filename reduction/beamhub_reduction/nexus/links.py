"""The links of a group as they stand in the file, before anybody follows them."""

from __future__ import annotations

from dataclasses import dataclass

import h5py


@dataclass(frozen=True, slots=True)
class Link:
    """A soft or external link as it stands in a group; `file` is '' for a soft one."""

    name: str
    file: str
    path: str


def read_link(group: h5py.Group, name: str) -> Link | None:
    """The link of this name; None for a hard one, or where there is none."""
    if is_hard(group, name):
        return None
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return Link(name, str(link.filename), str(link.path))
    if isinstance(link, h5py.SoftLink):
        return Link(name, "", str(link.path))
    return None


def is_hard(group: h5py.Group, path: str) -> bool:
    """Whether the last step of a path of hard links is one too; False also where there is none."""
    try:
        kind = group.id.links.get_info(path.encode()).type
    except (KeyError, ValueError, RuntimeError, OSError):
        return False
    return bool(kind == h5py.h5l.TYPE_HARD)
