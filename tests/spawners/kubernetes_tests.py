"""What the tests of pods share: a facility with a small image on a real cluster."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config import FacilityConfig
from beamhub_spawners.refusal import StartFailed, StartRefused
from beamhub_spawners.session_options import read_options
from contracts.cluster_parts import TestCluster
from contracts.kubernetes_parts import KubernetesBackend, cluster_facility, kubernetes_backend
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import make_facility, principal
from contracts.web_stand_in import StandIn

Fields = dict[str, Any]


def small_facility(
    folder: Path, cluster: TestCluster, stand_in: StandIn, image: str, **changes: Any
) -> Fields:
    """The fields of a facility with its files on the nodes; homes are there for whoever comes."""
    fields = cluster_facility(folder, cluster, stand_in, image=image, **changes)
    make_facility(folder)
    for pool in fields["pools"]:
        shutil.copytree(folder / "pools" / pool["name"], pool["root"], dirs_exist_ok=True)
        for path in (Path(pool["root"]), *Path(pool["root"]).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    return fields


@contextmanager
def backend_of(
    cluster: TestCluster, stand_in: StandIn, fields: Fields, run: Any
) -> Iterator[KubernetesBackend]:
    """A backend of these fields."""
    with kubernetes_backend(cluster, stand_in, fields, run) as backend:
        yield backend


def configure(backend: KubernetesBackend, **changes: Any) -> None:
    """Change the Kubernetes section of every place, or with `sessions={...}` fields of the sessions."""
    platform = backend.part.platform
    fields = platform.config.model_dump(mode="json")
    fields["sessions"] |= changes.pop("sessions", {})
    for place in fields["sessions"]["places"]:
        place["kubernetes"] |= changes
    config = FacilityConfig.model_validate(fields)
    backend.part.platform = type(platform)(config=config, clock=platform.clock, web=platform.web)


def with_image(backend: KubernetesBackend, image: str) -> None:
    """Have sessions run another image."""
    environment = backend.part.platform.config.sessions.environments[0].model_dump(mode="json")
    configure(backend, sessions={"environments": [{**environment, "image": image}]})


def start(backend: KubernetesBackend, run: Any, server_name: str = "", **person: Any) -> Any:
    """A spawner whose session runs."""
    spawner = backend.spawner(server_name)
    spawner.principal = principal(**person)
    spawner.request = read_options(OPTIONS)
    run(spawner.start())
    return spawner


def failed(backend: KubernetesBackend, run: Any) -> str:
    """Why a start failed, after a look that nothing is left of it."""
    with pytest.raises(StartFailed) as caught:
        start(backend, run)
    assert backend.n_objects() == 0
    assert backend.stand_in.states()[-1] == "failed"
    return str(caught.value.reason)


def refused(backend: KubernetesBackend, run: Any) -> tuple[str, str]:
    """The code and words with which a start was refused, after a look that nothing is left of it."""
    with pytest.raises(StartRefused) as caught:
        start(backend, run)
    assert backend.n_objects() == 0
    return caught.value.reason, str(caught.value.jupyterhub_message)
