"""The Kubernetes spawner on a real cluster of two nodes, with the real base image."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.session import SessionInfo
from beamhub_spawners.kubernetes_pod import pod_name
from contracts.cluster_parts import HOST, NODES, TestCluster, load_image, test_namespace
from contracts.docker_parts import BASE_IMAGE
from contracts.kubernetes_parts import (
    KubernetesBackend,
    cluster_facility,
    kubernetes_backend,
    serving_keepers,
)
from contracts.spawner_contract import SpawnerContract
from contracts.spawner_parts import make_facility
from contracts.storage_contract import RESCUE
from contracts.web_stand_in import StandIn, serving_stand_in

pytestmark = pytest.mark.kubernetes


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with test_namespace() as cluster:
        load_image(BASE_IMAGE, cluster.run_folder)
        yield cluster


@pytest.fixture
def stand_in(cluster: TestCluster) -> Iterator[StandIn]:
    with serving_stand_in(HOST) as serving:
        yield serving


def place_files(folder: Path, fields: dict[str, Any]) -> None:
    """The test facility's files, on the nodes that have its pools."""
    make_facility(folder)
    for pool in fields["pools"]:
        shutil.copytree(folder / "pools" / pool["name"], pool["root"], dirs_exist_ok=True)


class TestKubernetesSpawner(SpawnerContract):
    """The contract on pods in a namespace that enforces *restricted* Pod Security."""

    @pytest.fixture
    def fields(self, tmp_path: Path, cluster: TestCluster, stand_in: StandIn) -> dict[str, Any]:
        for node in NODES:  # the volumes stay, what was on them goes
            shutil.rmtree(cluster.node_folder(node), ignore_errors=True)
        fields = cluster_facility(tmp_path, cluster, stand_in, image=BASE_IMAGE)
        place_files(tmp_path, fields)
        for pool in fields["pools"]:
            Path(pool["root"]).chmod(0o755)
        return fields

    @pytest.fixture
    def backend(
        self, tmp_path: Path, cluster: TestCluster, stand_in: StandIn, fields: dict[str, Any], run: Any
    ) -> Iterator[KubernetesBackend]:
        shutil.rmtree(fields["sessions"]["homes_folder"])
        with (
            serving_keepers(tmp_path, fields),
            kubernetes_backend(cluster, stand_in, fields, run) as backend,
        ):
            yield backend

    def test_the_pod_lands_beside_its_data_with_the_granted_folders_and_no_others(
        self, backend: KubernetesBackend, run: Any
    ) -> None:
        spawner, _ = self.start(backend, run)
        plan = spawner.plan
        [pod] = backend.cluster.pods()
        assert pod["spec"]["nodeName"] == NODES[0]
        assert spawner.plan.place.name == "hall-a"
        code = "print(open('/proc/self/mountinfo').read())"
        lines = backend.cluster.execute(pod_name(plan.id), code).splitlines()
        mounted = {line.split()[4]: line.split()[5].split(",") for line in lines if line}
        for mount in plan.mounts:
            assert mount.mode in mounted[mount.target], mount.target
        data = {path for path in mounted if path.startswith(("/data", "/home", "/facility"))}
        assert data == {mount.target for mount in plan.mounts}
        assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounted

    @pytest.fixture
    def small_homes(
        self, tmp_path: Path, cluster: TestCluster, stand_in: StandIn, fields: dict[str, Any], run: Any
    ) -> Iterator[KubernetesBackend]:
        """Kubernetes does not show what is mounted below a volume's folder, so all homes are small here."""
        with cluster.mounted(NODES[0], "homes", "size=200k,mode=755") as homes:
            fields["sessions"]["homes_folder"] = str(homes)
            with (
                serving_keepers(tmp_path, fields),
                kubernetes_backend(cluster, stand_in, fields, run) as backend,
            ):
                yield backend

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system as the homes")
    def test_with_a_full_home_the_session_starts_and_things_can_be_deleted(
        self, small_homes: KubernetesBackend, run: Any
    ) -> None:
        backend = small_homes
        spawner, _ = self.begin(backend, run)
        [home] = [Path(mount.source) for mount in spawner.plan.mounts if mount.purpose == "home"]
        run(spawner.stop(now=True))
        with pytest.raises(OSError, match="No space"):
            (home / "big").write_bytes(b"x" * 1_000_000)
        os.chown(home / "big", home.stat().st_uid, home.stat().st_gid)
        spawner, _ = self.begin(backend, run)
        assert spawner.plan.is_rescue
        said = json.loads(backend.look(spawner.plan.id, RESCUE))
        info = SessionInfo.model_validate(said["info"])
        assert any("Your home is full (no space is left)" in note for note in info.notes)
        assert (home / "note").read_text() == "there is room again"
        run(spawner.stop(now=True))
