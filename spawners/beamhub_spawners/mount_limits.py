"""What of a plan's mounts cannot be honoured: refused by name, or said. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from beamhub_core.config.storage import PoolConfig
from beamhub_core.session import Mount
from beamhub_spawners.group_choice import choose_groups
from beamhub_spawners.mount_names import unmountable
from beamhub_spawners.mounts import MAX_MOUNTS
from beamhub_spawners.refusal import refuse
from beamhub_spawners.rescue import message
from beamhub_spawners.start_facts import StartFacts

MAX_NAMED = 5


def check_mounts(mounts: tuple[Mount, ...]) -> None:
    """Raise `Refused` for mounts that are too many, or a name that cannot be mounted as it is."""
    for mount in mounts:
        for path in (mount.path, mount.source, mount.target):
            reason = unmountable(path)
            if reason is not None:
                named = mount.path.encode("unicode_escape").decode()
                shown = named if len(named) <= 120 else f"{named[:119]}…"
                raise refuse(
                    "bad_request",
                    mount.pid or shown,
                    f"The folder '{shown}' of {mount.pid or mount.pool} cannot be mounted: {reason}.",
                )
    if len(mounts) > MAX_MOUNTS:
        proposals = list(dict.fromkeys(mount.proposal for mount in mounts if mount.proposal is not None))
        named = ", ".join(proposals[:MAX_NAMED]) + (" and more" if len(proposals) > MAX_NAMED else "")
        raise refuse(
            "bad_request",
            f"{len(mounts)} folders",
            f"These datasets need {len(mounts)} folders, more than {MAX_MOUNTS}, and {named} may not be "
            "mounted as a whole; open fewer at once.",
        )


def fitting_groups(
    gid: int | None,
    gids: tuple[int, ...],
    mounts: tuple[Mount, ...],
    pools: Mapping[str, PoolConfig],
    facts: StartFacts,
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The supplementary groups of a session that its pools can carry, and all notes on its folders.

    Raises
    ------
    Refused
        By name of the groups and the pools, if folders of the session need more than arrive.
    """
    notes = [*facts.notes, *([message(facts.full_home)] if facts.full_home else [])]
    limited = sorted(
        {mount.pool for mount in mounts if mount.pool in pools and pools[mount.pool].group_mode == "auth_sys"}
    )
    if gid is None or not limited:
        return gids, tuple(notes)
    chosen = choose_groups(gid, gids, facts.needed_gids or ())
    named = ", ".join(limited)
    if chosen.missing:
        missing = ", ".join(str(one) for one in chosen.missing)
        raise refuse(
            "no_place",
            named,
            f"Storage pool {named} takes 16 groups of a person (AUTH_SYS), and the folders asked for need "
            f"more: the groups {missing} would be left out. Open fewer datasets at once.",
        )
    if chosen.dropped:
        those = "those of its folders first" if facts.needed_gids is not None else "the first of your list"
        notes.append(
            f"You have more groups than storage pool {named} takes (16, AUTH_SYS): this session has "
            f"{those} and goes without {', '.join(str(one) for one in chosen.dropped)}."
        )
    return chosen.kept, tuple(notes)
