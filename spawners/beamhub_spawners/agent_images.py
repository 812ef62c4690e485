"""The images that an agent keeps present on its host, and how far it is with them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from beamhub_core.config import FacilityConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.agent_engine import Engine
from beamhub_spawners.docker_images import image_fault, wanted_digest

log = logging.getLogger(__name__)

ImageState = Literal["not looked at yet", "present", "pulling", "missing", "failed"]
STATES: tuple[ImageState, ...] = ("not looked at yet", "present", "pulling", "missing", "failed")
MAX_LINE = 65_536
MAX_REASON = 200


@dataclass(slots=True)
class ImageProgress:
    """How far one image is; `ids` are what the engine knows it by, once it is present."""

    state: ImageState = "not looked at yet"
    detail: str = ""
    ids: tuple[str, ...] = ()


def images_of(config: FacilityConfig, place_name: str, extra: Iterable[str]) -> tuple[str, ...]:
    """The images that sessions of a place may have; the place's own wins over the environments'."""
    own = next(
        (
            place.docker.image
            for place in config.sessions.places
            if place.name == place_name and place.docker is not None
        ),
        None,
    )
    of_environments = [own] if own else [one.image for one in config.sessions.environments]
    return tuple(dict.fromkeys(image for image in (*of_environments, *extra) if image != "local"))


@dataclass(slots=True)
class ImageKeeper:
    """Looks at the images again and again, pulls what is missing, one at a time, and says how far it is."""

    engine: Engine
    images: tuple[str, ...]
    may_pull: bool
    interval_s: float
    tell: Callable[[Mapping[str, int]], None] = lambda _: None
    progress: dict[str, ImageProgress] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.progress = {image: ImageProgress() for image in self.images}

    async def run(self) -> None:
        """Keep the images present until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self.interval_s)

    async def look(self) -> None:
        """One look at every image; a fault of one does not keep the others."""
        for image in self.images:
            try:
                await self._keep(image)
            except (Unavailable, ValueError) as error:
                self._say(image, "failed", str(error))

    def report(self) -> dict[str, Any]:
        """State and detail of each image, for the inventory."""
        return {
            image: {"state": one.state, "detail": one.detail, "ids": one.ids}
            for image, one in self.progress.items()
        }

    async def _keep(self, image: str) -> None:
        if await self._is_present(image):
            return
        if not self.may_pull or image.startswith("sha256:"):
            why = "is not on this host, and only its id is known" if self.may_pull else "is not on this host"
            self._say(image, "missing", why)
            return
        await self._pull(image)
        if self.progress[image].state == "pulling" and not await self._is_present(image):
            self._say(image, "failed", "was pulled, and is still not here")

    async def _is_present(self, image: str) -> bool:
        answer = await self.engine.call("GET", f"/images/{quote(image, safe='/:@')}/json")
        if answer.status == 404:
            return False
        if answer.status != 200:
            raise Unavailable("container", f"HTTP {answer.status}")
        said = answer.json()
        fault = image_fault(image, said)
        self.progress[image].ids = (str(said["Id"]), *(said.get("RepoDigests") or ()))
        if fault is not None:
            self._say(image, "failed", fault)
        else:
            self._say(image, "present", "")
        return True

    async def _pull(self, image: str) -> None:
        self._say(image, "pulling", "begun")
        name, tag = image_and_tag(image)
        layers: dict[str, str] = {}
        stream = self.engine.stream("POST", "/images/create", query={"fromImage": name, "tag": tag})
        async with stream as (status, parts):
            rest = b""
            async for part in parts:
                *lines, rest = (rest + part).split(b"\n")
                if len(rest) > MAX_LINE:
                    raise ValueError("the engine's line of progress does not end")
                for line in lines:
                    self._read_line(image, line, layers)
            self._read_line(image, rest, layers)
        if status != 200 and self.progress[image].state != "failed":
            self._say(image, "failed", f"the engine answered {status}")

    def _read_line(self, image: str, line: bytes, layers: dict[str, str]) -> None:
        if not line.strip():
            return
        said = json.loads(line)
        error = said.get("error") or said.get("message")
        if error:
            self._say(image, "failed", str(error)[:MAX_REASON])
        elif said.get("id") and self.progress[image].state == "pulling":
            layers[str(said["id"])] = str(said.get("status", ""))
            n_done = sum(state in ("Pull complete", "Already exists") for state in layers.values())
            self.progress[image].detail = f"{n_done} of {len(layers)} layers"

    def _say(self, image: str, state: ImageState, detail: str) -> None:
        one = self.progress[image]
        if (one.state, one.detail) != (state, detail):
            level = logging.WARNING if state in ("failed", "missing") else logging.INFO
            log.log(level, "image %s: %s %s", image, state, detail)
        one.state, one.detail = state, detail
        counted = Counter(known.state for known in self.progress.values())
        self.tell({state: counted[state] for state in STATES})


def image_and_tag(reference: str) -> tuple[str, str]:
    """The two parameters by which the engine pulls: a name, and a tag or digest."""
    digest = wanted_digest(reference)
    if digest is not None:
        return reference.rpartition("@")[0], digest
    name, separator, tag = reference.rpartition(":")
    if not separator or "/" in tag:  # the colon was a registry's port
        return reference, "latest"
    return name, tag
