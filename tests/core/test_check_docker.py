"""What `beamhub check` says of Docker hosts."""

from __future__ import annotations

from typing import Any

import pytest

from beamhub_core.check_docker import docker_weaknesses
from beamhub_core.config import FacilityConfig

TLS = {name: f"/etc/beamhub/{name}.pem" for name in ("ca_file", "cert_file", "key_file")}
AGENT = {"url": "https://node1:8443", "tls": TLS, "network_block": "10.77.0.0/16"}
DIGEST = "base@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("docker", "image", "keys"),
    [
        (AGENT, DIGEST, []),
        (AGENT, "local", []),
        ({**AGENT, "image": "base:dev"}, DIGEST, ["image"]),
        (AGENT, "base:dev", ["environments"]),
        ({**AGENT, "network_block": None}, DIGEST, ["network_block"]),
        ({**AGENT, "publish_address": "10.0.0.7"}, DIGEST, ["publish_address"]),
        (
            {"url": "unix:///var/run/docker.sock", "unsafe_direct_socket": True},
            DIGEST,
            ["url", "network_block"],
        ),
    ],
)
def test_each_weakness_of_a_host_is_named(
    docker: dict[str, Any], image: str, keys: list[str], facility_config: Any
) -> None:
    data = facility_config().copy()
    data["sessions"]["places"][0] |= {"backend": "docker", "docker": docker}
    data["sessions"]["environments"][0]["image"] = image
    found = list(docker_weaknesses(FacilityConfig.model_validate(data)))
    assert [where.rpartition(".")[2] for where, _, _ in found] == keys
