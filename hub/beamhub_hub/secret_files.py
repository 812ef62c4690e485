"""Secrets are files; each is read where it is used, and a missing one stops the start."""

from __future__ import annotations

import re
from pathlib import Path

from beamhub_core.errors import ConfigInvalid

_KEY = re.compile(r"[0-9a-f]{64}")


def read_secret(path: Path) -> str:
    """The secret in a file, without the line's end.

    Raises
    ------
    ConfigInvalid
        If there is none. The message never shows a part of it.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigInvalid(str(path), (f"the secret cannot be read: {error.strerror}",)) from error
    except UnicodeDecodeError:
        raise ConfigInvalid(str(path), ("the secret is not plain ASCII text",)) from None
    if not text:
        raise ConfigInvalid(str(path), ("the secret is empty",))
    return text


def read_keys(path: Path) -> list[bytes]:
    """The 32-byte keys in a file, one of 64 hexadecimal digits a line, the newest first.

    Raises
    ------
    ConfigInvalid
        If a line is something else.
    """
    lines = read_secret(path).split()
    if not all(_KEY.fullmatch(line) for line in lines):
        problem = "each line must be a key of 64 hexadecimal digits (openssl rand -hex 32)"
        raise ConfigInvalid(str(path), (problem,))
    return [bytes.fromhex(line) for line in lines]
