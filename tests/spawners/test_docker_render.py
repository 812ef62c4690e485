"""What a Docker host is asked for: networks, mounts, graphics processors, images. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import islice
from typing import Any

import pytest
from docker.errors import APIError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.session import Mount
from beamhub_spawners.docker_images import image_fault, refusal_in_words
from beamhub_spawners.docker_network import (
    SUBNET_PREFIX,
    free_subnets,
    gateway_of,
    network_fields,
    subnets_of,
)
from beamhub_spawners.docker_render import (
    Ground,
    bind_mount,
    container_fields,
    engine_is_recursive,
    free_gpus,
)
from contracts.spawner_parts import docker_plan

PLAN = docker_plan(uid=4711, gid=4712)
BLOCK = IPv4Network("10.77.0.0/22")
TOKEN = {"JUPYTERHUB_API_TOKEN": "t"}
DIRECT = {"url": "unix:///x", "unsafe_direct_socket": True}
TLS = {"ca_file": "/c", "cert_file": "/d", "key_file": "/e"}

networks = st.builds(
    lambda at, prefix: IPv4Network((at, prefix), strict=False),
    st.integers(int(BLOCK.network_address) - 512, int(BLOCK.broadcast_address) + 512),
    st.integers(20, 32),
)


@given(taken=st.lists(networks, max_size=12), plan_id=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_free_subnets_are_all_those_of_the_block_that_meet_nothing(
    taken: list[IPv4Network], plan_id: str
) -> None:
    free = list(free_subnets(BLOCK, taken, plan_id=plan_id))
    wanted = {
        subnet
        for subnet in BLOCK.subnets(new_prefix=SUBNET_PREFIX)
        if not any(subnet.overlaps(one) for one in taken)
    }
    assert len(free) == len(set(free))
    assert set(free) == wanted


def test_two_plans_begin_at_different_addresses() -> None:
    first = [next(free_subnets(BLOCK, (), plan_id=f"{i * 7919:08x}" + "0" * 24)) for i in range(8)]
    assert len(set(first)) == 8


def test_a_large_block_is_not_walked_through_to_find_one() -> None:
    block = IPv4Network("10.0.0.0/8")
    taken = [IPv4Network("10.128.0.0/9")]
    found = list(islice(free_subnets(block, taken, plan_id="0" * 32), 3))
    assert found[0] == IPv4Network("10.0.0.0/28")


def test_a_network_of_an_engine_that_cannot_be_read_counts_for_nothing() -> None:
    strange: list[dict[str, Any]] = [
        {"IPAM": None},
        {"IPAM": {"Config": None}},
        {"IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "10.0.0.0/24"}]}},
        {},
    ]
    assert subnets_of(strange) == {IPv4Network("10.0.0.0/24")}


def test_a_network_is_its_sessions_and_leads_nowhere_without_egress() -> None:
    place = DockerPlaceConfig.model_validate({**DIRECT, "network_block": "10.77.0.0/16", "egress": False})
    fields = network_fields(PLAN, place, IPv4Network("10.77.3.16/28"), facility="demo")
    assert fields["Internal"] is True
    assert fields["IPAM"]["Config"] == [{"Subnet": "10.77.3.16/28", "Gateway": "10.77.3.17"}]
    assert fields["Labels"] == {"org.beamhub.facility": "demo", "org.beamhub.plan-id": PLAN.id}
    ground = Ground(fields["Name"], gateway_of(IPv4Network("10.77.3.16/28")))
    body = container_fields(PLAN, place, facility="demo", environment=TOKEN, ground=ground).body
    assert body["HostConfig"]["NetworkMode"] == fields["Name"]
    assert body["HostConfig"]["ExtraHosts"] == ["beamhub-host:10.77.3.17"]


def mount(**changes: Any) -> Mount:
    fields = {"pool": "p", "path": "a", "source": "/p/a", "target": "/d/a", "mode": "ro", "purpose": "raw"}
    return Mount.model_validate({**fields, **changes})


def test_what_lies_below_a_read_only_mount_is_absent_or_read_only() -> None:
    assert bind_mount(mount(), recursive=False)["BindOptions"] == {"NonRecursive": True}
    forced = {"Propagation": "rprivate", "ReadOnlyForceRecursive": True}
    assert bind_mount(mount(), recursive=True)["BindOptions"] == forced
    assert bind_mount(mount(mode="rw"), recursive=True)["BindOptions"] == {"NonRecursive": True}
    follows = bind_mount(mount(propagation="host_to_container"), recursive=True)
    assert follows["BindOptions"] == {"Propagation": "rslave"}
    assert follows["ReadOnly"] is True


@pytest.mark.parametrize(
    ("version", "is_recursive"), [("20.10.24+dfsg1", False), ("24.0.9", False), ("25.0.0", True), ("", False)]
)
def test_only_engines_from_25_on_make_it_recursive(version: str, is_recursive: bool) -> None:
    assert engine_is_recursive(version) is is_recursive


def test_a_session_gets_whole_graphics_processors_that_no_other_has() -> None:
    place = DockerPlaceConfig.model_validate({**DIRECT, "gpu_devices": ["0", "1", "2"]})
    containers: list[dict[str, Any]] = [
        {"State": "running", "Labels": {"org.beamhub.gpus": "1"}},
        {"State": "created", "Labels": {"org.beamhub.gpus": "2"}},
        {"State": "exited", "Labels": {"org.beamhub.gpus": "0"}},
        {"State": "running", "Labels": None},
    ]
    assert free_gpus(place, containers) == ("0",)
    plan = PLAN.model_copy(update={"limits": PLAN.limits.model_copy(update={"gpus": 1})})
    fields = container_fields(
        plan, place, facility="demo", environment=TOKEN, ground=Ground("bridge", gpus=("0",))
    )
    request = {"Driver": "nvidia", "DeviceIDs": ["0"], "Capabilities": [["gpu"]]}
    assert fields.body["HostConfig"]["DeviceRequests"] == [request]
    assert fields.body["Labels"]["org.beamhub.gpus"] == "0"
    with pytest.raises(ValueError, match="1 graphics processors"):
        container_fields(plan, place, facility="demo", environment=TOKEN, ground=Ground("bridge"))
    cdi = place.model_copy(update={"gpu_driver": "cdi", "gpu_devices": ("nvidia.com/gpu=0",)})
    fields = container_fields(
        plan, cdi, facility="demo", environment=TOKEN, ground=Ground("bridge", gpus=("nvidia.com/gpu=0",))
    )
    assert fields.body["HostConfig"]["DeviceRequests"] == [
        {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "unix:///var/run/docker.sock"},
        {"url": "https://node1:8443"},
        {"url": "https://node1:8443", "tls": TLS, "unsafe_direct_socket": True},
        {"url": "tcp://node1:2375", "unsafe_direct_socket": True},
        {**DIRECT, "egress": False},
        {**DIRECT, "peers": [{"container": "proxy", "alias": "proxy"}]},
        {**DIRECT, "network_block": "8.8.0.0/16"},
        {**DIRECT, "network_block": "10.77.0.0/28"},
        {**DIRECT, "network_block": "10.77.0.1/16"},
        {**DIRECT, "network_block": "10.77.0.0/16", "egress": False, "publish_address": "10.0.0.1"},
    ],
)
def test_a_host_that_cannot_be_reached_in_one_safe_way_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DockerPlaceConfig.model_validate(fields)


WANTED, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("reference", "image", "is_fault"),
    [
        (f"base@{WANTED}", {"Id": OTHER, "RepoDigests": [f"mirror:5000/base@{WANTED}"]}, False),
        (f"base@{WANTED}", {"Id": OTHER, "RepoDigests": [f"base@{OTHER}"]}, True),
        (f"base@{WANTED}", {"Id": OTHER, "RepoDigests": None}, True),
        (WANTED, {"Id": WANTED}, False),
        (WANTED, {"Id": OTHER}, True),
        ("base:dev", {"Id": OTHER}, False),
    ],
)
def test_what_runs_has_the_digest_of_the_plan(reference: str, image: dict[str, Any], is_fault: bool) -> None:
    assert (image_fault(reference, image) is not None) is is_fault


class Answer:
    """As much of a response as docker's error reads."""

    def __init__(self, status: int) -> None:
        self.status_code, self.reason, self.url = status, "", ""


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (404, "No such image: base:dev", "not on the host yet"),
        (500, "write /var/lib/docker/x: no space left on device", "disk of the host is full"),
        (400, 'exec: "tini": executable file not found in $PATH', "cannot be started"),
        (400, "invalid mount config: bind source path does not exist: /p", "gone from the host"),
        (500, 'could not select device driver "nvidia"', "graphics processors"),
        (403, "beamhub agent: hash mismatch", "did not admit"),
        (500, "something else", "refused it"),
    ],
)
def test_a_person_reads_why_in_plain_words_and_no_path(status: int, said: str, words: str) -> None:
    error = APIError(said, response=Answer(status), explanation=said)
    assert words in refusal_in_words(error)
    assert "/" not in refusal_in_words(error)
