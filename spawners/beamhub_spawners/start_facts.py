"""What a plan must know of the world besides rights and places, so that it stays pure."""

from __future__ import annotations

from dataclasses import dataclass

from beamhub_core.identity import Principal


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What was found out for one start.

    Parameters
    ----------
    unmapped_uid:
        The number kept for an account that the facility gave none; None when it needs none.
    full_home:
        Why the home is full; None where it is not, or cannot be seen from here: then the session finds out.
    needed_gids:
        Groups through which alone the person reaches the wanted folders; asked only where a limit on their
        number may matter. None where nobody here can see the folders.
    notes:
        What to tell the person.
    """

    unmapped_uid: int | None = None
    full_home: str | None = None
    needed_gids: tuple[int, ...] | None = ()
    notes: tuple[str, ...] = ()


NO_FACTS = StartFacts()


def is_mapped(principal: Principal) -> bool:
    """Whether the facility gave a person a numeric identity."""
    return principal.uid is not None and principal.gid is not None
