"""The facility's data policy, and the one function that decides who may see and touch a dataset.

Everything here is pure: the present is an argument, and nothing is read but the document itself.
Lists and counts compile the same rules to SQL (`beamhub_catalogue.guards`); a law test holds both together.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from beamhub_core.config.section import Section, TimeZoneName
from beamhub_core.identity import FacilityRole, Principal
from beamhub_core.rights import Membership, MetadataClass, ProposalRole, RefusalCode

Visibility = Literal["hidden", "metadata", "full"]
Because = Literal["membership", "open", "role"]
DatasetState = Literal["open", "embargoed", "running", "withdrawn"]

READER_ROLES: tuple[FacilityRole, ...] = ("instrument_scientist",)
"""Facility roles that read every proposal's data."""
WRITER_ROLES: tuple[ProposalRole, ...] = ("pi", "member")
"""Proposal roles that write to its processed folder."""

_SEEN: tuple[Visibility, ...] = ("hidden", "metadata", "full")


class EmbargoClass(Section):
    """What one class of proposals promises."""

    embargo_months: Annotated[int, Field(ge=0, le=1200)] | Literal["never"] = Field(
        description="Months from the end of the proposal to the opening of its data; 'never' for data "
        "that stays closed, e.g. proprietary beamtime."
    )
    metadata: MetadataClass = Field(
        description="Who may know of a dataset before its date. public: everybody sees title, team, "
        "technique, instrument, dates and the end of the embargo; team: for others it does not exist."
    )
    license: str | None = Field(default=None, max_length=60, description="SPDX id of the licence once open.")
    required_assurance: tuple[str, ...] = Field(
        default=(), max_length=16, description="Assurance values a person needs while the data is not open."
    )


class PolicyDocument(Section):
    """The data policy of a facility: `policy.yaml`; see `beamhub_core.policy_file.read_policy`."""

    version: str = Field(min_length=1, max_length=60, description="Changes with every change of the rules.")
    timezone: TimeZoneName = Field(description="IANA zone in which embargo days end.")
    classes: dict[str, EmbargoClass] = Field(min_length=1, max_length=200)

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which embargo days end."""
        return ZoneInfo(self.timezone)


CLOSED = EmbargoClass(embargo_months="never", metadata="team")
"""What holds for a proposal whose class the policy does not know: nothing opens, nobody outside knows."""


@dataclass(frozen=True, slots=True)
class ProposalFacts:
    """What policy needs to know of a proposal.

    `policy_class` is None where the user office does not know the proposal or contradicts itself.
    `ended` is the last day of the proposal in the facility's zone, None while it runs.
    """

    id: str
    policy_class: str | None
    ended: date | None
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What policy needs to know of one dataset; `private_to` is the account that alone may see it."""

    withdrawn: bool = False
    private_to: str | None = None


RAW = DatasetFacts()


@dataclass(frozen=True, slots=True)
class Decision:
    """What one reader may see and touch of one dataset.

    `because` and `detail` say why reading is allowed; `refusal` and `reason` say, in words that the reader
    may see, why it is not. `until` is when the right to read ends, None when nothing ends it.
    """

    visibility: Visibility
    state: DatasetState
    opens_at: datetime | None
    may_read: bool
    may_write: bool = False
    because: Because | None = None
    detail: str = ""
    until: datetime | None = None
    refusal: RefusalCode | None = None
    reason: str = ""
    required_assurance: tuple[str, ...] = ()


def add_months(day: date, months: int) -> date:
    """The same day of the month later, or that month's last day where it is shorter (29 Feb + 12 is 28 Feb).

    Source: the rule of SQL's interval arithmetic (PostgreSQL 15, section 9.9), so that both agree.
    """
    month_index = day.year * 12 + day.month - 1 + months
    year, month = divmod(month_index, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))


def opens_at(proposal: ProposalFacts, policy: PolicyDocument) -> datetime | None:
    """The first instant at which everybody may read: the end of the embargo's last day, in the policy's zone.

    None where no such instant is known: the proposal still runs, its class is unknown, or never opens.
    Where a clock change skips midnight, the day ends when the clock jumps.
    """
    rules = rules_for(proposal, policy)
    if rules.embargo_months == "never" or proposal.ended is None:
        return None
    try:
        first_open_day = add_months(proposal.ended, rules.embargo_months) + timedelta(days=1)
    except (ValueError, OverflowError):
        return None  # beyond the year 9999: it does not open
    return datetime.combine(first_open_day, time.min, tzinfo=policy.zone)


def rules_for(proposal: ProposalFacts, policy: PolicyDocument) -> EmbargoClass:
    """The class of a proposal; `CLOSED` where the policy knows none."""
    if proposal.policy_class is None:
        return CLOSED
    return policy.classes.get(proposal.policy_class, CLOSED)


def is_active(membership: Membership, now: datetime) -> bool:
    """Whether a membership holds: from `since` on, up to but not including `until`."""
    begun = membership.since is None or membership.since <= now
    return begun and (membership.until is None or now < membership.until)


def decide(
    principal: Principal | None,
    memberships: Iterable[Membership],
    proposal: ProposalFacts,
    dataset: DatasetFacts,
    policy: PolicyDocument,
    now: datetime,
) -> Decision:
    """What a reader may see and touch of a dataset of one proposal, at an instant.

    Parameters
    ----------
    principal:
        The reader; None is an anonymous one, who sees what is public.
    memberships:
        Rows that may join the reader to proposals; those of other accounts or proposals count nothing.
    """
    mine = _active_memberships(principal, memberships, proposal.id, now)
    opening = opens_at(proposal, policy)
    rules = rules_for(proposal, policy)
    is_open = opening is not None and opening <= now
    by_role = next((r for r in READER_ROLES if principal is not None and r in principal.roles), None)
    inside = bool(mine) or by_role is not None
    state: DatasetState = "open" if is_open else "running" if proposal.ended is None else "embargoed"
    if proposal.withdrawn or dataset.withdrawn:
        state = "withdrawn"

    knows = is_open or inside or rules.metadata == "public"
    private = dataset.private_to is not None
    if not knows or (private and (principal is None or principal.account != dataset.private_to)):
        return Decision("hidden", state, opening, False, refusal="not_found", reason="No such dataset.")
    if state == "withdrawn":
        reason = "This dataset was withdrawn."
        return Decision("metadata", state, opening, False, refusal="withdrawn", reason=reason)
    if not inside and not is_open:
        return Decision(
            "metadata", state, opening, False, refusal="embargoed", reason=_embargo_reason(opening, state)
        )
    known = Decision(
        "full", state, opening, False, required_assurance=() if is_open else rules.required_assurance
    )
    return _right_of_insider(known, principal, mine, by_role, opening if is_open else None)


def _right_of_insider(
    known: Decision,
    principal: Principal | None,
    mine: Sequence[Membership],
    by_role: str | None,
    open_since: datetime | None,
) -> Decision:
    missing = [a for a in known.required_assurance if principal is None or a not in principal.assurance]
    if missing:
        reason = f"Your identity provider does not assert {missing[0]}, which this data needs."
        return replace(known, visibility="metadata", refusal="assurance_too_low", reason=reason)
    may_write = any(m.role in WRITER_ROLES for m in mine)
    if mine:
        role, sources = mine[0].role, ", ".join(dict.fromkeys(m.source for m in mine))
        because: Because = "membership"
        detail, until = f"{role} of {mine[0].proposal} ({sources})", _end_of_right(mine)
    elif by_role is not None:
        because, detail, until = "role", by_role, None
    else:
        because, detail, until = "open", "", None
    if open_since is not None:
        until = None
        if because != "membership":
            because, detail = "open", f"open since {open_since:%Y-%m-%d}"
    elif until is not None and known.opens_at is not None and known.opens_at <= until:
        until = None  # it is open to everybody before the membership ends
    return replace(known, may_read=True, may_write=may_write, because=because, detail=detail, until=until)


def strictest(decisions: Sequence[Decision]) -> Decision:
    """The decision on a product: what every one of its inputs allows, and no right to write.

    The decision that allows least gives the reason; among equals, the one that opens last. `opens_at` is the
    latest, None if any is unknown.

    Raises
    ------
    ValueError
        If there is no decision.
    """
    if not decisions:
        raise ValueError("a product without inputs has no policy")
    least = min(decisions, key=_strictness)
    openings = [d.opens_at for d in decisions]
    latest = None if None in openings else max(o for o in openings if o is not None)
    ends = [d.until for d in decisions if d.until is not None]
    assurance = tuple(dict.fromkeys(a for d in decisions for a in d.required_assurance))
    return replace(
        least,
        may_write=False,
        opens_at=latest,
        until=min(ends, default=None),
        required_assurance=assurance,
    )


def _strictness(decision: Decision) -> tuple[int, bool, bool, float]:
    opening = decision.opens_at.timestamp() if decision.opens_at else float("inf")
    return _SEEN.index(decision.visibility), decision.may_read, decision.state == "open", -opening


def _active_memberships(
    principal: Principal | None, memberships: Iterable[Membership], proposal: str, now: datetime
) -> tuple[Membership, ...]:
    """The reader's memberships of one proposal that hold now, the strongest role first."""
    if principal is None:
        return ()
    order = ("pi", "member", "local_contact")
    mine = [
        m
        for m in memberships
        if m.account == principal.account and m.proposal == proposal and is_active(m, now)
    ]
    return tuple(sorted(mine, key=lambda m: order.index(m.role)))


def _end_of_right(mine: Sequence[Membership]) -> datetime | None:
    """When the last of the rows that hold now ends."""
    ends = [m.until for m in mine]
    return None if None in ends else max(end for end in ends if end is not None)


def _embargo_reason(opening: datetime | None, state: DatasetState) -> str:
    if opening is None:
        return "This dataset is not open. No date is known on which it opens."
    return f"This dataset is under embargo until {opening - timedelta(seconds=1):%d %B %Y, end of the day}."
