"""What a place on a Kubernetes cluster must say, and what it may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import ConfigInvalid
from conftest import FacilityFile

Make = Callable[..., FacilityFile]
FIELDS = {
    "namespace": "sessions",
    "volumes": {"pool": {"claim": "pool-node-a"}},
    "homes": {"claim": "homes"},
    "node_labels": {"facility.example/storage": "node-a"},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"homes": {}}, "one of them"),
        ({"homes": {"claim": "a", "host_path": "/a"}}, "one of them"),
        ({"homes": {"claim": "a", "sub_path": "../b"}}, "leaves the volume"),
        ({"homes": {"claim": "a", "sub_path": "/b"}}, "leaves the volume"),
        ({"homes": {"host_path": "/homes"}}, "unsafe_host_path_pools"),
        ({"volumes": {}}, "volumes"),
        ({"namespace": "Not A Name"}, "namespace"),
        ({"node_labels": {"a b": "c"}}, "node_labels"),
        ({"keeper_url": "https://keeper:8443"}, "keeper_tls"),
        ({"gpu_resource": "{user}"}, "gpu_resource"),
    ],
)
def test_a_place_that_cannot_be_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        KubernetesPlaceConfig.model_validate({**FIELDS, **changes})


def with_place(facility: FacilityFile, **place: Any) -> FacilityFile:
    facility.data["sessions"]["places"] = [
        {"name": "a", "backend": "kubernetes", "pools": ["pool"], "kubernetes": FIELDS, **place}
    ]
    facility.write()
    return facility


def test_each_pool_of_a_place_has_a_volume_and_no_volume_is_without_a_pool(facility_config: Make) -> None:
    assert with_place(facility_config()).read().sessions.places[0].kubernetes is not None

    for volumes, words in (
        ({"other": {"claim": "x"}}, "pool 'pool' has no volume there"),
        ({**FIELDS["volumes"], "other": {"claim": "x"}}, "mounts no pool called 'other'"),  # type: ignore[dict-item]
    ):
        with pytest.raises(ConfigInvalid, match=words):
            with_place(facility_config(), kubernetes={**FIELDS, "volumes": volumes}).read()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"kubernetes": None}, "needs a 'kubernetes' section"),
        ({"backend": "local"}, "a local place has no 'kubernetes' section"),
    ],
)
def test_the_section_belongs_to_its_backend(facility_config: Make, place: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        with_place(facility_config(), **place).read()
