"""Random facilities, drawn from a source of chance; instants lie on the edges that the oracle reckons."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from beamhub_core.identity import Principal, account_name
from catalogue.policy_oracle import Oracle  # the folder of these tests, not the room
from catalogue.policy_world import (  # likewise
    CHECKED,
    CLASSES,
    HIGH,
    IDENTITIES,
    ISSUER,
    MFA,
    ZONES,
    Dataset,
    Proposal,
    Row,
    World,
    entitled,
    person,
)

SECOND = timedelta(seconds=1)


def build_world(rng: random.Random, n_proposals: int = 3, n_datasets: int = 6, n_instants: int = 2) -> World:
    """A world drawn from a source of chance."""
    names = [f"P{i}" for i in range(1, n_proposals + 1)]  # P1 and P10 are both there when there are ten
    unknown = "X9"
    proposals = {name: _proposal(rng, name) for name in names}
    everywhere = [*names, unknown]
    zone = rng.choice(ZONES)
    edges = _edges(rng, zone, proposals)
    instants = [rng.choice(edges) + rng.choice([-1, 0, 0, 1]) * SECOND for _ in range(n_instants)]
    rows = [_row(rng, rng.choice(everywhere), instants) for _ in range(2 * n_proposals)]
    staff = [
        Row(
            _identity(rng.choice(["assigned", "assigned", "member", "namesake"])),
            None,
            instrument=rng.choice(["bl01", "bl02"]),
            since=_near(rng, instants),
            until=_near(rng, instants),
            removed=rng.random() < 0.4,
        )
        for _ in range(rng.randint(0, 4))
    ]
    some = rng.sample(everywhere, k=max(1, len(everywhere) // 3))
    people = _people(some, rng)
    lost = {("member", name) for name in everywhere if rng.random() < 0.15}
    return World(
        zone,
        proposals,
        rows,
        staff,
        lost,
        _datasets(rng, everywhere, n_datasets),
        people,
        instants,
    )


def _people(some: list[str], rng: random.Random) -> dict[str, Principal | None]:
    login: dict[str, Any] = {"assurance": (HIGH,)} if rng.random() < 0.7 else {}
    login |= {"acr": MFA} if rng.random() < 0.7 else {}
    orcid = {"orcid": "0000-0002-1825-0097"}
    return {
        "owner": person("owner", **login),
        "member": person("member", entitlements=entitled(*some), **orcid, **login),
        "former": person("former", facility_account="former7"),
        "instrument scientist": person("scientist", roles=("instrument_scientist",), **login),
        "assigned": person("assigned", facility_account="assigned7", **login),
        "support": person("support", roles=("support",)),
        "service": person("robot", roles=("service",)),
        "guest": person("guest", roles=("guest",), entitlements=entitled(*some)),
        "stranger": person("stranger", entitlements=entitled("XX-1", "P")),
        "anonymous": None,
    }


def _proposal(rng: random.Random, name: str) -> Proposal:
    end = _day(rng) if rng.random() < 0.75 else None
    start = None if rng.random() < 0.4 else (end or _day(rng)) - timedelta(days=rng.randint(0, 5))
    return Proposal(
        name,
        rng.choice(["open", "standard", "confidential", "confidential", "vetted", "unheard-of", None]),
        rng.choice(["", "peer", "peer", "industrial"]),
        rng.choice(["bl01", "bl02"]),
        start,
        end,
        rng.random() < 0.1,
        tuple(rng.choice([6, 12, 24]) for _ in range(rng.choice([0, 0, 1, 2, 3]))),
        _day(rng) if rng.random() < 0.15 else None,
        datetime.combine(_day(rng), datetime.min.time(), tzinfo=UTC) if rng.random() < 0.5 else None,
    )


def _day(rng: random.Random) -> date:
    if rng.random() < 0.1:
        return rng.choice([date(2020, 2, 29), date(2024, 2, 29), date(2020, 12, 31), date(2021, 1, 1)])
    if rng.random() < 0.1:  # nights in which clocks change
        return rng.choice([date(2023, 3, 25), date(2023, 10, 28), date(2023, 10, 29), date(2023, 4, 27)])
    return date(2018, 1, 1) + timedelta(days=rng.randint(0, 3600))


def _edges(rng: random.Random, zone: str, proposals: dict[str, Proposal]) -> list[datetime]:
    """The instants at which something changes in a world, as the oracle reckons them, in a random order."""
    world = World(zone, proposals, [], [], set(), [], {})
    oracle = Oracle(world, None, CHECKED)
    edges = [CHECKED]
    for p in proposals.values():
        name = oracle.name_of(p)
        opening = oracle.opening(p, CLASSES[name]) if name else None
        edges += [opening] if opening else []
        edges += [oracle.midnight(p.end + timedelta(days=1))] if p.end else []
        edges += [p.support_until] if p.support_until else []
    edges = [edge.astimezone(UTC) for edge in edges]
    rng.shuffle(edges)
    return edges


def _near(rng: random.Random, instants: list[datetime]) -> datetime | None:
    if rng.random() < 0.5:
        return None
    return rng.choice(instants) + rng.choice([-86400, -1, 0, 1, 86400]) * SECOND


def _identity(who: str) -> tuple[tuple[str, str], ...]:
    return tuple(IDENTITIES[who].items())


def _row(rng: random.Random, proposal: str, instants: list[datetime]) -> Row:
    who = rng.choice(["owner", "owner", "member", "former", "former", "namesake"])
    since, until = _near(rng, instants), _near(rng, instants)
    role = rng.choice(["pi", "member", "local_contact"])
    return Row(_identity(who), role, proposal, "", since, until, rng.random() < 0.2)


def _datasets(rng: random.Random, proposals: list[str], count: int) -> list[Dataset]:
    made: list[Dataset] = []
    for i in range(count):
        product = i > 1 and rng.random() < 0.3
        inputs = tuple(sorted(rng.sample(range(i), k=min(i, rng.randint(1, 2))))) if product else ()
        owner = account_name(ISSUER, "owner") if product and rng.random() < 0.4 else None
        made.append(Dataset(f"t:{i}", rng.choice(proposals), inputs, rng.random() < 0.1, owner))
    return made
