"""A network of each session's own on a Docker host: which addresses it has, and what the engine is asked.
Pure.

Sessions of one bridge reach each other; the engine drops what goes from one bridge to another. So each
session has a bridge, and because the engine's own pool holds only about thirty, its addresses come from a
block of the facility's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network
from typing import Any

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.session import SessionPlan

SUBNET_PREFIX = 28
"""16 addresses: the host, the session, its peers, and room for what a facility adds."""
LABEL = "org.beamhub."


def network_name(plan_id: str) -> str:
    """The name of a session's network: from the plan alone."""
    return f"beamhub-{plan_id}"


def gateway_of(subnet: IPv4Network) -> str:
    """The host's own address in a session's network."""
    return str(subnet.network_address + 1)


def gateway_of_network(network: Mapping[str, Any]) -> str:
    """The host's own address in a network as the engine lists it.

    Raises
    ------
    ValueError
        If the engine says no subnet of it.
    """
    try:
        return gateway_of(IPv4Network(network["IPAM"]["Config"][0]["Subnet"]))
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("the network has no subnet") from error


def network_fields(
    plan: SessionPlan, place: DockerPlaceConfig, subnet: IPv4Network, *, facility: str
) -> dict[str, Any]:
    """The body of `POST /networks/create` for a session's network."""
    return {
        "Name": network_name(plan.id),
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Internal": not place.egress,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Config": [{"Subnet": str(subnet), "Gateway": gateway_of(subnet)}]},
        "Options": {"com.docker.network.bridge.enable_icc": "true"},  # for the session's peers
        "Labels": {f"{LABEL}facility": facility, f"{LABEL}plan-id": plan.id},
    }


def subnets_of(networks: Iterable[dict[str, Any]]) -> frozenset[IPv4Network]:
    """The subnets that networks of an engine take; what is no IPv4 subnet counts for nothing."""
    taken = set()
    for network in networks:
        for one in (network.get("IPAM") or {}).get("Config") or ():
            try:
                taken.add(IPv4Network(one.get("Subnet", "")))
            except ValueError:
                continue
    return frozenset(taken)


def free_subnets(block: IPv4Network, taken: Iterable[IPv4Network], *, plan_id: str) -> Iterator[IPv4Network]:
    """The /28 subnets of a block that meet no taken one, from one on that the plan's id picks.

    Two starts at once so rarely try the same; the engine refuses the second of those that do.
    """
    # As ranges of numbers: a network that holds the block, lies in it or is one of ours.
    step = 1 << (32 - SUBNET_PREFIX)
    first, n_subnets = int(block.network_address), block.num_addresses // step
    used: set[int] = set()
    for one in taken:
        if one.overlaps(block):
            low = (max(int(one.network_address), first) - first) // step
            high = (min(int(one.broadcast_address), int(block.broadcast_address)) - first) // step
            used.update(range(low, high + 1))
    start = int(plan_id[:8], 16)
    for i in range(n_subnets):
        at = (start + i) % n_subnets
        if at not in used:
            yield IPv4Network((first + at * step, SUBNET_PREFIX))
