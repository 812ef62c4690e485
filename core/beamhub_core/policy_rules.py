"""Rules that give a proposal its embargo class, and the proof that exactly one fits every proposal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints, model_validator

from beamhub_core.config.document import Location
from beamhub_core.config.facility import nearest
from beamhub_core.config.section import Section

if TYPE_CHECKING:
    from beamhub_core.policy_document import PolicyDocument

Term = Annotated[str, StringConstraints(max_length=80)]
Terms = Annotated[tuple[Term, ...], Field(min_length=1, max_length=500)]
MAX_CASES = 200_000
MAX_PROBLEMS = 20


class PolicyRule(Section):
    """Which proposals stand under an embargo class; a condition that is left out fits all."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}$", description="For messages and the audit."
    )
    instruments: Terms | None = Field(default=None, description="Instruments of the proposals.")
    proposal_classes: Terms | None = Field(default=None, description="Classes, as the user office says.")
    access_routes: Terms | None = Field(
        default=None, description="Ways to beamtime, as the user office says; '' for proposals without one."
    )
    first_day: date | None = Field(default=None, description="Proposals that begin on this day or later.")
    last_day: date | None = Field(default=None, description="Proposals that begin on this day or earlier.")
    embargo_class: str = Field(min_length=1, max_length=80, description="The class that they stand under.")

    @model_validator(mode="after")
    def _days_in_order(self) -> PolicyRule:
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise ValueError(f"ends on {self.last_day}, before it begins on {self.first_day}")
        return self

    @cached_property
    def _sets(self) -> tuple[frozenset[str] | None, ...]:
        named = (self.instruments, self.proposal_classes, self.access_routes)
        return tuple(None if words is None else frozenset(words) for words in named)

    def fits(self, instrument: str, proposal_class: str, access_route: str, started: date | None) -> bool:
        """Whether a proposal may stand under the rule; one without a first day may begin on any day."""
        instruments, classes, routes = self._sets  # asked for every rule at every decision: no loop here
        return (
            (instruments is None or instrument in instruments)
            and (classes is None or proposal_class in classes)
            and (routes is None or access_route in routes)
            and (started is None or self.holds_on(started))
        )

    def holds_on(self, day: date) -> bool:
        """Whether a proposal that begins on a day may stand under the rule."""
        begun = self.first_day is None or self.first_day <= day
        return begun and (self.last_day is None or day <= self.last_day)


def rule_problems(policy: PolicyDocument) -> Iterator[tuple[Location, str]]:
    """What is wrong with the rules of a policy as a whole: location and message of each problem."""
    if policy.rules is None:
        return
    wrong = list(_unknown_words(policy, policy.rules))
    yield from wrong
    if not wrong:  # a misspelt word would only show up again as a gap
        yield from _gaps_and_overlaps(policy, policy.rules)


def _unknown_words(policy: PolicyDocument, rules: Sequence[PolicyRule]) -> Iterator[tuple[Location, str]]:
    names: set[str] = set()
    for i, rule in enumerate(rules):
        if rule.name in names:
            yield ("rules", i, "name"), f"the name {rule.name!r} stands twice"
        names.add(rule.name)
        if rule.embargo_class not in policy.classes:
            hint = nearest(rule.embargo_class, policy.classes)
            yield ("rules", i, "embargo_class"), f"no class is called {rule.embargo_class!r}{hint}"
        for key in ("instruments", "proposal_classes", "access_routes"):
            possible = getattr(policy, key)
            for word in getattr(rule, key) or ():
                if possible is not None and word not in possible:
                    yield ("rules", i, key), f"{word!r} is not on the list {key}{nearest(word, possible)}"


@dataclass(frozen=True, slots=True)
class _Side:
    """Values of one condition that no rule tells apart: an example in words, and who fits (a bit a rule)."""

    example: str
    fitting: int


def _gaps_and_overlaps(policy: PolicyDocument, rules: Sequence[PolicyRule]) -> Iterator[tuple[Location, str]]:
    """Every case that no rule or more than one rule fits, with an example; each pair of rules once.

    Values that no rule tells apart are one case, so the number of cases grows with the rules, not with
    the words.
    """
    sides = [
        _word_sides("instrument", policy.instruments, [r.instruments for r in rules]),
        _word_sides("proposal class", policy.proposal_classes, [r.proposal_classes for r in rules]),
        _word_sides("access route", policy.access_routes, [r.access_routes for r in rules]),
        _day_sides(rules),
    ]
    n_cases = 1
    for side in sides:
        n_cases *= len(side)
    if n_cases > MAX_CASES:
        yield ("rules",), f"the rules tell {n_cases} cases apart, more than {MAX_CASES}; join some"
        return
    told: set[tuple[int, ...]] = set()
    for case in product(*sides):
        fitting = case[0].fitting & case[1].fitting & case[2].fitting & case[3].fitting
        if fitting and not fitting & (fitting - 1):
            continue
        who = tuple(i for i in range(len(rules)) if fitting >> i & 1)[:2]
        if who in told or len(told) >= MAX_PROBLEMS:
            continue
        told.add(who)
        example = ", ".join(side.example for side in case if side.example)
        yield _problem(rules, who, example or "every proposal")


def _problem(rules: Sequence[PolicyRule], who: tuple[int, ...], example: str) -> tuple[Location, str]:
    if not who:
        names = ", ".join(repr(rule.name) for rule in rules[:20])
        return ("rules",), f"no rule fits this case: {example}; the rules are {names}"
    one, other = rules[who[0]].name, rules[who[1]].name
    return ("rules", who[1]), f"the rules {one!r} and {other!r} both fit this case: {example}"


def _word_sides(
    what: str, possible: Iterable[str] | None, named: Sequence[tuple[str, ...] | None]
) -> list[_Side]:
    by_fit: dict[int, str] = {}
    everywhere = sum(1 << i for i, words in enumerate(named) if words is None)
    sets = [frozenset(words) if words is not None else None for words in named]
    words = (
        possible if possible is not None else dict.fromkeys(w for ws in named if ws is not None for w in ws)
    )
    for word in words:
        fit = sum(1 << i for i, known in enumerate(sets) if known is None or word in known)
        by_fit.setdefault(fit, f"{what} {word!r}")
    if possible is None:
        by_fit.setdefault(everywhere, f"any other {what}" if by_fit else "")
    return [_Side(example, fit) for fit, example in by_fit.items()]


def _day_sides(rules: Sequence[PolicyRule]) -> list[_Side]:
    """Stretches of days between the first and last days of rules; a rule fits all of a stretch or nothing."""
    begins = {rule.first_day for rule in rules if rule.first_day and rule.first_day > date.min}
    begins |= {
        rule.last_day + timedelta(days=1) for rule in rules if rule.last_day and rule.last_day < date.max
    }
    by_fit: dict[int, str] = {}
    for day in (date.min, *sorted(begins)):
        fit = sum(1 << i for i, rule in enumerate(rules) if rule.holds_on(day))
        example = (
            f"beginning on {day}" if day > date.min else f"beginning before {min(begins)}" if begins else ""
        )
        by_fit.setdefault(fit, example)
    return [_Side(example, fit) for fit, example in by_fit.items()]
