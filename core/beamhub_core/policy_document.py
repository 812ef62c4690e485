"""The data policy of a facility as a document: classes of embargo, and rules that choose among them."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from functools import cached_property
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from beamhub_core.config.section import Section, TimeZoneName
from beamhub_core.policy_rules import PolicyRule, rule_problems
from beamhub_core.rights import MetadataClass

Term = Annotated[str, StringConstraints(min_length=1, max_length=80)]
"""A word of the user office: an instrument, a class of proposals, an access route."""
MAX_EXTENSIONS = 12
_UNORDERED = {"instruments", "proposal_classes", "access_routes", "required_assurance", "required_acr"}


class RoleRules(Section):
    """What roles of the facility's own people may read of data that is not open."""

    instrument_scientist: Literal["never", "during", "during_and_after"] = Field(
        default="during_and_after",
        description="Scientists of the proposal's instrument: while the proposal runs, also later, or never.",
    )
    support: Literal["never", "with_consent", "always"] = Field(
        default="with_consent",
        description="People of user support; with_consent: where and as long as the proposal's team agreed.",
    )
    service: Literal["never", "read"] = Field(
        default="never", description="Service accounts, e.g. of an automatic reduction."
    )


class EmbargoClass(Section):
    """What one class of proposals promises."""

    embargo_months: Annotated[int, Field(ge=0, le=1200)] | Literal["never"] = Field(
        description="Months from the end of the proposal to the opening of its data; 'never' for data "
        "that stays closed, e.g. proprietary beamtime."
    )
    extension_months: tuple[Annotated[int, Field(ge=1, le=120)], ...] = Field(
        default=(),
        max_length=MAX_EXTENSIONS,
        description="Longest first, second, ... extension of the embargo that may be granted, in months.",
    )
    metadata: MetadataClass = Field(
        description="Who may know of a dataset before its date. public: everybody sees title, team, "
        "technique, instrument, dates and the end of the embargo; team: for others it does not exist."
    )
    license: str | None = Field(default=None, max_length=60, description="SPDX id of the licence once open.")
    required_assurance: tuple[str, ...] = Field(
        default=(), max_length=16, description="Assurance values a person needs while the data is not open."
    )
    required_acr: tuple[str, ...] = Field(
        default=(),
        max_length=16,
        description="Authentication contexts (acr) of which a login needs one while the data is not open, "
        "e.g. 'https://refeds.org/profile/mfa'.",
    )
    guests: Literal["look", "open"] = Field(
        default="open",
        description="What a person for whom no institution vouches may do with open data: look at it and "
        "download it, or also open it in a session.",
    )
    roles: RoleRules = RoleRules()

    @model_validator(mode="after")
    def _never_is_never(self) -> EmbargoClass:
        if self.embargo_months == "never" and self.extension_months:
            raise ValueError("an embargo that never ends has no extension_months")
        return self


class PolicyDocument(Section):
    """The data policy of a facility: `policy.yaml`; see `beamhub_core.policy_file.read_policy`.

    Without `rules`, a proposal stands under the embargo class that has the name of its own class. With
    rules, exactly one rule must fit every possible proposal: a gap and an overlap are both refused. The
    lists `instruments`, `proposal_classes` and `access_routes` say what is possible; without such a list,
    every other word is possible too. A proposal with a word that is not on a list stays closed.
    """

    version: str = Field(min_length=1, max_length=60, description="Changes with every change of the rules.")
    timezone: TimeZoneName = Field(description="IANA zone in which embargo days end.")
    instruments: tuple[Term, ...] | None = Field(
        default=None, min_length=1, max_length=500, description="Instruments that there are."
    )
    proposal_classes: tuple[Term, ...] | None = Field(
        default=None, min_length=1, max_length=200, description="Classes that the user office knows."
    )
    access_routes: tuple[Annotated[str, StringConstraints(max_length=80)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Ways to beamtime that the user office knows; '' is for proposals without one.",
    )
    classes: dict[str, EmbargoClass] = Field(min_length=1, max_length=200)
    rules: tuple[PolicyRule, ...] | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _rules_fit(self) -> PolicyDocument:
        found = list(rule_problems(self))
        if found:
            text = "; ".join(message for _, message in found)
            raise PydanticCustomError("rules_disagree", "{text}", {"text": text, "found": found})
        return self

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone in which embargo days end."""
        return ZoneInfo(self.timezone)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the document's meaning, hexadecimal; spaces and the order of keys do not count.

        Nor does the order of rules, of which just one ever fits, nor that of words in a list.
        """
        told = self.model_dump(mode="json")
        for part in (told, *(told["rules"] or ()), *told["classes"].values()):
            for key in _UNORDERED & part.keys():
                part[key] = sorted(set(part[key])) if part[key] is not None else None
        told["rules"] = told["rules"] and sorted(told["rules"], key=lambda rule: str(rule["name"]))
        canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def label(self) -> str:
        """The version with the beginning of the digest, to tell documents of one version apart."""
        return f"{self.version}@{self.digest[:8]}"

    def chosen(
        self, *, instrument: str, proposal_class: str | None, access_route: str, started: date | None
    ) -> tuple[str, str] | None:
        """The rule for a proposal and the embargo class it gives, by name; None where no rule is sure to fit.

        `proposal_class` is None where user offices contradict each other. A proposal without a first day is
        fitted by a rule only if that rule would fit it on every day.
        """
        if proposal_class is None:
            return None
        for word, possible in (
            (instrument, self.instruments),
            (proposal_class, self.proposal_classes),
            (access_route, self.access_routes),
        ):
            if possible is not None and word not in possible:
                return None
        if self.rules is None:
            return (proposal_class, proposal_class) if proposal_class in self.classes else None
        fitting = [
            rule for rule in self.rules if rule.fits(instrument, proposal_class, access_route, started)
        ]
        return (fitting[0].name, fitting[0].embargo_class) if len(fitting) == 1 else None
