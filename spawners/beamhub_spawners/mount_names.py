"""Names that cannot be mounted exactly as they are, and why. Pure."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

MAX_COMPONENT_BYTES = 255  # NAME_MAX of Linux's file systems
MAX_PATH_BYTES = 4095  # PATH_MAX of Linux, without the zero at its end


def unmountable(path: str) -> str | None:
    """Why a path cannot be mounted exactly as it is; None where it can.

    Any other name passes as it is, also with colons, commas, braces, quotes, blanks at its ends and letters
    of any script: it goes to the engine as a JSON string, and to the kernel as UTF-8, in whichever
    normalisation it is stored. A control character would pass, too, but forge lines of logs and terminals.
    """
    if any(unicodedata.category(letter) == "Cs" for letter in path):
        return "its name is not UTF-8"
    for letter in path:
        if unicodedata.category(letter) == "Cc":
            what = "a line break" if letter in "\n\r\x85" else f"the control character {ord(letter):#04x}"
            return f"its name holds {what}"
    longest = max((len(part.encode()) for part in PurePosixPath(path).parts), default=0)
    if longest > MAX_COMPONENT_BYTES:
        return f"a name in it has {longest} bytes, more than {MAX_COMPONENT_BYTES}"
    n_bytes = len(path.encode())
    if n_bytes > MAX_PATH_BYTES:
        return f"it has {n_bytes} bytes, more than {MAX_PATH_BYTES}"
    return None
