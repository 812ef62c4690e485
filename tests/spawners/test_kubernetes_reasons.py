"""What a cluster says of a pod, in words for a person. The clusters' own texts are from a real one (1.34)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.rights import Refused
from beamhub_spawners.kubernetes_cluster import ApiRefused
from beamhub_spawners.kubernetes_pod import Pod
from beamhub_spawners.kubernetes_reasons import (
    NO_FOLDER,
    NO_IMAGE,
    NO_MEMORY,
    NO_START,
    NO_VOLUME,
    end_in_words,
    is_pulling,
    mount_fault,
    no_node,
    refusal,
    start_fault,
    still_waiting,
    unschedulable,
)
from beamhub_spawners.refusal import StartFailed


def pod(
    state: dict[str, Any] | None = None, *, phase: str = "Pending", node: str | None = "n", **status: Any
) -> Pod:
    containers = [{"name": "session", "ready": False, "state": state or {}}]
    spec = {"nodeName": node} if node else {}
    return Pod(
        {
            "metadata": {"name": "beamhub-x"},
            "spec": spec,
            "status": {"phase": phase, "containerStatuses": containers, **status},
        }
    )


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", "full", "free graphics processors"),
        ("0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.", "full", "cores and memory"),
        ("0/2 nodes are available: 2 Too many pods.", "full", "room for sessions"),
        (
            "0/2 nodes are available: 1 node(s) had untolerated taint {beamline: id00}, 1 node(s) didn't "
            "match Pod's node affinity/selector.",
            "no_place",
            "set aside for others",
        ),
        ("0/2 nodes are available: 2 node(s) were unschedulable.", "no_place", "maintenance"),
        (
            "0/2 nodes are available: 1 node(s) had volume node affinity conflict.",
            "no_place",
            "not on the machines",
        ),
        (
            "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.",
            "no_place",
            "not on the machines",
        ),
        ("something new", "no_place", "does not say why"),
    ],
)
def test_what_no_node_can_give_is_a_refusal_and_no_fault(said: str, code: str, words: str) -> None:
    reason = no_node(said, "hall-a", gpu_resource="nvidia.com/gpu")
    assert isinstance(reason, Refused)
    assert reason.refusal.code == code
    assert words in reason.refusal.reason


def test_a_volume_that_is_not_there_is_a_fault() -> None:
    for said in (
        "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        '0/2 nodes are available: persistentvolumeclaim "homes" not found.',
    ):
        reason = no_node(said, "hall-a", gpu_resource="nvidia.com/gpu")
        assert isinstance(reason, StartFailed)
        assert reason.reason == NO_VOLUME


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest": x', "security rules"),
        (400, 'admission webhook "guard.example.org" denied the request: secret', "(guard.example.org)"),
        (422, "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: secret", "admit it (p)"),
        (422, "spec.containers[0].volumeMounts[2].mountPath: Invalid value: secret", "mount a folder"),
        (404, 'namespaces "x" not found', "namespace is not on the cluster"),
        (403, 'pods is forbidden: User "secret" cannot create resource', "may not start sessions"),
        (418, "", "refused it"),
    ],
)
def test_what_the_api_server_refuses_is_told_without_its_own_words(
    status: int, message: str, words: str
) -> None:
    told = str(refusal(ApiRefused(status, "Forbidden", message), "hall-a"))
    assert words in told
    assert "secret" not in told


def test_a_quota_that_is_used_up_counts_as_full() -> None:
    refused = refusal(ApiRefused(403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q, ...'), "hall-a")
    assert isinstance(refused, Refused)
    assert refused.refusal.code == "full"


@pytest.mark.parametrize(
    ("waiting", "fault"),
    [
        ({"reason": "ContainerCreating"}, None),
        ({"reason": "ErrImagePull"}, None),  # the node tries once more
        ({"reason": "ImagePullBackOff"}, NO_IMAGE),
        ({"reason": "ErrImageNeverPull"}, NO_IMAGE),
        (
            {"reason": "CreateContainerConfigError", "message": "failed to create subPath directory"},
            NO_FOLDER,
        ),
        ({"reason": "CreateContainerConfigError", "message": "non-numeric user"}, NO_START),
        ({"reason": "RunContainerError"}, NO_START),
    ],
)
def test_a_container_that_waits_in_vain_is_known_from_one_that_may_start(
    waiting: dict[str, str], fault: str | None
) -> None:
    assert start_fault(pod({"waiting": waiting})) == fault


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (pod({"terminated": {"reason": "OOMKilled", "exitCode": 137}}, phase="Failed"), NO_MEMORY),
        (pod({"terminated": {"reason": "Error", "exitCode": 3}}, phase="Failed"), "status 3"),
        (pod({"terminated": {"reason": "StartError", "exitCode": 128}}, phase="Failed"), NO_START),
        (pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."), "ran out"),
        (
            pod(phase="Failed", reason="Evicted", message='Usage of EmptyDir volume "tmp" exceeds the limit'),
            "temporary folders",
        ),
        (pod(phase="Failed", reason="NodeShutdown"), "shut down"),
        (pod(phase="Failed", reason="OutOfcpu"), "no room left"),
        (pod(phase="Unknown"), "does not answer"),
        (
            pod(phase="Failed", conditions=[{"type": "DisruptionTarget", "status": "True"}]),
            "something else",
        ),
        (pod(phase="Failed"), "does not say why"),
    ],
)
def test_the_end_of_a_pod_is_told_in_plain_words(ended: Pod, words: str) -> None:
    assert words in end_in_words(ended)


def test_a_start_that_takes_too_long_says_what_it_waited_for() -> None:
    pulling = [{"reason": "Scheduled"}, {"reason": "Pulling"}]
    assert is_pulling(pulling)
    assert not is_pulling([*pulling, {"reason": "Pulled"}])
    assert "could not be fetched within 9 s" in still_waiting(pod(), pulling, limit_s=9)
    assert still_waiting(pod(), [{"reason": "FailedMount"}], limit_s=9) == NO_FOLDER
    assert "did not start it within 9 s" in still_waiting(pod(), [], limit_s=9)
    assert mount_fault([{"reason": "FailedMount", "count": 2}]) is None
    assert mount_fault([{"reason": "FailedMount", "count": 3}]) == NO_FOLDER


def test_only_a_pod_without_a_node_is_unschedulable() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
    assert unschedulable(pod(node=None, conditions=[condition])) == "0/2 nodes are available"
    assert unschedulable(pod(conditions=[condition])) is None
    assert unschedulable(pod(node=None)) is None


@given(
    st.recursive(st.none() | st.text(max_size=8) | st.integers(), lambda inner: st.lists(inner, max_size=3))
)
def test_whatever_a_cluster_says_gives_words(said: Any) -> None:
    assert end_in_words(pod(phase="Failed", reason=said, message=said))
    assert str(no_node(str(said), "hall-a", gpu_resource="nvidia.com/gpu"))
    assert str(refusal(ApiRefused(403, str(said), str(said)), "hall-a"))
