"""What authorised people do to a proposal's embargo, and what the policy makes of it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field, model_validator

from beamhub_core.policy import ProposalFacts, rules_for
from beamhub_core.policy_document import PolicyDocument
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


class ProposalAct(Word):
    """An act upon a proposal, or upon one of its datasets; `id` makes telling it twice the same as once."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$", description="Random, chosen by who tells the act.")
    proposal: str = Field(min_length=1, max_length=200)
    kind: ActKind
    pid: str | None = Field(default=None, max_length=300, description="The one dataset that is withdrawn.")
    months: int | None = Field(default=None, ge=1, le=120, description="Length of an extension.")
    day: date | None = Field(default=None, description="First day on which data released early is open.")
    until: datetime | None = Field(default=None, description="End of a consent.")
    reason: str = Field(min_length=1, max_length=500, description="Why, in words without names of persons.")

    @model_validator(mode="after")
    def _says_what_its_kind_needs(self) -> ProposalAct:
        told = {name for name in ("months", "day", "until") if getattr(self, name) is not None}
        needed = _NEEDS[self.kind]
        if told != ({needed} if needed else set()):
            raise ValueError(f"an act of the kind {self.kind} says {needed or 'none of months, day, until'}")
        if self.pid is not None and self.kind != "withdrawal":
            raise ValueError("only a withdrawal is of one dataset")
        if self.until is not None and self.until.tzinfo is None:
            raise ValueError("until has no time zone")
        return self


def problem_of(act: ProposalAct, proposal: ProposalFacts, policy: PolicyDocument) -> str | None:
    """Why the policy does not allow an act, in words; None where it does."""
    rules = rules_for(proposal, policy)
    if act.kind == "extension":
        n_granted, steps = len(proposal.extension_months), rules.extension_months
        if n_granted >= len(steps):
            return f"The policy allows {len(steps)} extension(s), and {n_granted} stand already."
        if act.months is not None and act.months > steps[n_granted]:
            return f"The policy allows {steps[n_granted]} months for this extension, not {act.months}."
    if act.kind == "early_release" and rules.embargo_months == "never":
        return f"The policy never opens the data of {proposal.id}."
    if act.kind == "support_consent" and rules.roles.support != "with_consent":
        return f"The policy asks for no consent to support: it is {rules.roles.support} there."
    return None
