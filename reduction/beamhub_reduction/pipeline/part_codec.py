"""Parts as bytes and back, without pickle: a journal is an outside input, and reading it runs no code.

One file: the magic word, the SHA-256 of what follows, the length of a JSON tree, the tree, the bytes of all
arrays. The tree names dataclasses; only those that the reader was given are ever built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from math import prod
from typing import Any

import numpy as np

MAGIC = b"BHPART1\n"
_HEAD = len(MAGIC) + 32 + 8
MAX_TREE_BYTES = 64 * 1024**2
MAX_DEPTH = 32
KINDS = "biufc"

Classes = Callable[[str], type | None]
"""The dataclass of a qualified name, None for what a part may not be made of."""


class PartUndecodable(ValueError):
    """The bytes are not those of a part."""


def class_name(cls: type) -> str:
    """The name under which a dataclass stands in the tree."""
    return f"{cls.__module__}:{cls.__qualname__}"


def encode_part(value: Any, extra: Mapping[str, Any]) -> bytes:
    """A part (dataclasses, tuples, lists, dicts of words, numbers, strings, bytes, arrays) as bytes.

    `extra` are JSON values that are stored beside it.

    Raises
    ------
    TypeError
        If the part holds anything else.
    """
    blobs: list[bytes] = []
    tree = json.dumps({"extra": dict(extra), "part": _to_tree(value, blobs)}, separators=(",", ":")).encode()
    body = b"".join([len(tree).to_bytes(8, "little"), tree, *blobs])
    return MAGIC + hashlib.sha256(body).digest() + body


def _to_tree(value: Any, blobs: list[bytes]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.ndarray):
        return {"a": _store(value, blobs)}
    if isinstance(value, np.generic):
        return {"n": _store(np.asarray(value), blobs)}
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return {"f": value.hex()}
    if isinstance(value, bytes):
        return {"b": value.hex()}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return {"t" if type(value) is tuple else "l": [_to_tree(item, blobs) for item in value]}
    if isinstance(value, dict):
        return {"d": [[_to_tree(k, blobs), _to_tree(v, blobs)] for k, v in value.items()]}
    if is_dataclass(value) and not isinstance(value, type):
        inside = {f.name: _to_tree(getattr(value, f.name), blobs) for f in fields(value)}
        return {"c": [class_name(type(value)), inside]}
    raise TypeError(f"a part of a reduction cannot hold {type(value).__name__}")


def _store(array: np.ndarray[Any, Any], blobs: list[bytes]) -> list[Any]:
    if array.dtype.kind not in KINDS:
        raise TypeError(f"a part of a reduction cannot hold an array of {array.dtype}")
    blobs.append(array.tobytes())
    return [array.dtype.str, list(array.shape)]


def decode_part(data: bytes, classes: Classes) -> tuple[Any, dict[str, Any]]:
    """(the part, what was stored beside it).

    Raises
    ------
    PartUndecodable
        If anything is not as `encode_part` writes it, or a dataclass is not among `classes`.
    """
    if data[: len(MAGIC)] != MAGIC or len(data) < _HEAD:
        raise PartUndecodable("it does not begin as a part does")
    body = memoryview(data)[len(MAGIC) + 32 :]
    if hashlib.sha256(body).digest() != data[len(MAGIC) : len(MAGIC) + 32]:
        raise PartUndecodable("its checksum does not fit")
    n_tree = int.from_bytes(body[:8], "little")
    if n_tree > min(MAX_TREE_BYTES, len(body) - 8):
        raise PartUndecodable("its tree is too long")
    try:
        told = json.loads(bytes(body[8 : 8 + n_tree]))
        reader = _Reader(body[8 + n_tree :], classes)
        part, extra = reader.build(told["part"], 0), told["extra"]
    except (ValueError, TypeError, KeyError, LookupError, RecursionError, OverflowError) as error:
        raise PartUndecodable(f"its tree is wrong ({type(error).__name__}: {error})"[:200]) from error
    if reader.left or not isinstance(extra, dict):
        raise PartUndecodable("it is longer than its tree says")
    return part, extra


class _Reader:
    """Builds values from a tree; arrays are taken from the bytes in the order of the tree."""

    def __init__(self, blob: memoryview, classes: Classes) -> None:
        self._blob, self._at, self._classes = blob, 0, classes

    @property
    def left(self) -> int:
        """Bytes that no array has taken."""
        return len(self._blob) - self._at

    def build(self, tree: Any, depth: int) -> Any:
        """The value of a tree."""
        if depth > MAX_DEPTH:
            raise ValueError("it is too deep")
        if tree is None or isinstance(tree, (bool, int, str)):
            return tree
        if not isinstance(tree, dict):
            raise ValueError(f"a {type(tree).__name__} is no value")
        [(kind, inside)] = tree.items()
        if kind in ("a", "n"):
            return self._array(inside) if kind == "a" else self._array(inside)[()]
        if kind == "f":
            return float.fromhex(inside)
        if kind == "b":
            return bytes.fromhex(inside)
        if kind in ("t", "l"):
            items = [self.build(item, depth + 1) for item in inside]
            return tuple(items) if kind == "t" else items
        if kind == "d":
            return {self.build(k, depth + 1): self.build(v, depth + 1) for k, v in inside}
        if kind == "c":
            return self._dataclass(inside, depth)
        raise ValueError(f"there is no kind {kind!r}")

    def _array(self, facts: Any) -> np.ndarray[Any, Any]:
        word, shape = facts
        if not (isinstance(word, str) and len(word) <= 8 and isinstance(shape, list) and len(shape) <= 32):
            raise ValueError("an array without type and shape")
        dtype = np.dtype(word)
        if dtype.kind not in KINDS or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an array of another type or shape")
        n_bytes = prod(shape) * dtype.itemsize
        if n_bytes > self.left:
            raise ValueError("an array that is longer than the file")
        raw = self._blob[self._at : self._at + n_bytes]
        self._at += n_bytes
        return np.frombuffer(raw, dtype).reshape(shape).copy()

    def _dataclass(self, facts: Any, depth: int) -> Any:
        name, inside = facts
        cls = self._classes(name)
        if cls is None:
            raise ValueError(f"{name!r} is no class of such a part")
        if set(inside) != {field.name for field in fields(cls)}:
            raise ValueError(f"other fields than those of {name}")
        return cls(**{key: self.build(value, depth + 1) for key, value in inside.items()})
