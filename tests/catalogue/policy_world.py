"""What a random facility is made of: a policy with rules, proposals, rows of offices, people, instants."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from beamhub_core.identity import Entitlement, FacilityRole, Principal, account_name
from beamhub_core.policy_document import PolicyDocument

ISSUER = "https://provider.example/oidc"
OTHER_ISSUER = "https://other.example/oidc"
NAMESPACE = "urn:geant:provider.example"
HIGH, MFA = "https://refeds.org/assurance/IAP/high", "https://refeds.org/profile/mfa"
CHECKED = datetime(2026, 6, 1, 12, tzinfo=UTC)
ZONES = ("Europe/Paris", "America/New_York", "Pacific/Apia", "Africa/Cairo", "UTC")

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
