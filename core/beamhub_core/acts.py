"""What authorised people do to a proposal's embargo, and what the policy makes of it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Literal

from pydantic import Field, model_validator

from beamhub_core.policy import ProposalFacts, opens_at, rules_for, start_of_day
from beamhub_core.policy_document import EmbargoClass, PolicyDocument
from beamhub_core.rights import ProposalRole
from beamhub_core.word import Word

ActKind = Literal["extension", "early_release", "withdrawal", "support_consent"]
_NEEDS: dict[ActKind, str | None] = {
    "extension": "months",
    "early_release": "day",
    "withdrawal": None,
    "support_consent": "until",
}
MAKERS: dict[ActKind, tuple[ProposalRole, ...]] = {
    "early_release": ("pi",),
    "support_consent": ("pi", "member"),
}
"""Roles of a proposal's team that may act; whatever is not named is for operators only."""
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


class ProposalAct(Word):
    """An act upon a proposal, or upon one of its datasets; `id` makes telling it twice the same as once."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$", description="Random, chosen by who tells the act.")
    proposal: str = Field(min_length=1, max_length=200, pattern=_PRINTABLE)
    kind: ActKind
    pid: str | None = Field(
        default=None, max_length=300, pattern=_PRINTABLE, description="The one dataset that is withdrawn."
    )
    months: int | None = Field(default=None, ge=1, le=120, description="Length of an extension.")
    day: date | None = Field(default=None, description="First day on which data released early is open.")
    until: datetime | None = Field(default=None, description="End of a consent.")
    reason: str = Field(
        min_length=1,
        max_length=500,
        pattern=_PRINTABLE,
        description="Why, in words without names of persons.",
    )

    @model_validator(mode="after")
    def _says_what_its_kind_needs(self) -> ProposalAct:
        told = {name for name in ("months", "day", "until") if getattr(self, name) is not None}
        needed = _NEEDS[self.kind]
        if told != ({needed} if needed else set()):
            raise ValueError(f"an act of the kind {self.kind} says {needed or 'none of months, day, until'}")
        if self.pid is not None and self.kind != "withdrawal":
            raise ValueError("only a withdrawal is of one dataset")
        if not self.reason.strip():
            raise ValueError("the reason is empty")
        if self.until is not None:
            _check_instant(self.until)
        return self


def _check_instant(when: datetime) -> None:
    if when.tzinfo is None:
        raise ValueError("until has no time zone")
    try:
        when.astimezone(UTC)  # the tables keep it so
    except OverflowError:
        raise ValueError("until lies outside of the years 1 to 9999") from None


def problem_of(
    act: ProposalAct, proposal: ProposalFacts, policy: PolicyDocument, now: datetime
) -> str | None:
    """Why the policy does not allow an act at an instant, in words; None where it does.

    What is open stays open: an embargo that is over is not extended.
    """
    rules = rules_for(proposal, policy)
    if act.kind == "support_consent":
        if rules.roles.support != "with_consent":
            return f"The policy asks for no consent to support: it is {rules.roles.support} there."
        if act.until is not None and act.until <= now:
            return f"The consent would have ended already, on {act.until:%Y-%m-%d}."
    if act.kind not in ("extension", "early_release"):
        return None
    opening = opens_at(proposal, policy)
    if opening is not None and opening <= now:
        return f"The data of {proposal.id} is open since {opening:%Y-%m-%d}."
    if act.kind == "extension":
        return _problem_of_extension(act, proposal, rules)
    return _problem_of_release(act, proposal, rules, policy, now)


def _problem_of_extension(act: ProposalAct, proposal: ProposalFacts, rules: EmbargoClass) -> str | None:
    if proposal.released_on is not None:
        return f"An early release on {proposal.released_on} stands; revoke it first."
    n_granted, steps = len(proposal.extension_months), rules.extension_months
    if n_granted >= len(steps):
        return f"The policy allows {len(steps)} extension(s), and {n_granted} stand already."
    if act.months is not None and act.months > steps[n_granted]:
        return f"The policy allows {steps[n_granted]} months for this extension, not {act.months}."
    return None


def _problem_of_release(
    act: ProposalAct, proposal: ProposalFacts, rules: EmbargoClass, policy: PolicyDocument, now: datetime
) -> str | None:
    if rules.embargo_months == "never":
        return f"The policy never opens the data of {proposal.id}."
    today = now.astimezone(policy.zone).date()
    if act.day is None or act.day < today:
        return f"The day {act.day} is past. The first day on which data can be released is {today}."
    opening = opens_at(proposal, policy)
    if opening is not None and start_of_day(act.day, policy) >= opening:
        return f"The data of {proposal.id} opens on {opening:%Y-%m-%d} already."
    return None
