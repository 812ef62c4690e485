"""Killed hubs on a platform of real processes whose sessions are pods, in little; `make soak` does more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from contracts.cluster_parts import load_image, test_namespace
from contracts.kubernetes_platform import KubernetesPlatform, running_kubernetes_platform
from spawners.hub_kills import trial  # the folder of these tests, not the room

pytestmark = [pytest.mark.kubernetes, pytest.mark.hub]
N_KILLS = 2


@pytest.fixture
def hub(small_image: str) -> Iterator[KubernetesPlatform]:
    with test_namespace() as cluster:
        load_image(small_image, cluster.run_folder)
        with running_kubernetes_platform(cluster, images={"small": small_image}) as hub:
            yield hub


def test_a_killed_hub_loses_no_pod_and_leaves_none_after_one_sweep(hub: KubernetesPlatform) -> None:
    made = trial(hub, n_people=2, n_watched=0, seed=8, settle=timedelta(seconds=3))
    for _ in range(N_KILLS):
        made.kill_once()
    found = made.sweep_and_look()
    assert found.is_whole(), (found, hub.log.read_text()[-3000:])
