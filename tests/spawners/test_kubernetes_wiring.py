"""What of KubeSpawner a session's spawner keeps: no clients, no watches, no templates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config import FacilityConfig
from beamhub_spawners.kubernetes_spawner import KubernetesSessionSpawner
from beamhub_spawners.wiring_hook import spawner_class_for
from contracts.kubernetes_parts import kubernetes_facility
from contracts.spawner_parts import hub_part
from contracts.web_stand_in import StandIn


@pytest.fixture
def spawner(
    tmp_path: Path, stand_in: StandIn, run: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KubernetesSessionSpawner]:
    """A spawner of a hub that has no way to any cluster."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    fields = kubernetes_facility(tmp_path, hub_url=stand_in.url, web_url=stand_in.url)
    config = FacilityConfig.model_validate(fields)
    kind = spawner_class_for(config)
    with hub_part(config, stand_in) as part:
        yield part.spawner(kind, environment={"GREETING": "{username} $(HOME)"})
        run(part.platform.web.close())


def test_a_hub_with_kubernetes_places_makes_spawners_without_any_cluster(
    spawner: KubernetesSessionSpawner,
) -> None:
    assert isinstance(spawner, KubernetesSessionSpawner)
    assert not spawner.options_form
    spawner.clear_state()
    spawner.load_state({})
    assert spawner.get_state() == {}


def test_what_a_facility_sets_in_the_environment_is_no_template(spawner: KubernetesSessionSpawner) -> None:
    assert spawner.get_env()["GREETING"] == "{username} $(HOME)"


def test_without_a_cluster_nobody_can_tell_whether_a_server_runs(
    spawner: KubernetesSessionSpawner, run: Any
) -> None:
    assert run(spawner.poll()) is None
