"""POSIX access control lists, as far as one reader of a facility's files needs them.

Source: posix_acl_xattr.h of Linux: a version, then tag, permissions and id of each entry.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 2**32 - 1
_ALL, _READ = 7, 5


def let_read(folder: Path, uid: int) -> None:
    """Let a user read whatever will be made below a folder, with the modes it is made with.

    Raises
    ------
    OSError
        Where the file system has no such lists.
    """
    # The group's entry is not narrower than the mask: a folder of mode 2770 must be its group's to write to.
    entries = (
        (_USER_OBJ, _ALL, _NO_ID),
        (_USER, _READ, uid),
        (_GROUP_OBJ, _ALL, _NO_ID),
        (_MASK, _ALL, _NO_ID),
        (_OTHER, _READ, _NO_ID),
    )
    packed = struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(folder, "system.posix_acl_default", packed)
