"""What an agent does with each admissible request: looks whose it is, and asks the engine anew."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Network
from typing import Any
from urllib.parse import quote

from beamhub_core.clock import Clock
from beamhub_core.config import FacilityConfig
from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_core.session import SessionPlan, StoredSession
from beamhub_spawners.agent_clusters import check_room, check_running, part_of, rendered_part
from beamhub_spawners.agent_create import (
    MAX_DIFFERENCES,
    Facility,
    asked_gpus,
    check_stored,
    rendered,
    same_json,
)
from beamhub_spawners.agent_engine import Engine
from beamhub_spawners.agent_folders import Folders
from beamhub_spawners.agent_reply import Reply, json_reply, passed, read_body
from beamhub_spawners.agent_routes import Asked, NotAdmitted, asked_labels
from beamhub_spawners.dask_render import DaskPart
from beamhub_spawners.docker_images import image_fault
from beamhub_spawners.docker_network import LABEL, gateway_of, network_fields, network_name
from beamhub_spawners.docker_render import Ground, free_gpus
from beamhub_spawners.web_client import WebClient

log = logging.getLogger(__name__)

PLAN_ID = re.compile(r"[0-9a-f]{32}")
INFO_KEYS = ("ServerVersion", "OSType", "Architecture", "KernelVersion", "NCPU", "MemTotal", "CgroupVersion")
MAX_REMEMBERED = 10_000


@dataclass(slots=True)
class Desk:
    """The one place where requests become requests to the engine.

    `images` are the names that may be looked at; `inventory` says what the host has. `_taking` is held from
    looking at which graphics processors are free to taking some, and over nothing that waits for storage.
    """

    config: FacilityConfig
    facility: Facility
    engine: Engine
    web: WebClient
    clock: Clock
    inventory: Callable[[], Awaitable[dict[str, Any]]]
    images: frozenset[str]
    folders: Folders
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _made: dict[str, datetime] = field(default_factory=dict)

    async def answer(self, asked: Asked, body: bytes) -> Reply:
        """Answer an admissible request.

        Raises
        ------
        NotAdmitted
            If what it names is not this facility's, or not what the stored plan says.
        Unavailable
            When engine or web is silent.
        """
        if body and asked.route not in _TAKES_A_BODY:
            # Clients send `{}` or nothing here; whatever it is, it goes nowhere.
            body = b""
        handler = _HANDLERS[asked.route]
        return await handler(self, asked, body)

    # -- about the host -----------------------------------------------------------------------------

    async def ping(self, asked: Asked, body: bytes) -> Reply:
        """Whether the engine answers."""
        answer = await self.engine.call("GET", "/_ping")
        return Reply(answer.status, b"OK" if answer.status == 200 else b"", is_json=False)

    async def version(self, asked: Asked, body: bytes) -> Reply:
        """The engine's version, in which the hub's client then speaks."""
        return json_reply(await self.engine.version())

    async def info(self, asked: Asked, body: bytes) -> Reply:
        """A few facts of the host."""
        answer = await self.engine.call("GET", "/info")
        if answer.status != 200:
            return passed(answer)
        return json_reply({name: answer.json().get(name) for name in INFO_KEYS})

    async def host_inventory(self, asked: Asked, body: bytes) -> Reply:
        """Pools, images, sessions, memory and graphics processors of the host."""
        return json_reply(await self.inventory())

    async def image(self, asked: Asked, body: bytes) -> Reply:
        """An image of the facility's environments; never a pull."""
        name = asked.parts["image"]
        if name not in self.images:
            raise NotAdmitted(403, "not admitted: an image that no environment names")
        answer = await self.engine.call("GET", f"/images/{quote(name, safe='/:@')}/json")
        if answer.status != 200:
            return passed(answer)
        said = answer.json()
        return json_reply(
            {key: said.get(key) for key in ("Id", "RepoTags", "RepoDigests", "Size", "Created")}
        )

    # -- containers ---------------------------------------------------------------------------------

    async def list_containers(self, asked: Asked, body: bytes) -> Reply:
        """Containers of this facility, whatever else is asked."""
        return json_reply(await self.own_containers(*asked_labels(asked)))

    async def create(self, asked: Asked, body: bytes) -> Reply:
        """Make the container of a stored plan, when the asked body is what the plan renders to."""
        wanted = read_body(body)
        part = part_of(wanted, asked.query["name"])
        if part is not None:
            return await self._create_part(asked.query["name"], wanted, part)
        plan_id = asked.query["name"].removeprefix("beamhub-")
        async with self.folders.lock_of(plan_id):
            stored, plan = await self._to_be_made(plan_id)
            ground = await self._ground(plan, wanted)
            expected, differing = rendered(wanted, stored, self.facility, ground)
            if differing:
                told = "; ".join(differing[:MAX_DIFFERENCES])
                raise NotAdmitted(403, f"the container is not what its plan says: {told}")
            await self._check_not_made(plan)
            await self._check_image(plan)
            await self.folders.make(plan)
            await self._to_be_made(plan_id)  # it may have been ended while storage took its time
            async with self._taking if ground.gpus else nullcontext():
                await self._check_free(ground.gpus)
                query = {"name": asked.query["name"]}
                answer = await self.engine.call("POST", "/containers/create", query=query, body=expected)
            if answer.status == 201:
                self._remember(plan)
        return passed(answer)

    async def make_folders(self, asked: Asked, body: bytes) -> Reply:
        """Make the folders of a stored plan, before its container is asked for."""
        plan_id = asked.parts["plan"]
        async with self.folders.lock_of(plan_id):
            _, plan = await self._to_be_made(plan_id)
            await self._check_not_made(plan)
            await self.folders.make(plan)
        return Reply(204)

    async def home(self, asked: Asked, body: bytes) -> Reply:
        """How the homes are, and the account's own where a stored plan of it was seen here."""
        said = await self.folders.home_of(asked.parts["account"])
        return json_reply(said.model_dump(mode="json"))

    async def _create_part(self, name: str, wanted: dict[str, Any], part: DaskPart) -> Reply:
        """Make a scheduler or worker beside a running session, from its plan and within its share."""
        plan = check_running(await self._stored(name[8:40]), self.facility, now=self.clock())
        await self._check_image(plan)
        await self.folders.make(plan)
        async with self._taking:
            # The session may have ended while storage took its time.
            plan = check_running(await self._stored(plan.id), self.facility, now=self.clock())
            others = await self.own_containers(f"{LABEL}plan-id={plan.id}")
            check_room(part, plan, others, self.config.gateway)
            ground = await self._ground(plan, {})
            where = (self.facility, self.config.gateway, ground)
            expected = rendered_part(wanted, plan, part, name, where)
            answer = await self.engine.call("POST", "/containers/create", query={"name": name}, body=expected)
        return passed(answer)

    async def start(self, asked: Asked, body: bytes) -> Reply:
        """Start a container whose plan is stored, unchanged and not over."""
        known = await self._own(asked)
        stored = await self._stored(known["Config"]["Labels"][f"{LABEL}plan-id"])
        check = check_running if f"{LABEL}role" in known["Config"]["Labels"] else check_stored
        check(stored, self.facility, now=self.clock())
        if known["Config"]["Labels"].get(f"{LABEL}plan-hash") != stored.record.plan_hash:
            raise NotAdmitted(403, "hash mismatch: the container was made from another plan")
        return passed(await self.engine.call("POST", f"/containers/{known['Id']}/start"))

    async def inspect(self, asked: Asked, body: bytes) -> Reply:
        """A container without its environment, which holds its token."""
        known = await self._own(asked)
        known["Config"].pop("Env", None)
        return json_reply(known)

    async def stop(self, asked: Asked, body: bytes) -> Reply:
        """Stop a container; also when web is away."""
        known = await self._own(asked)
        longer_s = float(asked.query.get("t", 10))
        return passed(
            await self.engine.call(
                "POST", f"/containers/{known['Id']}/stop", query=asked.query, longer_s=longer_s
            )
        )

    async def follow(self, asked: Asked, body: bytes) -> Reply:
        """Logs, stats and the end of a container, as they come."""
        known = await self._own(asked)
        method = "POST" if asked.route == "wait" else "GET"
        path = f"/containers/{known['Id']}/{asked.route}"
        return Reply(
            stream=self.engine.stream(method, path, query=asked.query), is_json=asked.route != "logs"
        )

    async def remove(self, asked: Asked, body: bytes) -> Reply:
        """Remove a container."""
        known = await self._own(asked)
        query = {name: value for name, value in asked.query.items() if name != "link"}
        return passed(await self.engine.call("DELETE", f"/containers/{known['Id']}", query=query))

    # -- networks -----------------------------------------------------------------------------------

    async def networks(self, asked: Asked, body: bytes) -> Reply:
        """This facility's networks, and of the others only which addresses they take."""
        answer = await self.engine.call("GET", "/networks")
        if answer.status != 200:
            return passed(answer)
        keys = ("Name", "Id", "Created", "Labels", "IPAM")
        return json_reply(
            [
                {key: one.get(key) for key in keys} if self._is_ours(one) else {"IPAM": one.get("IPAM")}
                for one in answer.json()
            ]
        )

    async def create_network(self, asked: Asked, body: bytes) -> Reply:
        """Make the network of a stored plan in a free /28 of the block."""
        wanted = read_body(body)
        try:
            plan_id = wanted["Name"].removeprefix("beamhub-")
            subnet = IPv4Network(wanted["IPAM"]["Config"][0]["Subnet"])
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise NotAdmitted(403, "the network has no name and subnet") from None
        block = self.facility.place.network_block
        if not PLAN_ID.fullmatch(plan_id) or block is None or not subnet.subnet_of(block):
            raise NotAdmitted(403, "the network is none of the block, or of no session")
        plan = check_stored(await self._stored(plan_id), self.facility, now=self.clock())
        expected = network_fields(plan, self.facility.place, subnet, facility=self.facility.short_name)
        if subnet.prefixlen != 28 or not same_json(wanted, expected):
            raise NotAdmitted(403, "the network is not what its plan says")
        return passed(await self.engine.call("POST", "/networks/create", body=expected))

    async def join(self, asked: Asked, body: bytes) -> Reply:
        """Join one of the platform's containers to a session's network."""
        network = await self._own_network(asked.parts["plan"])
        wanted = read_body(body)
        for peer in self.facility.place.peers:
            expected = {"Container": peer.container, "EndpointConfig": {"Aliases": [peer.alias]}}
            if same_json(wanted, expected):
                return passed(
                    await self.engine.call("POST", f"/networks/{network['Id']}/connect", body=expected)
                )
        raise NotAdmitted(403, "only the platform's own containers join a session's network")

    async def leave(self, asked: Asked, body: bytes) -> Reply:
        """Take one of the platform's containers out of a session's network."""
        network = await self._own_network(asked.parts["plan"])
        wanted = read_body(body)
        for peer in self.facility.place.peers:
            if wanted.get("Container") == peer.container:
                expected = {"Container": peer.container, "Force": True}
                return passed(
                    await self.engine.call("POST", f"/networks/{network['Id']}/disconnect", body=expected)
                )
        raise NotAdmitted(403, "only the platform's own containers leave a session's network")

    async def remove_network(self, asked: Asked, body: bytes) -> Reply:
        """Remove a session's network."""
        network = await self._own_network(asked.parts["plan"])
        return passed(await self.engine.call("DELETE", f"/networks/{network['Id']}"))

    # -- what is asked of engine and web ---------------------------------------------------------------

    async def _to_be_made(self, plan_id: str) -> tuple[StoredSession, SessionPlan]:
        """A stored plan of which something may be made here and now."""
        stored = await self._stored(plan_id)
        return stored, check_stored(stored, self.facility, now=self.clock())

    async def _stored(self, plan_id: str) -> StoredSession:
        try:
            return await self.web.session(plan_id)
        except Refused:
            raise NotAdmitted(403, "web knows no such plan") from None

    async def _ground(self, plan: SessionPlan, wanted: dict[str, Any]) -> Ground:
        place = self.facility.place
        network, gateway = place.network, None
        if place.network_block is not None:
            network = network_name(plan.id)
            known = await self._own_network(plan.id)
            gateway = gateway_of(IPv4Network(known["IPAM"]["Config"][0]["Subnet"]))
        return Ground(network, gateway, asked_gpus(wanted), await self.engine.is_recursive())

    async def _check_free(self, gpus: tuple[str, ...]) -> None:
        free = free_gpus(self.facility.place, await self.own_containers()) if gpus else ()
        if set(gpus) - set(free):
            raise NotAdmitted(409, "a graphics processor is taken, or not this host's")

    async def _check_not_made(self, plan: SessionPlan) -> None:
        if plan.id not in self._made:
            return
        answer = await self.engine.call("GET", f"/containers/beamhub-{plan.id}/json")
        if answer.status == 404:
            raise NotAdmitted(403, "the container of this plan was made and removed; a plan is made once")

    def _remember(self, plan: SessionPlan) -> None:
        now = self.clock()
        if len(self._made) >= MAX_REMEMBERED:
            self._made = {one: until for one, until in self._made.items() if until > now}
        self._made[plan.id] = plan.expires_at

    async def _check_image(self, plan: SessionPlan) -> None:
        answer = await self.engine.call("GET", f"/images/{quote(plan.image, safe='/:@')}/json")
        if answer.status == 404:
            raise NotAdmitted(404, "no such image on this host yet")
        if answer.status != 200:
            raise Unavailable("container", f"HTTP {answer.status}")
        fault = image_fault(plan.image, answer.json())
        if fault is not None:
            raise NotAdmitted(403, fault)

    async def _own(self, asked: Asked) -> dict[str, Any]:
        """The engine's word of a container of this facility; others do not exist for the caller."""
        answer = await self.engine.call("GET", f"/containers/{asked.parts['container']}/json")
        if answer.status not in (200, 404):
            raise Unavailable("container", f"HTTP {answer.status}")
        known: dict[str, Any] = answer.json() if answer.status == 200 else {}
        labels = (known.get("Config") or {}).get("Labels") or {}
        plan_id = labels.get(f"{LABEL}plan-id", "")
        if (
            labels.get(f"{LABEL}facility") != self.facility.short_name
            or not PLAN_ID.fullmatch(plan_id)
            or not str(known.get("Name")).startswith(f"/beamhub-{plan_id}")
        ):
            raise NotAdmitted(404, "no such container of this facility")
        return known

    async def _own_network(self, plan_id: str) -> dict[str, Any]:
        answer = await self.engine.call("GET", f"/networks/{network_name(plan_id)}")
        if answer.status not in (200, 404):
            raise Unavailable("container", f"HTTP {answer.status}")
        known: dict[str, Any] = answer.json() if answer.status == 200 else {}
        if not self._is_ours(known) or known["Labels"].get(f"{LABEL}plan-id") != plan_id:
            raise NotAdmitted(404, "no such network of this facility")
        return known

    async def own_containers(self, *labels: str) -> list[dict[str, Any]]:
        filters = json.dumps({"label": [f"{LABEL}facility={self.facility.short_name}", *labels]})
        answer = await self.engine.call("GET", "/containers/json", query={"all": "1", "filters": filters})
        if answer.status != 200:
            raise Unavailable("container", f"HTTP {answer.status}")
        found: list[dict[str, Any]] = answer.json()
        return found

    def _is_ours(self, thing: Mapping[str, Any]) -> bool:
        return (thing.get("Labels") or {}).get(f"{LABEL}facility") == self.facility.short_name


_Handler = Callable[[Desk, Asked, bytes], Awaitable[Reply]]
_HANDLERS: dict[str, _Handler] = {
    "ping": Desk.ping,
    "version": Desk.version,
    "info": Desk.info,
    "inventory": Desk.host_inventory,
    "image": Desk.image,
    "list": Desk.list_containers,
    "create": Desk.create,
    "folders": Desk.make_folders,
    "home": Desk.home,
    "start": Desk.start,
    "inspect": Desk.inspect,
    "stop": Desk.stop,
    "wait": Desk.follow,
    "logs": Desk.follow,
    "stats": Desk.follow,
    "remove": Desk.remove,
    "networks": Desk.networks,
    "network create": Desk.create_network,
    "network connect": Desk.join,
    "network disconnect": Desk.leave,
    "network remove": Desk.remove_network,
}
_TAKES_A_BODY = ("create", "network create", "network connect", "network disconnect")
