"""One digest of everything that decides a reduction's numbers: arrays, dataclasses, words."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel


def content_digest(*values: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of values: equal content, equal digest, in every process.

    What has no canonical form here is pickled, never loaded: at worst an equal value has another digest.
    """
    digest = hashlib.sha256()
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__}{len(text)}:".encode() + text)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"array{value.dtype.str}{value.dtype.descr}{value.shape}:".encode())
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif isinstance(value, np.generic):
        _feed(digest, np.asarray(value))
    elif isinstance(value, (tuple, list)):
        digest.update(f"sequence{len(value)}:".encode())
        for item in value:
            _feed(digest, item)
    elif isinstance(value, Mapping):
        digest.update(f"mapping{len(value)}:".encode())
        for key in sorted(value, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    else:
        _feed_object(digest, value)


def _feed_object(digest: Any, value: Any) -> None:
    digest.update(f"{type(value).__module__}.{type(value).__qualname__}:".encode())
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            _feed(digest, field.name)
            _feed(digest, getattr(value, field.name))
    elif isinstance(value, BaseModel):
        _feed(digest, value.model_dump())
    else:
        digest.update(pickle.dumps(value, protocol=5))
