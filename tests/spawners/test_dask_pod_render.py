"""From a plan to the pods of a cluster: golden files of both, and that they are the session's pod, sized."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config import FacilityConfig
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.dask_limits import Size
from beamhub_spawners.dask_pod_render import PodGround, part_pod
from beamhub_spawners.dask_render import DaskPart, Role, read_part, scheduler_part
from beamhub_spawners.dask_runner import gateway_of
from beamhub_spawners.kubernetes_pod import PREFIX, Pod, hub_labels
from beamhub_spawners.kubernetes_render import pod_manifest
from beamhub_spawners.kubernetes_validate import PodNotAsPlanned, check_pod
from beamhub_spawners.kubernetes_view import left_parts
from contracts.kubernetes_parts import kubernetes_facility, kubernetes_plan
from spawners.test_kubernetes_render import ALL_OPTIONS, GPU

GOLDEN = Path(__file__).parent / "golden"
TOKEN = "the-clusters-token"
SIZE = Size(1, 1.5)
OWNER = ("beamhub-the-session", "9b1e-uid")
AS_THE_SESSION = (
    "affinity",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "imagePullSecrets",
    "priorityClassName",
    "restartPolicy",
    "securityContext",
    "tolerations",
)


def ground(**changes: Any) -> tuple[SessionPlan, FacilityConfig, PodGround]:
    """A plan with graphics processors, its facility with a gateway, and where its parts are rendered to."""
    fields = kubernetes_facility(**changes)
    fields["sessions"]["profiles"].append(GPU)
    fields["sessions"]["scratch"] = {"folder": "/srv/scratch"} if "scratch" in changes else None
    fields["gateway"] = {
        **gateway_fields_of(),
        "session_url": "http://gateway.beamhub.svc:8786",
        "listen_port": 8786,
    }
    plan, config, place = kubernetes_plan(fields, profile="gpu")
    return plan, config, PodGround(config, gateway_of(config), place, OWNER, "10.88.0.7")


def gateway_fields_of() -> dict[str, Any]:
    """A section whose files nobody reads here."""
    return {
        "web_token_file": "/run/secrets/gateway",
        "keys_file": "/run/secrets/keys",
        "database_url": "sqlite:////srv/gateway.sqlite",
        "state_folder": "/srv/gateway",
    }


PLAN, CONFIG, WHERE = ground(**ALL_OPTIONS)
SESSION_POD = pod_manifest(
    PLAN, WHERE.place, config=CONFIG, environment={"JUPYTERHUB_API_TOKEN": "the-hubs-token"}
)


def part_of(role: Role, size: Size = SIZE) -> DaskPart:
    """A part of one cluster."""
    if role == "scheduler":
        return scheduler_part("c" * 32, 60, WHERE.gateway)
    return DaskPart("worker", "c" * 32, "d" * 32, size)


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_a_plan_gives_the_parts_of_the_golden_files(role: Role) -> None:
    """With BEAMHUB_WRITE_GOLDEN=1 the files are written anew; look at the difference before you commit."""
    plan, _, where = ground()
    manifest = part_pod(plan, part_of(role), where, token=TOKEN)
    text = json.dumps(manifest, indent=2, sort_keys=True).replace(digest(plan), "PLAN-HASH") + "\n"
    file = GOLDEN / f"pod_{role}.json"
    if os.environ.get("BEAMHUB_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


parts = st.one_of(
    st.just(part_of("scheduler")),
    st.builds(
        lambda threads, mib: part_of("worker", Size(threads, mib / 1024)),
        st.integers(1, 64),
        st.integers(64, 2**20),
    ),
)


@given(parts)
def test_a_part_is_the_sessions_pod_with_another_command_and_its_own_size(part: DaskPart) -> None:
    pod = part_pod(PLAN, part, WHERE, token=TOKEN)
    spec, session = pod["spec"], copy.deepcopy(SESSION_POD["spec"])
    # A part has no graphics processor, so it needs none of the nodes that have one.
    terms = session["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    for term in terms["nodeSelectorTerms"]:
        term["matchExpressions"] = [
            one for one in term["matchExpressions"] if one["key"] not in WHERE.place.gpu_node_labels
        ]
    assert {name: spec[name] for name in AS_THE_SESSION} == {name: session[name] for name in AS_THE_SESSION}
    [mine], [its] = spec["containers"], session["containers"]
    for name in ("image", "imagePullPolicy", "securityContext", "volumeMounts", "workingDir"):
        assert mine[name] == its[name]
    data = [one for one in session["volumes"] if "emptyDir" not in one]
    assert [one for one in spec["volumes"] if "emptyDir" not in one] == data
    assert set(mine["resources"]["limits"]) == {"cpu", "memory"}
    assert pod["metadata"]["annotations"][f"{PREFIX}plan-hash"] == digest(PLAN)
    assert read_part(pod["metadata"]["labels"], PREFIX) == part
    assert pod["metadata"]["ownerReferences"][0]["uid"] == OWNER[1]


@given(parts)
def test_a_parts_token_stands_in_its_environment_alone(part: DaskPart) -> None:
    """As on Docker; certificate and key come over it, and are in no object at all."""
    pod = part_pod(PLAN, part, WHERE, token=TOKEN)
    [container] = pod["spec"]["containers"]
    given_it = [one["name"] for one in container["env"] if TOKEN in one["value"]]
    assert given_it == ["DASK_GATEWAY_API_TOKEN"]
    assert json.dumps(pod).count(TOKEN) == 1
    assert "the-hubs-token" not in json.dumps(pod)
    assert not {"secret", "configMap", "hostPath"} & {
        kind for volume in pod["spec"]["volumes"] for kind in volume
    }


@given(parts)
def test_names_and_labels_fit_what_the_api_takes(part: DaskPart) -> None:
    metadata = part_pod(PLAN, part, WHERE, token=TOKEN)["metadata"]
    assert len(metadata["name"]) <= 63
    assert max(len(value) for value in metadata["labels"].values()) <= 63


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        (("spec", "securityContext", "runAsUser"), 0, "spec.securityContext.runAsUser"),
        (("spec", "automountServiceAccountToken"), True, "spec.automountServiceAccountToken"),
        (("metadata", "ownerReferences"), [], "metadata.ownerReferences"),
    ],
    ids=["uid", "token", "owner"],
)
def test_a_part_that_is_not_its_plans_is_refused_by_name(
    where: tuple[str, ...], value: Any, named: str
) -> None:
    planned = part_pod(PLAN, part_of("worker"), WHERE, token=TOKEN)
    finished = copy.deepcopy(planned)
    here = finished
    for step in where[:-1]:
        here = here[step]
    here[where[-1]] = value
    with pytest.raises(PodNotAsPlanned) as refused:
        check_pod(finished, planned)
    assert refused.value.differences == (named,)


def test_the_sweeper_takes_old_parts_without_a_session_and_no_others() -> None:
    def seen(name: str, created: str, labels: dict[str, str]) -> Pod:
        own = {**labels, f"{PREFIX}plan-id": name[0]}
        return Pod({"metadata": {"name": name, "creationTimestamp": created, "labels": own}})

    role = {f"{PREFIX}role": "worker"}
    early, late = "2026-03-01T10:00:00+00:00", "2026-03-01T11:00:00+00:00"
    pods = [
        seen("a-session", early, hub_labels(CONFIG)),
        seen("a-worker", early, role),
        seen("b-worker", early, role),
        seen("c-worker-that-just-began", late, role),
    ]
    before = Pod({"metadata": {"creationTimestamp": "2026-03-01T10:30:00+00:00"}}).created
    assert before is not None
    assert [pod.name for pod in left_parts(pods, before)] == ["b-worker"]
