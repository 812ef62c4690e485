"""What `beamhub check` says of Docker hosts."""

from __future__ import annotations

from collections.abc import Iterator

from beamhub_core.config import FacilityConfig


def docker_weaknesses(config: FacilityConfig) -> Iterator[tuple[str, str, str]]:
    """What of the docker places weakens the platform: path in the configuration, message and hint."""
    for i, place in enumerate(config.sessions.places):
        if place.docker is None:
            continue
        here = f"sessions.places[{i}].docker"
        if place.docker.unsafe_direct_socket:
            yield (
                f"{here}.url",
                f"the hub of {place.name!r} holds the engine's own socket, which is root on that host",
                "run 'beamhub agent' there and name it with 'https' (docs/operate/docker-hosts.md)",
            )
        if place.docker.network_block is None:
            yield (
                f"{here}.network_block",
                f"is not set: sessions of {place.name!r} share a network and reach each other's ports",
                "set a private block, e.g. '10.77.0.0/16', that nothing else here uses",
            )
        if place.docker.publish_address is not None:
            yield (
                f"{here}.publish_address",
                f"every session of {place.name!r} reaches the published ports of the others, unless its "
                "engine runs with 'userland-proxy: false' or its firewall drops it",
                "see 'Networks' in docs/operate/docker-hosts.md",
            )
        for tag in _images_by_tag(config, place.docker.image):
            yield (
                f"{here}.image" if place.docker.image else "sessions.environments",
                f"{tag}: is no image by digest: what runs under this name may change unseen",
                "write it as name@sha256:...",
            )


def _images_by_tag(config: FacilityConfig, own: str | None) -> Iterator[str]:
    images = [own] if own else [environment.image for environment in config.sessions.environments]
    for image in dict.fromkeys(images):
        if image != "local" and "sha256:" not in image:
            yield image
