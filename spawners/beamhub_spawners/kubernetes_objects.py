"""What is kept of a cluster's pods and nodes: the few fields that sessions need, bounded. Pure.

The API server's objects are large (a pod of 10 kB, a node with its images of 30 kB); a hub that watches
thousands keeps these instead.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

MAX_TEXT = 500
MAX_IMAGES = 200
MAX_LABELS = 64
_SUFFIXES = {
    "": Decimal(1),
    **{name: Decimal(1000) ** i for i, name in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{name: Decimal(1024) ** i for i, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    "m": Decimal("0.001"),
    "u": Decimal("0.000001"),
    "n": Decimal("0.000000001"),
}

_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,2}(?![0-9A-Za-z]))?)"
    rf"({'|'.join(sorted(_SUFFIXES, key=len, reverse=True))})"
)

Raw = Mapping[str, Any]


class NotAQuantity(ValueError):
    """A text that is no Kubernetes quantity."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"{self.text[:40]!r} is no quantity such as '500m' or '4Gi'"


@lru_cache(maxsize=4096)
def read_quantity(text: str | int | float) -> float:
    """The number of a Kubernetes quantity: '500m' is 0.5, '4Gi' is 4294967296.

    Source: Kubernetes API conventions, resource.Quantity.

    Raises
    ------
    NotAQuantity
        For anything else.
    """
    match = _QUANTITY.fullmatch(str(text)[:MAX_TEXT])
    if match is None:
        raise NotAQuantity(str(text))
    number, suffix = match.groups()
    return float(Decimal(number) * _SUFFIXES[suffix])


@dataclass(frozen=True, slots=True)
class TaintSeen:
    """A taint of a node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node as the API server showed it last.

    Parameters
    ----------
    allocatable:
        Cores, bytes, pods and extended resources, by name.
    n_images:
        How many images it names; a node names the largest ones only.
    is_recursive, is_strict:
        Whether its runtime makes mounts recursively read-only, and keeps an image's groups out. Nodes that
        say nothing of it cannot.
    """

    name: str
    labels: Mapping[str, str]
    is_cordoned: bool
    is_ready: bool
    ready_changed_at: datetime | None
    taints: tuple[TaintSeen, ...]
    allocatable: Mapping[str, float]
    images: frozenset[str]
    n_images: int = 0
    is_recursive: bool = False
    is_strict: bool = False


def kept_pod(raw: Raw) -> dict[str, Any]:
    """What is kept of a pod, in the API's own form: whose it is, where it is, how it is, what it takes."""
    meta, spec, status = _part(raw, "metadata"), _part(raw, "spec"), _part(raw, "status")
    kept_meta = _some(meta, "name", "uid", "namespace", "creationTimestamp", "deletionTimestamp")
    containers = [
        {
            **_some(one, "name", "image"),
            "resources": {"requests": dict(_part(_part(one, "resources"), "requests"))},
        }
        for one in _parts(spec, "containers")
    ]
    statuses = [
        {**_some(one, "name", "ready", "restartCount", "imageID"), "state": _states(one)}
        for one in _parts(status, "containerStatuses")
    ]
    conditions = [
        _some(one, "type", "status", "reason", "message", "lastTransitionTime")
        for one in _parts(status, "conditions")
    ]
    return {
        "metadata": {
            **kept_meta,
            "labels": _texts(_part(meta, "labels")),
            "annotations": _texts(_part(meta, "annotations")),
        },
        "spec": {**_some(spec, "nodeName"), "containers": containers},
        "status": {
            **_some(status, "phase", "reason", "message", "podIP"),
            "conditions": conditions,
            "containerStatuses": statuses,
        },
    }


def requests_of(pod: Raw) -> dict[str, float]:
    """What a kept pod takes from its node: cpu in cores, memory in bytes, extended resources by name."""
    total: dict[str, float] = {}
    for container in _parts(_part(pod, "spec"), "containers"):
        for name, amount in _amounts(_part(_part(container, "resources"), "requests")).items():
            total[name] = total.get(name, 0.0) + amount
    return total


def _states(container: Raw) -> dict[str, Any]:
    return {
        name: _some(one, "reason", "message", "exitCode", "startedAt", "finishedAt")
        for name, one in _part(container, "state").items()
        if isinstance(one, Mapping)
    }


def node_seen(raw: Raw) -> NodeSeen:
    """What is kept of a node."""
    meta, spec, status = _part(raw, "metadata"), _part(raw, "spec"), _part(raw, "status")
    ready = next((one for one in _parts(status, "conditions") if one.get("type") == "Ready"), {})
    handlers = _parts(status, "runtimeHandlers")
    # The unnamed handler is the one of pods that name none.
    features = [_part(one, "features") for one in handlers if not one.get("name")]
    names = (
        _interned(name)
        for image in _parts(status, "images")[:MAX_IMAGES]
        for name in image.get("names") or ()
        if isinstance(name, str)
    )
    return NodeSeen(
        name=_interned(meta.get("name", "")),
        labels={_interned(key): _interned(value) for key, value in _part(meta, "labels").items()},
        is_cordoned=spec.get("unschedulable") is True,
        is_ready=ready.get("status") == "True",
        ready_changed_at=instant(ready.get("lastTransitionTime")),
        taints=tuple(
            TaintSeen(str(one.get("key", "")), str(one.get("value") or ""), str(one.get("effect", "")))
            for one in _parts(spec, "taints")
        ),
        allocatable=_amounts(_part(status, "allocatable")),
        images=frozenset(names),
        n_images=len(_parts(status, "images")),
        is_recursive=any(one.get("recursiveReadOnlyMounts") is True for one in features),
        is_strict=_part(status, "features").get("supplementalGroupsPolicy") is True,
    )


def _amounts(said: Raw) -> dict[str, float]:
    amounts = {}
    for name, amount in said.items():
        with contextlib.suppress(NotAQuantity):  # of a resource that is nobody's here
            amounts[_interned(name)] = read_quantity(amount)
    return amounts


def _part(raw: Raw, name: str) -> Raw:
    value = raw.get(name)
    return value if isinstance(value, Mapping) else {}


def _parts(raw: Raw, name: str) -> list[Raw]:
    value = raw.get(name)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _texts(said: Raw) -> dict[str, str]:
    return {_interned(key): _interned(value) for key, value in list(said.items())[:MAX_LABELS]}


def _some(said: Raw, *names: str) -> dict[str, Any]:
    """Fields of simple values; a text has one copy however many objects repeat it, and a bound."""
    return {
        name: _interned(said[name]) if isinstance(said[name], str) else said[name]
        for name in names
        if isinstance(said.get(name), str | int | bool | float)
    }


def _interned(text: Any) -> str:
    return sys.intern(str(text)[:MAX_TEXT])


def instant(text: Any) -> datetime | None:
    """An instant as the API writes it; None for what is none."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
