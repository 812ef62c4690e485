"""An independent model of the data policy, from its prose: the oracle of the engine and of the guards.

Prose. Industrial access is sealed; otherwise the class of the proposal decides, but a confidential one on
bl02 stands under `vetted` when it begins in 2021 or later, and under nothing as long as its day is unknown.
The embargo counts in months from the last day, extensions added as far as the class has steps for them; an
early release opens earlier, but nothing that is sealed. Before that day the team reads, and of the
facility's people those whom the class lets in, if the login is strong enough; others know of it where
metadata is public. Withdrawn: who may know of it knows, nobody reads. In a home: for its maker alone. A
product: what it and every one of its inputs allow. The team's writers write; open data is mounted for
people with accounts, for guests only where the class says so. Without any rule: for the team alone.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from beamhub_core.identity import Principal
from catalogue.policy_world import CLASSES, Dataset, Proposal, World  # the folder of these tests

Answer = tuple[bool, bool, bool, bool]
"""Whether a reader knows of a dataset, reads it, may mount it, may write beside it."""


class Oracle:
    """What one person may do in a world at an instant."""

    def __init__(self, world: World, who: Principal | None, now: datetime) -> None:
        self.world, self.who, self.now = world, who, now
        self.roles = who.roles if who else ()

    def name_of(self, p: Proposal | None) -> str | None:
        if p is None or p.word is None or p.word not in ("open", "standard", "confidential", "vetted"):
            return None
        if p.route == "industrial":
            return "sealed"
        if p.word == "confidential" and p.instrument == "bl02":
            day = p.start or p.end
            return None if day is None else "vetted" if day.year >= 2021 else "confidential"
        return p.word

    def midnight(self, day: date) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.world.zone))

    def opening(self, p: Proposal, rules: dict) -> datetime | None:
        if rules["embargo_months"] == "never":
            return None
        days = [p.released] if p.released else []
        if p.end:
            granted = zip(p.extensions, rules.get("extension_months", []), strict=False)
            months = p.end.month - 1 + rules["embargo_months"] + sum(min(pair) for pair in granted)
            year, month, day = p.end.year + months // 12, months % 12 + 1, p.end.day
            while True:
                try:
                    days.append(date(year, month, day) + timedelta(days=1))
                    break
                except ValueError:
                    day -= 1  # the month is shorter
        return self.midnight(min(days)) if days else None

    def team(self, proposal: str) -> set[str]:
        """The roles of rows that hold and of entitlements; a removal on either side ends both."""
        if self.who is None:
            return set()
        ours = [r for r in self.world.rows if r.proposal == proposal and r.names(self.who)]
        standing = [r for r in ours if not r.removed and (r.until is None or r.until > self.now)]
        if (ours and not standing) or (self.who.subject, proposal) in self.world.lost:
            return set()
        begun = {r.role for r in standing if r.since is None or r.since <= self.now}
        return begun | {"member" for e in self.who.entitlements if e.subgroups == (proposal,)}

    def staff(self, p: Proposal | None, roles: dict) -> bool:
        """Whether one of the facility's own roles lets the reader in."""
        if p is None or self.who is None:
            return False
        scientist = "instrument_scientist" in self.roles or any(
            s.instrument == p.instrument and s.names(self.who) and s.holds(self.now) for s in self.world.staff
        )
        running = p.end is None or self.now < self.midnight(p.end + timedelta(days=1))
        says = roles.get("instrument_scientist", "during_and_after")
        if scientist and (says == "during_and_after" or (says == "during" and running)):
            return True
        consent = p.support_until is not None and self.now < p.support_until
        says = roles.get("support", "with_consent")
        if "support" in self.roles and (says == "always" or (says == "with_consent" and consent)):
            return True
        return "service" in self.roles and roles.get("service", "never") == "read"

    def alone(self, d: Dataset) -> Answer:
        p = self.world.proposals.get(d.proposal)
        name, team = self.name_of(p), self.team(d.proposal)
        rules = CLASSES[name] if name else {"embargo_months": "never", "metadata": "team"}
        inside = bool(team) or (name is not None and self.staff(p, rules.get("roles", {})))
        opening = self.opening(p, rules) if p else None
        is_open = opening is not None and self.now >= opening
        knows = is_open or inside or rules["metadata"] == "public"
        if not knows or (d.private_to and (self.who is None or d.private_to != self.who.account)):
            return False, False, False, False
        strong = self.who is not None and set(rules.get("required_assurance", [])) <= set(self.who.assurance)
        strong = strong and ("required_acr" not in rules or self.who.acr in rules["required_acr"])
        reads = (is_open or (inside and strong)) and not (d.withdrawn or (p is not None and p.withdrawn))
        barred = is_open and "guest" in self.roles and not team and rules.get("guests") == "look"
        mounts = reads and self.who is not None and not barred
        return True, reads, mounts, reads and bool(team & {"pi", "member"})

    def answer(self, d: Dataset) -> Answer:
        own = self.alone(d)
        if not d.inputs:
            return own
        each = [own, *(self.answer(self.world.datasets[i]) for i in d.inputs)]
        return all(a[0] for a in each), all(a[1] for a in each), all(a[2] for a in each), False
