"""Choose where a session runs: next to its data, and say why. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from beamhub_core.rights import Refusal, Refused
from beamhub_core.session import ExplainRecord, Place, PlaceVerdict
from beamhub_spawners.refusal import refuse

Score = tuple[float, float, int, int, float]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a session asks of a place.

    Parameters
    ----------
    bytes_per_pool:
        Bytes of granted data on each storage pool, by the pool's name. A pool named with 0 bytes is
        wanted all the same: its folders will be mounted.
    image:
        Image to run; 'local' for none.
    gpus:
        Whole GPUs.
    memory_gib:
        Memory of the session, GiB.
    key:
        What ties are broken by, for example account and server name: the same wish lands on the same
        place while nothing else differs.
    """

    bytes_per_pool: Mapping[str, int]
    image: str
    gpus: int = 0
    key: str = ""
    memory_gib: float = 0.0


class PlacesFull(Refused):
    """Places that would do have no room now; `places` names them."""

    def __init__(self, refusal: Refusal, places: tuple[str, ...]) -> None:
        super().__init__(refusal)
        self.args = (refusal, places)  # pickle rebuilds the error from args
        self.places = places


def choose(wanted: Wanted, places: Sequence[Place]) -> tuple[Place, ExplainRecord]:
    """The best place for a session, with the verdict on every place.

    Hard filters first: each pool that holds granted data is mounted there and answers, the place can have
    the image and has the GPUs at all; then a session slot, GPUs and memory are free now. Then, in this
    order: most bytes local, least link cost for the rest, a warm slot, the image already present, least
    load; a tie goes by a hash of the wish and the place, whatever order the places come in.

    Raises
    ------
    PlacesFull
        When places fit but for what is free now (code `full`).
    Refused
        Code `no_place` when none does.
    """
    verdicts: list[PlaceVerdict] = []
    fitting: list[tuple[Score, str, Place]] = []
    full: list[str] = []
    for place in sorted(places, key=lambda place: place.name):
        missing = _shortcomings(wanted, place)
        taken = _taken(wanted, place)
        full += [place.name] if taken and not missing else []
        reasons = [*missing, *taken]
        if reasons:
            verdicts.append(PlaceVerdict(place=place.name, fits=False, reasons=tuple(reasons)))
            continue
        score = _score(wanted, place)
        fitting.append((score, _tie(wanted.key, place.name), place))
        verdicts.append(
            PlaceVerdict(
                place=place.name,
                fits=True,
                reasons=_said(wanted, place),
                bytes_local=int(-score[0]),
                link_cost=score[1],
            )
        )
    if not fitting:
        raise _refusal(wanted, verdicts, full=tuple(full))
    best = min(fitting, key=lambda candidate: candidate[:2])
    record = ExplainRecord(chosen=best[2].name, because=_because(fitting, best), verdicts=tuple(verdicts))
    return best[2], record


def _shortcomings(wanted: Wanted, place: Place) -> list[str]:
    if place.fault is not None:
        return [place.fault]  # and nothing of its pools, which may be well
    reasons = []
    for pool in sorted(wanted.bytes_per_pool):
        if pool in place.pools and pool not in place.healthy_pools:
            fault = place.pool_faults.get(pool, "does not answer")
            reasons.append(f"storage pool {pool} there: {fault}")
        elif pool not in place.pools:
            reasons.append(f"storage pool {pool} is not mounted there")
    if wanted.gpus > place.gpus:
        reasons.append(f"needs {_gpus(wanted.gpus)}, has {place.gpus or 'none'}")
    if wanted.image in place.image_faults:
        reasons.append(f"the environment's image is not to be had there: {place.image_faults[wanted.image]}")
    return reasons


def _taken(wanted: Wanted, place: Place) -> list[str]:
    """What is in use there now, so that another time the place would do."""
    reasons = []
    if place.running >= place.capacity:
        reasons.append(f"full: {place.running} of {place.capacity} sessions")
    if place.gpus >= wanted.gpus > place.gpus - place.gpus_used:
        reasons.append(f"needs {_gpus(wanted.gpus)}, {place.gpus_used} of {place.gpus} are in use")
    if place.memory_free_gib is not None and wanted.memory_gib > place.memory_free_gib:
        free = max(0.0, place.memory_free_gib)
        reasons.append(f"needs {wanted.memory_gib:g} GiB of memory, {free:g} are free")
    return reasons


def _gpus(n: int) -> str:
    return "1 GPU" if n == 1 else f"{n} GPUs"


def _score(wanted: Wanted, place: Place) -> Score:
    """Smaller is better, field by field."""
    costs = {
        pool: place.link_costs.get(pool, 0.0) * n_bytes for pool, n_bytes in wanted.bytes_per_pool.items()
    }
    local = sum(n for pool, n in wanted.bytes_per_pool.items() if place.link_costs.get(pool, 0.0) == 0)
    return (
        -local,
        sum(costs[pool] for pool in sorted(costs)),
        0 if place.warm > 0 else 1,
        0 if wanted.image == "local" or wanted.image in place.images else 1,
        place.running / place.capacity,
    )


def _tie(key: str, place: str) -> str:
    return hashlib.sha256(f"{key}\0{place}".encode()).hexdigest()


def _said(wanted: Wanted, place: Place) -> tuple[str, ...]:
    score = _score(wanted, place)
    total = sum(wanted.bytes_per_pool.values())
    lines = [f"{int(-score[0])} of {total} bytes are local"] if total else ["no data asked for"]
    if score[1]:
        lines.append(f"link cost {score[1]:g} for the rest")
    lines.append(f"{place.running} of {place.capacity} sessions run there")
    if place.warm:
        lines.append("a warm slot is free")
    if score[3] == 0 and wanted.image != "local":
        lines.append("the image is present")
    return tuple(lines)


_CRITERIA = (
    "most of the data is local there",
    "the rest of the data is cheapest to reach",
    "a warm slot is free",
    "the image is already there",
    "it carries the least load",
)


def _because(fitting: list[tuple[Score, str, Place]], best: tuple[Score, str, Place]) -> str:
    others = [candidate[0] for candidate in fitting if candidate is not best]
    if not others:
        return "the only place that fits"
    rival = min(others)
    for ours, theirs, words in zip(best[0], rival, _CRITERIA, strict=True):
        if ours != theirs:
            return words
    return "equal to others in all respects; picked by a stable hash"


def _refusal(wanted: Wanted, verdicts: list[PlaceVerdict], *, full: tuple[str, ...]) -> Refused:
    pools = ", ".join(sorted(wanted.bytes_per_pool)) or "no data"
    if full:
        refused = refuse("full", pools, "Every place beside this data is full. Stop a session or try later.")
        return PlacesFull(refused.refusal, full)
    detail = "; ".join(f"{verdict.place}: {', '.join(verdict.reasons)}" for verdict in verdicts)
    return refuse("no_place", pools, f"No place can run this session ({detail or 'none is configured'}).")
