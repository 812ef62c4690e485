"""What a cluster says of a pod that does not start or that ended, in words for a person. Pure.

Its own words (which node, which claim, which webhook said what) are for the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from beamhub_spawners.kubernetes_cluster import ApiRefused
from beamhub_spawners.kubernetes_pod import Pod
from beamhub_spawners.refusal import StartFailed, refuse

SERVER = "The session"
NO_MEMORY = "it used more memory than its profile allows"
NO_IMAGE = "its software environment cannot be fetched"
NO_FOLDER = "a folder that it needs cannot be brought to its machine"
NO_VOLUME = "the cluster has no volume for a storage claim of its place"
OTHER_MACHINES = "its storage is not on the machines that it may use"
NO_START = "its software environment cannot be started"
MOUNTS_TRIED = 3
"""Failed tries after which a mount is taken for impossible; the node tries with growing pauses."""
NO_IMAGE_REASONS = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_WEBHOOK = re.compile(r"admission webhook \"([A-Za-z0-9.-]{1,253})\"")
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([A-Za-z0-9.-]{1,253})'")


def refusal(refused: ApiRefused, place: str) -> Exception:
    """What to raise when the API server does not admit a session's pod."""
    said = refused.message
    if "exceeded quota" in said:
        return refuse(
            "full", place, f"The share of the cluster that sessions of {place} have is used up. Try later."
        )
    rule = _WEBHOOK.search(said) or _POLICY.search(said)
    if rule is not None:
        return StartFailed(SERVER, f"a rule of the cluster does not admit it ({rule.group(1)})")
    if "violates PodSecurity" in said:
        return StartFailed(SERVER, "the security rules of its namespace do not admit it")
    if "mountPath" in said or "subPath" in said:
        return StartFailed(SERVER, "the cluster cannot mount a folder of its name")
    if refused.status == 404:
        return StartFailed(SERVER, "its namespace is not on the cluster")
    if refused.status == 403:
        return StartFailed(SERVER, "the platform may not start sessions on the cluster")
    return StartFailed(SERVER, "the cluster refused it")


def unschedulable(pod: Pod) -> str | None:
    """Why no node takes a pod, in the scheduler's words; None for one that has a node or may get one."""
    condition = pod.condition("PodScheduled")
    if pod.node is not None or condition.get("status") != "False":
        return None
    return str(condition.get("message") or "nobody says why")


def no_node(said: str, place: str, *, gpu_resource: str) -> Exception:
    """What to raise when no node takes a pod, from the scheduler's words."""
    if "PersistentVolumeClaim" in said or "persistentvolumeclaim" in said:
        return StartFailed(SERVER, NO_VOLUME)
    shortages = [
        words
        for sign, words in (
            (f"Insufficient {gpu_resource}", "graphics processors"),
            ("Insufficient cpu", "processor cores"),
            ("Insufficient memory", "memory"),
            ("Too many pods", "room for sessions"),
        )
        if sign in said
    ]
    if shortages:
        few = " and ".join(shortages)
        return refuse(
            "full", place, f"No machine of {place} has enough free {few} for this session. Try later."
        )
    causes = [
        words
        for sign, words in (
            ("volume node affinity conflict", OTHER_MACHINES),  # before 1.34
            ("PersistentVolume's node affinity", OTHER_MACHINES),
            ("untolerated taint", "machines are set aside for others or do not answer"),
            ("unschedulable", "machines are closed for maintenance"),
            ("Pod's node affinity", "other machines do not belong to this place"),
        )
        if sign in said
    ]
    why = "; ".join(dict.fromkeys(causes)) or "the cluster does not say why"
    return refuse("no_place", place, f"No machine of {place} takes this session: {why}.")


def start_fault(pod: Pod) -> str | None:
    """Why a pod that has a node will not start; None while it may."""
    waiting = pod.container_state.get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    if reason in NO_IMAGE_REASONS:
        return NO_IMAGE
    if reason in ("CreateContainerConfigError", "CreateContainerError"):
        is_folder = any(
            word in str(waiting.get("message")) for word in ("subPath", "mount", "no such file", "read-only")
        )
        return NO_FOLDER if is_folder else NO_START
    if reason in ("RunContainerError", "CrashLoopBackOff"):
        return NO_START
    return None


def mount_fault(events: Iterable[Mapping[str, Any]]) -> str | None:
    """Why a pod's folders do not come, from its events; None while they may."""
    n_failed = sum(
        _count(event)
        for event in events
        if event.get("reason") in ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
    )
    return NO_FOLDER if n_failed >= MOUNTS_TRIED else None


def is_pulling(events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a pod's node fetches the image now."""
    reasons = {str(event.get("reason")) for event in events}
    return "Pulling" in reasons and "Pulled" not in reasons


def still_waiting(pod: Pod, events: Iterable[Mapping[str, Any]], *, limit_s: float) -> str:
    """Why a pod did not start in time."""
    events = tuple(events)
    if is_pulling(events) or (pod.container_state.get("waiting") or {}).get("reason") == "ErrImagePull":
        return f"its software environment could not be fetched within {limit_s:g} s"
    if any(event.get("reason") == "FailedMount" for event in events):
        return NO_FOLDER
    return f"its machine did not start it within {limit_s:g} s"


def end_in_words(pod: Pod) -> str:
    """Why a pod ended."""
    ended = pod.container_state.get("terminated") or {}
    reason = str(pod.status.get("reason") or "")
    said = str(pod.status.get("message") or "")
    if ended.get("reason") == "OOMKilled":
        return NO_MEMORY
    if reason == "Evicted":
        if "emptydir" in said.lower() or "ephemeral" in said:
            return "it wrote more to its temporary folders than they hold"
        return "its machine ran out of memory or disk and ended it"
    if reason in ("NodeShutdown", "Terminated", "Shutdown"):
        return "its machine was shut down"
    if reason == "NodeLost" or pod.is_on_a_lost_node:
        return "its machine does not answer"
    if reason in ("Preempting", "Preempted") or pod.condition("DisruptionTarget").get("status") == "True":
        return "the cluster needed its machine for something else"
    if reason.startswith("OutOf") or reason in ("UnexpectedAdmissionError", "NodeAffinity"):
        return "its machine had no room left for it"
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return NO_START
    if "exitCode" in ended:
        return f"its server ended with status {ended['exitCode']}"
    return start_fault(pod) or "its pod ended, and the cluster does not say why"


def _count(event: Mapping[str, Any]) -> int:
    said = event.get("count") or (event.get("series") or {}).get("count") or 1
    return said if isinstance(said, int) else 1
