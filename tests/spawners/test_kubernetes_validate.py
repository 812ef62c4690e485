"""The last look at a pod: what it has that its plan does not hold is refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_spawners.kubernetes_render import pod_manifest
from beamhub_spawners.kubernetes_validate import PodNotAsPlanned, check_pod
from contracts.kubernetes_parts import kubernetes_facility, kubernetes_plan

PLAN, CONFIG, PLACE = kubernetes_plan(kubernetes_facility())
PLANNED = pod_manifest(PLAN, PLACE, config=CONFIG, environment={"JUPYTERHUB_API_TOKEN": "a-token"})
SESSION = "spec.containers[session]"


def changed(path: str, value: Any) -> dict[str, Any]:
    """The planned pod with one field set; numbers of a path are positions in a list, `+` appends."""
    pod = copy.deepcopy(PLANNED)
    here: Any = pod
    *steps, last = (step.replace("~1", "/") for step in path.split("/"))
    for step in steps:
        here = here[int(step)] if isinstance(here, list) else here.setdefault(step, {})
    if last == "+":
        here.append(value)
    elif isinstance(here, list):
        here[int(last)] = value
    else:
        here[last] = value
    return pod


C = "spec/containers/0"
EXTRAS = [
    ("spec/volumes/+", {"name": "x", "hostPath": {"path": "/"}}, "spec.volumes[x]"),
    (
        "spec/volumes/+",
        {"name": "x", "persistentVolumeClaim": {"claimName": "another"}},
        "spec.volumes[x]",
    ),
    ("spec/volumes/0/persistentVolumeClaim/claimName", "another", "spec.volumes[volume-0]"),
    ("spec/volumes/0/hostPath", {"path": "/"}, "spec.volumes[volume-0].hostPath"),
    ("spec/volumes/+", {"name": "x", "secret": {"secretName": "x"}}, "spec.volumes[x]"),
    (f"{C}/volumeMounts/+", {"name": "volume-0", "mountPath": "/all"}, f"{SESSION}.volumeMounts[/all]"),
    (f"{C}/volumeMounts/3/subPath", "", f"{SESSION}.volumeMounts[/data/hall-a/MA-5101/processed].subPath"),
    (f"{C}/volumeMounts/+", {"name": "x"}, f"{SESSION}.volumeMounts"),
    (
        f"{C}/env/+",
        {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        f"{SESSION}.env[X]",
    ),
    (f"{C}/env/0/value", "another", f"{SESSION}.env"),
    (f"{C}/envFrom", [{"secretRef": {"name": "s"}}], f"{SESSION}.envFrom"),
    (f"{C}/image", "another", f"{SESSION}.image"),
    (f"{C}/command", ["/bin/sh"], f"{SESSION}.command"),
    (f"{C}/args", ["x"], f"{SESSION}.args"),
    (f"{C}/lifecycle", {"postStart": {"exec": {"command": ["x"]}}}, f"{SESSION}.lifecycle"),
    (f"{C}/securityContext/capabilities/add", ["SYS_ADMIN"], f"{SESSION}.securityContext.capabilities.add"),
    (f"{C}/securityContext/privileged", True, f"{SESSION}.securityContext.privileged"),
    (f"{C}/securityContext/runAsUser", 0, f"{SESSION}.securityContext.runAsUser"),
    (f"{C}/securityContext/procMount", "Unmasked", f"{SESSION}.securityContext.procMount"),
    (f"{C}/resources/limits/cpu", "64", f"{SESSION}.resources.limits.cpu"),
    (f"{C}/resources/limits/nvidia.com~1gpu", "1", f"{SESSION}.resources.limits"),
    (f"{C}/volumeDevices", [{"name": "x", "devicePath": "/dev/x"}], f"{SESSION}.volumeDevices"),
    ("spec/containers/+", {"name": "x", "image": "x"}, "spec.containers[x]"),
    ("spec/containers/+", PLANNED["spec"]["containers"][0], "spec.containers"),
    ("spec/initContainers", [{"name": "x", "image": "x"}], "spec.initContainers[x]"),
    ("spec/ephemeralContainers", [{"name": "x"}], "spec.ephemeralContainers[x]"),
    ("spec/securityContext/runAsUser", 0, "spec.securityContext.runAsUser"),
    ("spec/securityContext/fsGroup", 100, "spec.securityContext.fsGroup"),
    ("spec/securityContext/supplementalGroups", [0], "spec.securityContext.supplementalGroups"),
    (
        "spec/securityContext/supplementalGroupsPolicy",
        "Merge",
        "spec.securityContext.supplementalGroupsPolicy",
    ),
    ("spec/securityContext/seccompProfile/type", "Unconfined", "spec.securityContext.seccompProfile.type"),
    ("spec/hostNetwork", True, "spec.hostNetwork"),
    ("spec/hostPID", True, "spec.hostPID"),
    ("spec/hostIPC", True, "spec.hostIPC"),
    ("spec/hostUsers", True, "spec.hostUsers"),
    ("spec/shareProcessNamespace", True, "spec.shareProcessNamespace"),
    ("spec/serviceAccountName", "hub", "spec.serviceAccountName"),
    ("spec/serviceAccountName", ["default"], "spec.serviceAccountName"),
    ("spec/automountServiceAccountToken", True, "spec.automountServiceAccountToken"),
    ("spec/nodeName", "node-b", "spec.nodeName"),
    ("spec/nodeSelector", {"a": "b"}, "spec.nodeSelector"),
    ("spec/runtimeClassName", "other", "spec.runtimeClassName"),
    ("spec/restartPolicy", "Always", "spec.restartPolicy"),
    ("spec/resourceClaims", [{"name": "gpu"}], "spec.resourceClaims"),
    ("spec/hostAliases", [{"ip": "1.2.3.4", "hostnames": ["hub"]}], "spec.hostAliases"),
    ("metadata/name", "another", "metadata.name"),
    ("metadata/namespace", "another", "metadata.namespace"),
    ("metadata/ownerReferences", [{"name": "x"}], "metadata.ownerReferences"),
    ("metadata/labels/beamhub.org~1plan-id", "0", "metadata.labels[beamhub.org"),
    ("metadata/labels/app.kubernetes.io~1component", "hub", "metadata.labels[app.kubernetes.io"),
    ("metadata/annotations/io.kubernetes.cri-o.Devices", "/dev/sda", "metadata.annotations[io.kubernetes"),
    ("kind", "Deployment", "kind"),
]


@pytest.mark.parametrize(("path", "value", "named"), EXTRAS)
def test_what_a_plan_does_not_hold_is_refused_by_name(path: str, value: Any, named: str) -> None:
    with pytest.raises(PodNotAsPlanned) as caught:
        check_pod(changed(path, value), PLANNED)
    assert any(one.startswith(named) for one in caught.value.differences), caught.value.differences


def test_the_pod_of_the_plan_passes_also_with_what_the_api_server_adds() -> None:
    check_pod(PLANNED, PLANNED)
    stored = copy.deepcopy(PLANNED)
    stored["metadata"].update(uid="u", resourceVersion="1", creationTimestamp="2026-11-21T12:00:00Z")
    stored["metadata"]["labels"]["example.org/team"] = "data"
    stored["spec"].update(
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        serviceAccountName="default",
        serviceAccount="default",
        priority=0,
        preemptionPolicy="PreemptLowerPriority",
        initContainers=[],
    )
    stored["spec"]["containers"][0].update(
        terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File"
    )
    stored["status"] = {"phase": "Pending"}
    stored["spec"]["volumes"].reverse()  # an order that means nothing
    check_pod(stored, PLANNED)


def test_what_the_facility_admits_by_name_passes_with_all_below_it_and_nothing_beside_it() -> None:
    sidecar = changed("spec/containers/+", {"name": "proxy", "image": "x"})
    check_pod(sidecar, PLANNED, admitted=["spec.containers[proxy]"])
    sidecar["spec"]["containers"].append({"name": "proxy-2", "image": "x"})
    with pytest.raises(PodNotAsPlanned, match=r"spec\.containers\[proxy-2\]"):
        check_pod(sidecar, PLANNED, admitted=["spec.containers[proxy]"])


def _fields(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in items for found in [(*path, key), *_fields(one, (*path, key))]]


@given(st.sampled_from(_fields(PLANNED)), st.sampled_from([None, "another", 7, True, [], {}]))
def test_no_field_of_a_planned_pod_can_be_changed_or_dropped(path: tuple[Any, ...], value: Any) -> None:
    pod = copy.deepcopy(PLANNED)
    here: Any = pod
    for step in path[:-1]:
        here = here[step]
    before = here[path[-1]]
    if value is None:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    is_empty = before in ([], {}, "") and value in (None, [], {})
    is_same = type(value) is type(before) and value == before
    if is_same or (is_empty and value is None):
        check_pod(pod, PLANNED)
    elif not is_empty:
        with pytest.raises(PodNotAsPlanned):
            check_pod(pod, PLANNED)
