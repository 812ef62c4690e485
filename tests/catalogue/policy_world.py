"""Random facilities: a policy with rules, proposals, rows of offices, people of every kind, and instants."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from beamhub_core.identity import Entitlement, FacilityRole, Principal, account_name
from beamhub_core.policy_document import PolicyDocument

ISSUER = "https://provider.example/oidc"
OTHER_ISSUER = "https://other.example/oidc"
NAMESPACE = "urn:geant:provider.example"
HIGH, MFA = "https://refeds.org/assurance/IAP/high", "https://refeds.org/profile/mfa"
CHECKED = datetime(2026, 6, 1, 12, tzinfo=UTC)
ZONES = ("Europe/Paris", "America/New_York", "Pacific/Apia", "Africa/Cairo", "UTC")
SECOND = timedelta(seconds=1)

CLASSES: dict[str, dict[str, Any]] = {
    "open": {"embargo_months": 0, "metadata": "public", "guests": "look"},
    "standard": {"embargo_months": 36, "metadata": "public", "extension_months": [12, 6], "guests": "open"},
    "confidential": {
        "embargo_months": 13,
        "metadata": "team",
        "extension_months": [6],
        "roles": {"instrument_scientist": "during", "support": "always", "service": "read"},
    },
    "vetted": {
        "embargo_months": 36,
        "metadata": "public",
        "required_assurance": [HIGH],
        "required_acr": [MFA],
        "roles": {"instrument_scientist": "during_and_after", "support": "never"},
    },
    "sealed": {
        "embargo_months": "never",
        "metadata": "team",
        "roles": {"instrument_scientist": "during", "support": "never"},
    },
}
NOT_SOLD = {"access_routes": ["", "peer"]}
CONFIDENTIAL = NOT_SOLD | {"proposal_classes": ["confidential"]}
RULES: list[dict[str, Any]] = [
    {"name": "sold", "access_routes": ["industrial"], "embargo_class": "sealed"},
    {"name": "open", "proposal_classes": ["open"], "embargo_class": "open"} | NOT_SOLD,
    {"name": "standard", "proposal_classes": ["standard"], "embargo_class": "standard"} | NOT_SOLD,
    {"name": "vetted", "proposal_classes": ["vetted"], "embargo_class": "vetted"} | NOT_SOLD,
    {"name": "quiet", "instruments": ["bl01"], "embargo_class": "confidential"} | CONFIDENTIAL,
    {"name": "quiet until 2020", "instruments": ["bl02"], "last_day": "2020-12-31"}
    | {"embargo_class": "confidential"}
    | CONFIDENTIAL,
    {"name": "quiet since 2021", "instruments": ["bl02"], "first_day": "2021-01-01"}
    | {"embargo_class": "vetted"}
    | CONFIDENTIAL,
]
DOCUMENT: dict[str, Any] = {
    "version": "world",
    "instruments": ["bl01", "bl02"],
    "proposal_classes": ["open", "standard", "confidential", "vetted"],
    "access_routes": ["", "peer", "industrial"],
    "classes": CLASSES,
    "rules": RULES,
}


def policy_in(zone: str) -> PolicyDocument:
    """The policy of a world."""
    return PolicyDocument.model_validate(DOCUMENT | {"timezone": zone})


@dataclass(frozen=True)
class Proposal:
    """A proposal with what was done to it."""

    name: str
    word: str | None
    route: str
    instrument: str
    start: date | None
    end: date | None
    withdrawn: bool = False
    extensions: tuple[int, ...] = ()
    released: date | None = None
    support_until: datetime | None = None


@dataclass(frozen=True)
class Row:
    """A row of a user office: a place in a proposal, or (role None) the charge of an instrument."""

    identity: tuple[tuple[str, str], ...]
    role: str | None
    proposal: str = ""
    instrument: str = ""
    since: datetime | None = None
    until: datetime | None = None
    removed: bool = False

    def names(self, who: Principal) -> bool:
        """Whether the row is of this person, by any identity."""
        told = dict(self.identity)
        if (told.get("issuer"), told.get("subject")) == (who.issuer, who.subject):
            return True
        by_orcid = who.orcid is not None and told.get("orcid") == who.orcid
        return by_orcid or (
            who.facility_account is not None and told.get("facility_account") == who.facility_account
        )

    def holds(self, now: datetime) -> bool:
        """Whether it holds at an instant."""
        begun = self.since is None or self.since <= now
        return begun and not self.removed and (self.until is None or now < self.until)


@dataclass(frozen=True)
class Dataset:
    """A raw dataset, or a product of earlier ones."""

    pid: str
    proposal: str
    inputs: tuple[int, ...] = ()
    withdrawn: bool = False
    private_to: str | None = None


@dataclass
class World:
    """A facility, its people and the instants to look at."""

    zone: str
    proposals: dict[str, Proposal]
    rows: list[Row]
    staff: list[Row]
    lost: set[tuple[str, str]]
    datasets: list[Dataset]
    people: dict[str, Principal | None]
    instants: list[datetime] = field(default_factory=list)


def person(subject: str, *, roles: tuple[FacilityRole, ...] = (), **facts: Any) -> Principal:
    """Somebody who logged in."""
    return Principal(
        issuer=ISSUER,
        subject=subject,
        account=account_name(ISSUER, subject),
        display_name=subject.title(),
        roles=roles,
        checked_at=CHECKED,
        **facts,
    )


def entitled(*proposals: str) -> tuple[Entitlement, ...]:
    """Memberships that a community asserts."""
    words = {"namespace": NAMESPACE, "group": "proposals", "role": "member"}
    return tuple(Entitlement(subgroups=(p,), **words) for p in proposals)


IDENTITIES = {
    "owner": {"issuer": ISSUER, "subject": "owner"},
    "member": {"orcid": "0000-0002-1825-0097"},
    "former": {"facility_account": "former7"},
    "assigned": {"facility_account": "assigned7"},
    "namesake": {"issuer": OTHER_ISSUER, "subject": "owner"},
}


def build_world(rng: random.Random, n_proposals: int = 3, n_datasets: int = 6, n_instants: int = 2) -> World:
    """A world drawn from a source of chance."""
    names = [f"P{i}" for i in range(1, n_proposals + 1)]  # P1 and P10 are both there when there are ten
    unknown = "X9"
    proposals = {name: _proposal(rng, name) for name in names}
    everywhere = [*names, unknown]
    edges = _edges(rng, list(proposals.values()))
    instants = [rng.choice(edges) + rng.choice([-1, 0, 1]) * SECOND for _ in range(n_instants)]
    rows = [_row(rng, rng.choice(everywhere), instants) for _ in range(2 * n_proposals)]
    staff = [
        Row(
            _identity(rng.choice(["assigned", "assigned", "member", "namesake"])),
            None,
            instrument=rng.choice(["bl01", "bl02"]),
            since=_near(rng, instants),
            until=_near(rng, instants),
            removed=rng.random() < 0.2,
        )
        for _ in range(rng.randint(0, 2))
    ]
    some = rng.sample(everywhere, k=max(1, len(everywhere) // 3))
    people = _people(some, rng)
    lost = {("member", name) for name in everywhere if rng.random() < 0.15}
    return World(
        rng.choice(ZONES),
        proposals,
        rows,
        staff,
        lost,
        _datasets(rng, everywhere, n_datasets),
        people,
        instants,
    )


def _people(some: list[str], rng: random.Random) -> dict[str, Principal | None]:
    login: dict[str, Any] = {"assurance": (HIGH,), "acr": MFA} if rng.random() < 0.5 else {}
    orcid = {"orcid": "0000-0002-1825-0097"}
    return {
        "owner": person("owner", **login),
        "member": person("member", entitlements=entitled(*some), **orcid, **login),
        "former": person("former", facility_account="former7"),
        "instrument scientist": person("scientist", roles=("instrument_scientist",), **login),
        "assigned": person("assigned", facility_account="assigned7", **login),
        "support": person("support", roles=("support",)),
        "service": person("robot", roles=("service",)),
        "guest": person("guest", roles=("guest",), entitlements=entitled(*some[:1])),
        "stranger": person("stranger", entitlements=entitled("XX-1", "P")),
        "anonymous": None,
    }


def _proposal(rng: random.Random, name: str) -> Proposal:
    end = _day(rng) if rng.random() < 0.8 else None
    start = None if rng.random() < 0.3 else (end or _day(rng)) - timedelta(days=rng.randint(0, 5))
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
        datetime.combine(_day(rng), datetime.min.time(), tzinfo=UTC) if rng.random() < 0.3 else None,
    )


def _day(rng: random.Random) -> date:
    if rng.random() < 0.1:
        return rng.choice([date(2020, 2, 29), date(2024, 2, 29), date(2020, 12, 31), date(2021, 1, 1)])
    if rng.random() < 0.1:  # nights in which clocks change
        return rng.choice([date(2023, 3, 25), date(2023, 10, 28), date(2023, 10, 29), date(2023, 4, 27)])
    return date(2018, 1, 1) + timedelta(days=rng.randint(0, 3600))


def _edges(rng: random.Random, proposals: list[Proposal]) -> list[datetime]:
    """Instants at which something may change, found by asking every day's midnight of interest in UTC."""
    edges = [CHECKED]
    for proposal in proposals:
        for day in (proposal.end, proposal.released):
            if day is not None:
                edges += [_midnight(add, offset) for add in _later(day) for offset in (-14, -2, -1, 0, 4, 5)]
        edges += [proposal.support_until] if proposal.support_until else []
    rng.shuffle(edges)
    return edges


def _later(day: date) -> list[date]:
    """The days after a day and after embargoes of it, roughly: the neighbours of every month's end."""
    return [day + timedelta(days=1)] + [
        date(day.year + months // 12, day.month, min(day.day, 28)) + timedelta(days=extra)
        for months in (36, 48)
        for extra in (0, 1, 2)
    ]


def _midnight(day: date, offset_h: int) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=offset_h)


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
