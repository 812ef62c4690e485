"""The last look at a pod: what it has that its plan does not hold is refused by name. Pure.

Two hands come between a plan and the pod that runs: a facility's own hook in the hub, and the cluster's
admission webhooks. The plan is rendered anew and compared with what came of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from beamhub_core.errors import BeamhubError
from beamhub_spawners.kubernetes_pod import PREFIX

MAX_NAMED = 5
_EMPTY: tuple[Any, ...] = (None, "", [], {})
# Lists of the API that are sets, and by which field their members are told apart.
_MEMBERS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
# What the API server itself adds to every pod; it changes nothing of what a session may do.
_OF_THE_SERVER: Mapping[str, frozenset[Any] | None] = {
    "status": None,
    "metadata.creationTimestamp": None,
    "metadata.generation": None,
    "metadata.managedFields": None,
    "metadata.resourceVersion": None,
    "metadata.selfLink": None,
    "metadata.uid": None,
    "spec.dnsPolicy": frozenset({"ClusterFirst"}),
    "spec.enableServiceLinks": frozenset({False}),
    "spec.preemptionPolicy": None,
    "spec.priority": None,
    "spec.schedulerName": None,
    "spec.serviceAccount": frozenset({"default"}),
    "spec.serviceAccountName": frozenset({"default"}),
    "spec.containers[session].terminationMessagePath": frozenset({"/dev/termination-log"}),
    "spec.containers[session].terminationMessagePolicy": frozenset({"File"}),
}


class PodNotAsPlanned(BeamhubError):
    """A pod that differs from its plan; `differences` names each field, e.g. 'spec.volumes[extra]'."""

    def __init__(self, differences: tuple[str, ...]) -> None:
        super().__init__(differences)
        self.differences = differences

    def __str__(self) -> str:
        more = len(self.differences) - MAX_NAMED
        rest = f" and {more} more" if more > 0 else ""
        named = ", ".join(self.differences[:MAX_NAMED])
        return (
            f"The pod is not what its plan says: {named}{rest}. Look at the hub's pod hook and at the "
            "cluster's webhooks; what they may add is named in the place's 'admitted_changes'."
        )


def check_pod(
    finished: Mapping[str, Any], planned: Mapping[str, Any], *, admitted: Iterable[str] = ()
) -> None:
    """Check that a pod is the one of its plan.

    Parameters
    ----------
    finished:
        What is to be made, or was made, in the API's camelCase.
    planned:
        What the plan renders to.
    admitted:
        Fields that may differ, with all below them, in the spelling of `PodNotAsPlanned`.

    Raises
    ------
    PodNotAsPlanned
        With every field that differs. Labels that are not ours may be added, and nothing else.
    """
    admitted = tuple(admitted)
    found = [
        path
        for path in _differences(finished, planned, "")
        if not any(path == one or path.startswith((f"{one}.", f"{one}[")) for one in admitted)
    ]
    if found:
        raise PodNotAsPlanned(tuple(found))


def _differences(finished: Any, planned: Any, path: str) -> Iterator[str]:
    if isinstance(finished, Mapping) and isinstance(planned, Mapping):
        yield from _in_mapping(finished, planned, path)
    elif isinstance(finished, list) and isinstance(planned, list):
        yield from _in_list(finished, planned, path)
    elif type(finished) is not type(planned) or finished != planned:
        yield path


def _in_mapping(finished: Mapping[str, Any], planned: Mapping[str, Any], path: str) -> Iterator[str]:
    for key in sorted({*finished, *planned}, key=str):
        here = _below(path, str(key))
        if key in finished and key in planned:
            yield from _differences(finished[key], planned[key], here)
        elif key in finished and _is_harmless(here, str(key), finished[key]):
            continue
        elif finished.get(key) in _EMPTY and planned.get(key) in _EMPTY:
            continue  # the API leaves out what is empty
        elif isinstance(finished.get(key), list) and str(key) in _MEMBERS:
            yield from _in_list(finished[key], [], here)
        else:
            yield here


def _in_list(finished: list[Any], planned: list[Any], path: str) -> Iterator[str]:
    field = _MEMBERS.get(path.rpartition(".")[2])
    if field is None:
        if finished != planned:
            yield path
        return
    theirs, ours = _by(field, finished), _by(field, planned)
    if theirs is None or ours is None:
        yield path  # a member without a name, or two of one name
        return
    for name in sorted({*theirs, *ours}):
        here = f"{path}[{name}]"
        if name in theirs and name in ours:
            yield from _differences(theirs[name], ours[name], here)
        else:
            yield here


def _by(field: str, members: list[Any]) -> dict[str, Any] | None:
    """The members by their name; None when that does not tell them apart."""
    named = {str(one[field]): one for one in members if isinstance(one, Mapping) and field in one}
    return named if len(named) == len(members) else None


def _below(path: str, key: str) -> str:
    if path in ("metadata.labels", "metadata.annotations"):
        return f"{path}[{key}]"  # their keys have dots
    return f"{path}.{key}" if path else key


def _is_harmless(path: str, key: str, value: Any) -> bool:
    """Whether a field that the plan does not have changes nothing of what the session may do."""
    if path.startswith("metadata.labels["):
        return not key.startswith(PREFIX)
    if path not in _OF_THE_SERVER:
        return False
    values = _OF_THE_SERVER[path]
    return values is None or (not isinstance(value, (dict, list)) and value in values)
