"""Who may see and touch a dataset: one pure function of person, memberships, record, policy and instant.

Nothing is read but the arguments. Lists and counts compile the same rules to SQL
(`beamhub_catalogue.guards`); a law test holds both together.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from beamhub_core.identity import Principal
from beamhub_core.policy_document import EmbargoClass, PolicyDocument, RoleRules
from beamhub_core.rights import Assignment, Membership, ProposalRole, RefusalCode

Visibility = Literal["hidden", "metadata", "full"]
Because = Literal["membership", "open", "role"]
DatasetState = Literal["closed", "metadata_open", "open", "withdrawn"]
"""The life of a record: `metadata_open` is known to everybody while its data is not open yet."""

WRITER_ROLES: tuple[ProposalRole, ...] = ("pi", "member")
"""Proposal roles that write to its processed folder."""

_SEEN: tuple[Visibility, ...] = ("hidden", "metadata", "full")

CLOSED = EmbargoClass(
    embargo_months="never",
    metadata="team",
    roles=RoleRules(instrument_scientist="never", support="never", service="never"),
)
"""What holds for a proposal to which no rule of the policy applies: nothing opens, only its team knows."""

GUEST_REASON = (
    "This data is open to look at and to download. To open it in a session, log in through an institution "
    "that vouches for you."
)
STEP_UP_REASON = (
    "This data needs a login with a second factor. You are logged in without one: log in again that way."
)


@dataclass(frozen=True, slots=True)
class ProposalFacts:
    """What policy needs to know of a proposal.

    `policy_class` is None where the user office does not know the proposal or contradicts itself. `started`
    and `ended` are its first and last day in the facility's zone, None while unknown. `extension_months`
    are the extensions granted, in their order; `released_on` the day of an early release;
    `support_until` the end of the team's consent to user support. Until
    `not_before` has passed another catalogue keeps it closed; for good where that is the last of all days.
    """

    id: str
    policy_class: str | None
    ended: date | None
    withdrawn: bool = False
    instrument: str = ""
    access_route: str = ""
    started: date | None = None
    extension_months: tuple[int, ...] = ()
    released_on: date | None = None
    support_until: datetime | None = None
    not_before: date | None = None


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
    may see, why it is not. `until` is when the right to read ends, None when nothing ends it. `may_mount`
    is the right to open it in a session. `rule` names the policy's rule, for operators and the audit.
    """

    visibility: Visibility
    state: DatasetState
    opens_at: datetime | None
    may_read: bool
    may_write: bool = False
    may_mount: bool = False
    because: Because | None = None
    detail: str = ""
    until: datetime | None = None
    refusal: RefusalCode | None = None
    reason: str = ""
    rule: str | None = None
    required_assurance: tuple[str, ...] = ()
    required_acr: tuple[str, ...] = ()
    step_up: tuple[str, ...] = ()
    """Authentication contexts of which a new login needs one, where that alone is lacking."""


@dataclass(frozen=True, slots=True)
class _Right:
    """One reason for which a reader may read data that is not open."""

    because: Because
    detail: str
    until: datetime | None


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

    Extensions that the class allows are added to the embargo in one sum; an early release opens with the
    beginning of its day, where that is earlier. None where no such instant is known: the proposal still
    runs, no rule applies to it, or its class never opens. Where a clock change skips midnight, the day
    ends when the clock jumps.
    """
    return opens_under(rules_for(proposal, policy), proposal, policy)


def opens_under(rules: EmbargoClass, proposal: ProposalFacts, policy: PolicyDocument) -> datetime | None:
    """`opens_at` for who knows the proposal's embargo class already."""
    if rules.embargo_months == "never":
        return None
    days = [proposal.released_on] if proposal.released_on is not None else []
    if proposal.ended is not None:
        months = rules.embargo_months + sum(allowed_extensions(proposal.extension_months, rules))
        with suppress(ValueError, OverflowError):  # beyond the year 9999: it does not open by itself
            days.append(add_months(proposal.ended, months) + timedelta(days=1))
    if not days or proposal.not_before == date.max:
        return None
    later = date.min if proposal.not_before is None else proposal.not_before + timedelta(days=1)
    return start_of_day(max(min(days), later), policy)  # of two embargoes the stricter one holds


def allowed_extensions(months: Sequence[int], rules: EmbargoClass) -> tuple[int, ...]:
    """Of the extensions granted, what the class allows: one a step, each no longer than its step."""
    return tuple(min(granted, step) for granted, step in zip(months, rules.extension_months, strict=False))


def ends_at(proposal: ProposalFacts, policy: PolicyDocument) -> datetime | None:
    """The instant at which a proposal's last day is over, None while it has none."""
    if proposal.ended is None or proposal.ended == date.max:
        return None
    return start_of_day(proposal.ended + timedelta(days=1), policy)


def start_of_day(day: date, policy: PolicyDocument) -> datetime:
    """The first instant of a day in the policy's zone; year 1 begins with UTC's."""
    if day == date.min:
        return datetime.min.replace(tzinfo=UTC)  # east of Greenwich its midnight is no instant in UTC
    return datetime.combine(day, time.min, tzinfo=policy.zone)


def chosen_rule(proposal: ProposalFacts, policy: PolicyDocument) -> tuple[str, str] | None:
    """The rule that applies to a proposal and the embargo class it gives, by name; None where none does."""
    return policy.chosen(
        instrument=proposal.instrument,
        proposal_class=proposal.policy_class,
        access_route=proposal.access_route,
        started=proposal.started if proposal.started is not None else proposal.ended,
    )


def rules_for(proposal: ProposalFacts, policy: PolicyDocument) -> EmbargoClass:
    """The embargo class of a proposal; `CLOSED` where no rule applies."""
    return class_of(chosen_rule(proposal, policy), policy)


def class_of(chosen: tuple[str, str] | None, policy: PolicyDocument) -> EmbargoClass:
    """The embargo class that a chosen rule gives; `CLOSED` where none was chosen."""
    return CLOSED if chosen is None else policy.classes[chosen[1]]


def is_active(row: Membership | Assignment, now: datetime) -> bool:
    """Whether a row holds: from `since` on, up to but not including `until`."""
    begun = row.since is None or row.since <= now
    return begun and (row.until is None or now < row.until)


def decide(
    principal: Principal | None,
    memberships: Sequence[Membership | Assignment],
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
        Rows that may join the reader to proposals and instruments; those of others count nothing.
    """
    chosen = chosen_rule(proposal, policy)
    rules = class_of(chosen, policy)
    mine = _active_memberships(principal, memberships, proposal.id, now)
    rights = [*_by_membership(mine), *_by_role(principal, memberships, proposal, rules, policy, now)]
    opening = opens_under(rules, proposal, policy)
    is_open = opening is not None and opening <= now
    withdrawn = proposal.withdrawn or dataset.withdrawn
    state: DatasetState = "open" if is_open else "metadata_open" if rules.metadata == "public" else "closed"
    known = Decision(
        "metadata",
        "withdrawn" if withdrawn else state,
        opening,
        False,
        rule="no rule applies" if chosen is None else chosen[0],
        required_assurance=() if is_open else rules.required_assurance,
        required_acr=() if is_open else rules.required_acr,
    )
    knows = is_open or bool(rights) or rules.metadata == "public"
    theirs = dataset.private_to is not None and (principal is None or principal.account != dataset.private_to)
    if not knows or theirs:
        return replace(known, visibility="hidden", refusal="not_found", reason="No such dataset.")
    if withdrawn:
        return replace(known, refusal="withdrawn", reason="This dataset was withdrawn.")
    if is_open:
        return _right_to_open_data(known, principal, mine, rules)
    if not rights:
        return replace(known, refusal="embargoed", reason=_embargo_reason(opening))
    lacking = _lacking(principal, rules)
    if lacking is not None:
        step_up = rules.required_acr if lacking == STEP_UP_REASON else ()
        return replace(known, refusal="assurance_too_low", reason=lacking, step_up=step_up)
    return _right_of_insider(known, rights, mine)


def _right_of_insider(known: Decision, rights: Sequence[_Right], mine: Sequence[Membership]) -> Decision:
    """The first right gives the reason, the one that lasts longest gives the end."""
    ends = [right.until for right in rights]
    until = None if None in ends else max(end for end in ends if end is not None)
    if until is not None and known.opens_at is not None and known.opens_at <= until:
        until = None  # it is open to everybody before the right ends
    return replace(
        known,
        visibility="full",
        may_read=True,
        may_mount=True,
        may_write=_writes(mine),
        because=rights[0].because,
        detail=rights[0].detail,
        until=until,
    )


def _right_to_open_data(
    known: Decision, principal: Principal | None, mine: Sequence[Membership], rules: EmbargoClass
) -> Decision:
    right = next(iter(_by_membership(mine)), None)
    detail = right.detail if right else f"open since {known.opens_at:%Y-%m-%d}"
    guest = principal is not None and "guest" in principal.roles and not mine
    return replace(
        known,
        visibility="full",
        may_read=True,
        may_mount=principal is not None and not (guest and rules.guests == "look"),
        may_write=_writes(mine),
        because=right.because if right else "open",
        detail=detail,
    )


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
    return replace(
        least,
        may_write=False,
        may_mount=all(d.may_mount for d in decisions),
        opens_at=latest,
        until=min(ends, default=None),
        required_assurance=tuple(dict.fromkeys(a for d in decisions for a in d.required_assurance)),
        required_acr=tuple(dict.fromkeys(a for d in decisions for a in d.required_acr)),
    )


def _strictness(decision: Decision) -> tuple[int, bool, bool, float]:
    opening = decision.opens_at.timestamp() if decision.opens_at else float("inf")
    return _SEEN.index(decision.visibility), decision.may_read, decision.state == "open", -opening


def _active_memberships(
    principal: Principal | None,
    memberships: Sequence[Membership | Assignment],
    proposal: str,
    now: datetime,
) -> tuple[Membership, ...]:
    """The reader's memberships of one proposal that hold now, the strongest role first."""
    if principal is None:
        return ()
    order = ("pi", "member", "local_contact")
    mine = [
        m
        for m in memberships
        if isinstance(m, Membership)
        and m.account == principal.account
        and m.proposal == proposal
        and is_active(m, now)
    ]
    return tuple(sorted(mine, key=lambda m: order.index(m.role)))


def _by_membership(mine: Sequence[Membership]) -> Iterable[_Right]:
    if mine:
        sources = ", ".join(dict.fromkeys(m.source for m in mine))
        ends = [m.until for m in mine]
        until = None if None in ends else max(end for end in ends if end is not None)
        yield _Right("membership", f"{mine[0].role} of {mine[0].proposal} ({sources})", until)


def _by_role(
    principal: Principal | None,
    memberships: Sequence[Membership | Assignment],
    proposal: ProposalFacts,
    rules: EmbargoClass,
    policy: PolicyDocument,
    now: datetime,
) -> Iterable[_Right]:
    """Rights of the facility's own people, as far as the class gives them."""
    if principal is None:
        return
    roles = rules.roles
    last = ends_at(proposal, policy) if roles.instrument_scientist == "during" else None
    during = roles.instrument_scientist == "during" and (last is None or now < last)
    if during or roles.instrument_scientist == "during_and_after":
        limit = last if during else None
        if "instrument_scientist" in principal.roles:
            yield _Right("role", "instrument_scientist", limit)
        for row in memberships:
            if not isinstance(row, Assignment) or row.account != principal.account:
                continue
            if row.instrument == proposal.instrument and is_active(row, now):
                ends = [end for end in (limit, row.until) if end is not None]
                detail = f"instrument_scientist of {proposal.instrument} ({row.source})"
                yield _Right("role", detail, min(ends, default=None))
    if "support" in principal.roles:
        consent = proposal.support_until is not None and now < proposal.support_until
        if roles.support == "always":
            yield _Right("role", "support", None)
        elif roles.support == "with_consent" and consent:
            yield _Right("role", "support, with the team's consent", proposal.support_until)
    if "service" in principal.roles and roles.service == "read":
        yield _Right("role", "service", None)


def _writes(mine: Sequence[Membership]) -> bool:
    return any(m.role in WRITER_ROLES for m in mine)


def _lacking(principal: Principal | None, rules: EmbargoClass) -> str | None:
    """What a person's login lacks for data that is not open, in words for that person."""
    asserted = principal.assurance if principal is not None else ()
    for value in rules.required_assurance:
        if value not in asserted:
            return f"Your identity provider does not assert {value}, which this data needs."
    if rules.required_acr and (principal is None or principal.acr not in rules.required_acr):
        return STEP_UP_REASON
    return None


def _embargo_reason(opening: datetime | None) -> str:
    if opening is None:
        return "This dataset is not open. No date is known on which it opens."
    return f"This dataset is under embargo until {opening - timedelta(seconds=1):%d %B %Y, end of the day}."
