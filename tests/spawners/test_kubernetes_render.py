"""From a plan to a pod: golden files of whole pods, and laws over plans."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.session import Mount, SessionInfo, SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.container_start import SESSION_INFO_VARIABLE
from beamhub_spawners.kubernetes_pod import hub_labels, server_labels
from beamhub_spawners.kubernetes_render import cores, escaped, pod_manifest, size
from contracts.kubernetes_parts import kubernetes_facility, kubernetes_plan

GOLDEN = Path(__file__).parent / "golden"
ENVIRONMENT = {"JUPYTERHUB_API_TOKEN": "a-token", "JUPYTERHUB_USER": "ines"}
GPU = {"name": "gpu", "title": "GPU", "cpu": 0.5, "memory_gib": 1.5, "gpus": 1}
ALL_OPTIONS = {
    "preferred_node_labels": {"facility.example/cache": "ssd"},
    "gpu_node_labels": {"facility.example/gpu": "h200"},
    "gpu_resource": "amd.com/gpu",
    "tolerations": [{"key": "beamline", "value": "id00", "effect": "NoSchedule"}, {"key": "spot"}],
    "image_pull_secrets": ["registry"],
    "image_pull_policy": "Always",
    "priority_class": "sessions",
    "pod_labels": {"app.kubernetes.io/instance": "beamhub", "team": "data"},
    "cpu_request_share": 0.5,
    "memory_request_share": 0.5,
    "supplemental_groups": "merge",
    "recursive_read_only": False,
    "lost_node_s": 60,
    "scratch": {"claim": "homes", "sub_path": "scratch"},
}


def rendered(
    plan_parts: tuple[SessionPlan, Any, Any] | None = None, **environment: str
) -> tuple[dict[str, Any], SessionPlan]:
    plan, config, place = plan_parts or kubernetes_plan(kubernetes_facility())
    return pod_manifest(plan, place, config=config, environment={**ENVIRONMENT, **environment}), plan


def golden_plans() -> dict[str, tuple[SessionPlan, Any, Any]]:
    """The plans whose pods are kept as files."""
    all_options = kubernetes_facility(**ALL_OPTIONS)
    all_options["sessions"]["scratch"] = {"folder": "/srv/scratch"}
    all_options["sessions"]["profiles"].append(GPU)
    host_paths = kubernetes_facility(
        unsafe_host_path_pools=True, volumes={"hall-a": {"host_path": "/gpfs/hall-a"}}
    )
    host_paths["sessions"]["places"] = host_paths["sessions"]["places"][:1]
    automounted = kubernetes_facility()
    automounted["pools"][0].update(propagation="host_to_container", access="ro")
    return {
        "pod": kubernetes_plan(kubernetes_facility()),
        "pod_all_options": kubernetes_plan(all_options, profile="gpu"),
        "pod_host_paths": kubernetes_plan(host_paths),
        "pod_automounted": kubernetes_plan(automounted),
    }


@pytest.mark.parametrize("name", sorted(golden_plans()))
def test_a_plan_gives_the_pod_of_its_golden_file(name: str) -> None:
    """With BEAMHUB_WRITE_GOLDEN=1 the files are written anew; look at the difference before you commit.

    The hash stands for the whole plan, which other rooms add to.
    """
    manifest, plan = rendered(golden_plans()[name])
    text = json.dumps(manifest, indent=2, sort_keys=True).replace(digest(plan), "PLAN-HASH") + "\n"
    file = GOLDEN / f"{name}.json"
    if os.environ.get("BEAMHUB_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


# -- laws ---------------------------------------------------------------------------------------------

letters = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\0")
folder_names = st.text(letters, min_size=1, max_size=30).filter(lambda name: name not in (".", ".."))
paths = st.lists(folder_names, min_size=1, max_size=4).map("/".join)


@st.composite
def mounts(draw: Any) -> tuple[Mount, ...]:
    chosen = draw(st.dictionaries(paths, st.sampled_from(["ro", "rw"]), max_size=6))
    return tuple(
        Mount.model_validate(
            {
                "pool": "hall-a",
                "path": path,
                "source": f"/srv/pools/hall-a/{path}",
                "target": f"/data/hall-a/{path}",
                "mode": mode,
                "purpose": "raw" if mode == "ro" else "processed",
                "propagation": draw(st.sampled_from(["private", "host_to_container"])),
                "proposal": "MA-5101",
            }
        )
        for path, mode in chosen.items()
    )


BASE = kubernetes_plan(kubernetes_facility())


def with_mounts(chosen: tuple[Mount, ...]) -> tuple[SessionPlan, Any, Any]:
    plan, config, place = BASE
    own = tuple(mount for mount in plan.mounts if mount.purpose == "home")
    return plan.model_copy(update={"mounts": (*chosen, *own)}), config, place


@given(mounts())
def test_every_folder_of_a_plan_is_mounted_once_as_the_plan_says_and_nothing_else_is(
    chosen: tuple[Mount, ...],
) -> None:
    manifest, plan = rendered(with_mounts(chosen))
    volumes = {one["name"]: one for one in manifest["spec"]["volumes"]}
    mounted = {one["mountPath"]: one for one in manifest["spec"]["containers"][0]["volumeMounts"]}
    assert set(mounted) == {mount.target for mount in plan.mounts} | {"/tmp", "/run/beamhub", "/dev/shm"}  # noqa: S108
    for mount in plan.mounts:
        there = mounted[mount.target]
        claim = volumes[there["name"]]["persistentVolumeClaim"]
        assert claim["claimName"] == ("homes" if mount.purpose == "home" else "hall-a")
        assert there["subPath"] == mount.path
        assert there.get("readOnly", False) is (mount.mode == "ro")
        is_recursive = there.get("recursiveReadOnly") == "Enabled"
        is_followed = there.get("mountPropagation") == "HostToContainer"
        assert is_followed is (mount.propagation == "host_to_container")
        assert is_recursive is (mount.mode == "ro" and not is_followed)
    claims = [one["persistentVolumeClaim"] for one in volumes.values() if "persistentVolumeClaim" in one]
    assert len({one["claimName"] for one in claims}) == len(claims)
    is_all_read_only = all(mount.mode == "ro" for mount in chosen)
    assert all(
        one.get("readOnly", False) is is_all_read_only for one in claims if one["claimName"] == "hall-a"
    )


@given(mounts())
def test_what_lies_in_another_folder_is_mounted_after_it(chosen: tuple[Mount, ...]) -> None:
    manifest, _ = rendered(with_mounts(chosen))
    order = [one["mountPath"] for one in manifest["spec"]["containers"][0]["volumeMounts"]]
    for i, path in enumerate(order):
        assert not any(path.startswith(f"{later}/") for later in order[i + 1 :])


def expanded(text: str) -> str:
    """What Kubernetes makes of an environment variable without any other that it could refer to.

    Source: k8s.io/kubernetes third_party/forked/golang/expansion, `$$` is a dollar and `$(X)` a reference.
    """
    return re.sub(r"\$\$|\$\([^)]*\)", lambda found: "$" if found.group() == "$$" else "REPLACED", text)


@given(st.text(st.sampled_from("$()A{}%\\x"), max_size=30))
def test_kubernetes_gives_every_variable_back_as_it_was(value: str) -> None:
    assert expanded(escaped(value)) == value


@given(mounts(), st.text(letters, max_size=20))
def test_the_session_reads_its_own_plan_back_whatever_names_are_in_it(
    chosen: tuple[Mount, ...], title: str
) -> None:
    plan, config, place = with_mounts(chosen)
    datasets = (plan.datasets[0].model_copy(update={"title": f"$(HOME) {{0}} %s {title}"}),)
    manifest, plan = rendered((plan.model_copy(update={"datasets": datasets}), config, place))
    variables = {one["name"]: expanded(one["value"]) for one in manifest["spec"]["containers"][0]["env"]}
    info = SessionInfo.model_validate_json(variables[SESSION_INFO_VARIABLE])
    assert info.datasets == datasets
    assert variables["HOME"] == info.home


names = st.text(st.characters(exclude_categories=("Cs",)), max_size=64)


@given(names, names, names, names)
def test_names_of_any_length_and_their_look_alikes_have_labels_of_their_own(
    account: str, server: str, other: str, other_server: str
) -> None:
    config = BASE[1]
    mine, theirs = server_labels(config, account, server), server_labels(config, other, other_server)
    assert (mine == theirs) is ((account, server) == (other, other_server))
    for value in mine.values():
        assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", value)


def test_two_hubs_of_the_same_name_have_labels_of_their_own() -> None:
    config = BASE[1]
    hub = config.hub.model_copy(update={"public_url": "https://other.example.org"})
    assert hub_labels(config) != hub_labels(config.model_copy(update={"hub": hub}))


@given(st.floats(0.001, 512), st.floats(0.1, 4096))
def test_amounts_are_spelt_as_the_api_server_spells_them(cpu: float, memory_gib: float) -> None:
    said, n_bytes = cores(cpu), memory_gib * 2**30
    n_milli = int(said[:-1]) if said.endswith("m") else int(said) * 1000
    assert abs(n_milli - cpu * 1000) <= 1
    assert not said.endswith("000m")
    number, power = int(size(n_bytes)[:-2]), ("Ki", "Mi", "Gi", "Ti").index(size(n_bytes)[-2:]) + 1
    assert 0 <= n_bytes - number * 1024**power < 1024
    assert number % 1024 or power == 4


def test_a_pod_runs_as_nobody_but_the_person_and_holds_no_account_of_the_cluster() -> None:
    manifest, plan = rendered()
    spec = manifest["spec"]
    assert spec["securityContext"] == {
        "runAsUser": plan.uid,
        "runAsGroup": plan.gid,
        "runAsNonRoot": True,
        "supplementalGroups": list(plan.gids),
        "supplementalGroupsPolicy": "Strict",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["automountServiceAccountToken"] is False
    assert "initContainers" not in spec
    labels = json.dumps(manifest["metadata"])
    assert "a-token" not in labels


@pytest.mark.parametrize("person", [{"uid": 0, "gid": 4700}, {"uid": 4711, "gid": 0}])
def test_no_pod_is_rendered_for_root(person: dict[str, int]) -> None:
    plan, config, place = BASE
    with pytest.raises(ValueError, match="no numeric identity"):
        pod_manifest(plan.model_copy(update=person), place, config=config, environment=ENVIRONMENT)
