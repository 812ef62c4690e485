"""Places where a session's folders can be had in the mode that it needs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from beamhub_core.rights import GrantAnswer, Refused
from beamhub_core.session import ExplainRecord, Place, PlaceVerdict
from beamhub_spawners.mounts import is_processed
from beamhub_spawners.placement import Wanted, choose


def pools_to_write(answer: GrantAnswer) -> frozenset[str]:
    """The pools with folders that somebody may write results to."""
    return frozenset(
        grant.folder.pool for grant in answer.grants if grant.mode == "rw" and is_processed(grant.folder)
    )


def choose_in_mode(
    wanted: Wanted, places: Sequence[Place], writes: frozenset[str]
) -> tuple[Place, ExplainRecord]:
    """The best place of those where results can be written; of all, where there is none.

    A session that can only read is better than none: its results go to the home, and the plan says so.

    Raises
    ------
    Refused
        As `placement.choose` does for all places.
    """
    broken = {place.name: sorted(writes.intersection(place.read_only_pools)) for place in places}
    able = [place for place in places if not broken[place.name]]
    if len(able) < len(places):
        try:
            place, record = choose(wanted, able)
        except Refused:
            return choose(wanted, places)
        ruled_out = tuple(
            PlaceVerdict(
                place=name,
                fits=False,
                reasons=tuple(f"storage pool {pool} there: read-only" for pool in pools),
            )
            for name, pools in sorted(broken.items())
            if pools
        )
        return place, record.model_copy(update={"verdicts": (*record.verdicts, *ruled_out)})
    return choose(wanted, places)
