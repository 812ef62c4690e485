"""How much room places have, and who of a queue gets it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from beamhub_core.config.storage import PlaceConfig


class Need(Protocol):
    """What one session takes of a place."""

    @property
    def memory_gib(self) -> float:
        """Memory, GiB."""
        ...

    @property
    def gpus(self) -> int:
        """Whole graphics processors."""
        ...


class Queued(Need, Protocol):
    """Somebody who waits for one of several places."""

    @property
    def places(self) -> Sequence[str]:
        """Names of the places that would do."""
        ...


@dataclass(frozen=True, slots=True)
class Room:
    """What is free in one place."""

    slots: int
    memory_gib: float = math.inf
    gpus: int = 0

    def lacks(self, need: Need) -> str | None:
        """What there is too little of: `slots`, `memory` or `gpus`; None when the need fits."""
        if self.slots < 1:
            return "slots"
        if need.memory_gib > self.memory_gib:
            return "memory"
        return "gpus" if need.gpus > self.gpus else None

    def less(self, need: Need) -> Room:
        """The room after somebody took a slot."""
        return Room(self.slots - 1, self.memory_gib - need.memory_gib, self.gpus - need.gpus)


NO_ROOM = Room(0, 0.0, 0)


def empty_rooms(places: Iterable[PlaceConfig]) -> dict[str, Room]:
    """The places as they are when nothing runs."""
    return {
        place.name: Room(
            place.capacity, math.inf if place.memory_gib is None else place.memory_gib, place.gpus
        )
        for place in places
    }


def seat(waiting: Sequence[Queued], rooms: Mapping[str, Room]) -> tuple[list[str | None], dict[str, Room]]:
    """Who of a queue gets a place now, and what is left for whoever comes after.

    In the queue's order each takes the place with most free slots that it fits in. Who lacks only graphics
    processors lets others pass: they take none away that would be waited for longer. Who lacks memory keeps
    the rest of these places free, because smaller sessions would take each bit as it comes.

    Returns
    -------
    The place of each, None for who goes on waiting; and the rooms left.
    """
    left = dict(rooms)
    seats: list[str | None] = []
    for one in waiting:
        lacking = {name: left.get(name, NO_ROOM).lacks(one) for name in one.places}
        fitting = [name for name, lack in lacking.items() if lack is None]
        if fitting:
            best = max(fitting, key=lambda name: left[name].slots)
            left[best] = left[best].less(one)
            seats.append(best)
            continue
        seats.append(None)
        for name, lack in lacking.items():
            if lack == "memory":
                left[name] = NO_ROOM
    return seats, left
