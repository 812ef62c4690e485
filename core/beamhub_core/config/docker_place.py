"""How to reach one Docker host, and what containers get there."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from beamhub_core.config.section import AbsolutePath, HttpUrl, SecretFile, Section

CONTAINER_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$"
LARGEST_PREFIX = 24
"""A block of session networks holds at least 16 of them, each a /28."""


class TlsPairConfig(Section):
    """How two processes know each other: a certificate authority, and one's own certificate and key."""

    ca_file: AbsolutePath = Field(
        description="Certificate authority that the other side's certificate must come from."
    )
    cert_file: AbsolutePath = Field(description="This side's certificate.")
    key_file: SecretFile = Field(description="This side's private key.")


class PeerConfig(Section):
    """A container of the platform that joins each session's network on this host."""

    container: str = Field(pattern=CONTAINER_NAME, description="Its name, e.g. that of the proxy.")
    alias: str = Field(pattern=CONTAINER_NAME, description="Under which name sessions reach it there.")


class DockerPlaceConfig(Section):
    """How to reach one Docker host."""

    url: str = Field(
        max_length=300,
        pattern=r"^(https://[^\s/?#@]+|unix://(/[^\s?#]+))$",
        description="The host's agent, e.g. 'https://node1.example.org:8443'; with `unsafe_direct_socket` "
        "the engine itself, e.g. 'unix:///var/run/docker.sock'.",
    )
    tls: TlsPairConfig | None = Field(
        default=None, description="The hub's certificate for the agent; needed with 'https'."
    )
    unsafe_direct_socket: bool = Field(
        default=False,
        description="The hub holds the engine's socket, which is root on that host. For tests and laptops.",
    )
    image: str | None = Field(default=None, description="Overrides the environment's image on this host.")
    network: str = Field(
        default="bridge",
        min_length=1,
        max_length=64,
        description="Docker network that all sessions join when `network_block` is absent.",
    )
    network_block: IPv4Network | None = Field(
        default=None,
        description="Block of private addresses, at most a /24, e.g. '10.77.0.0/16'. Each session has a /28 "
        "of it as a network of its own. Absent: sessions share `network` and reach each other.",
    )
    egress: bool = Field(
        default=True,
        description="Whether a session with a network of its own reaches anything but its host and `peers`.",
    )
    publish_address: IPv4Address | None = Field(
        default=None,
        description="Address of this host on which each session's port is published, for a hub and a proxy "
        "on other machines. Absent: they reach the container's own address.",
    )
    peers: tuple[PeerConfig, ...] = Field(
        default=(),
        max_length=8,
        description="Containers that join each session's network, when hub and proxy are containers here.",
    )
    hub_api_url: HttpUrl | None = Field(
        default=None,
        description="The hub's API as containers reach it, e.g. 'http://172.17.0.1:8081/hub/api'; "
        "the hub's own idea of its address when absent. In a network of its own a session knows its host as "
        "'beamhub-host'.",
    )
    gpu_driver: Literal["nvidia", "cdi"] = Field(
        default="nvidia", description="How the engine is asked for graphics processors."
    )
    gpu_devices: tuple[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./=:-]{0,100}$")], ...
    ] = Field(
        default=(),
        description="This host's graphics processors, by number or UUID, or for 'cdi' by qualified name, "
        "e.g. 'nvidia.com/gpu=0'. A session gets whole ones that no other has.",
    )
    tmp_mib: int = Field(
        default=1024,
        ge=16,
        description="Size of the /tmp of a session or worker, in memory, MiB; at most half of its memory.",
    )
    timeout_s: float = Field(default=30.0, gt=0, description="Limit of one call to the engine.")
    look_timeout_s: float = Field(
        default=5.0, gt=0, description="Limit of one look at what runs; the host counts as silent after it."
    )
    pause_s: float = Field(
        default=10.0, gt=0, description="How long a host that did not answer is not asked again."
    )

    @model_validator(mode="after")
    def _is_reached_in_one_way(self) -> DockerPlaceConfig:
        if self.url.startswith("unix:") and not self.unsafe_direct_socket:
            raise ValueError(
                f"{self.url!r} is the engine's own socket; run 'beamhub agent' on the host and name it, or "
                f"say "
                "'unsafe_direct_socket: true'"
            )
        if self.url.startswith("https:") and (self.tls is None or self.unsafe_direct_socket):
            raise ValueError("an agent ('https') needs 'tls' and no 'unsafe_direct_socket'")
        return self

    @model_validator(mode="after")
    def _networks_fit(self) -> DockerPlaceConfig:
        block = self.network_block
        if block is None:
            if self.peers or not self.egress:
                raise ValueError("'peers' and 'egress: false' need a 'network_block'")
            return self
        if not block.is_private or block.prefixlen > LARGEST_PREFIX or block.prefixlen < 8:
            raise ValueError(f"'network_block' {block} is no private block between /8 and /{LARGEST_PREFIX}")
        if not self.egress and self.publish_address is not None:
            raise ValueError("without 'egress' no port can be published: leave out 'publish_address'")
        return self
