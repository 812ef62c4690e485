"""Tables of rights: proposals, people and their places in them, the policy and acts upon it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from beamhub_catalogue.models.base import Base, RowId


class ProposalRow(Base):
    """A proposal as the user offices know it, with what today's policy makes of it.

    From `withdrawn` on, the columns say what acts upon the proposal (`ActRow`) and the policy make of it;
    they are written anew whenever user office, policy or acts change, so that guards can be SQL.
    `policy_class` is None where user offices contradict each other. `embargo_class` is the class of the
    policy that holds, None where no rule of the policy applies. `changed_at` is when any of it last changed,
    and with it what is told of the proposal's datasets. `not_before` is the day to
    which another catalogue keeps a dataset of it closed. `summary`, `doi` and `keywords` are told by whoever
    catalogues the proposal as a document.
    """

    __tablename__ = "proposals"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    title: Mapped[str] = mapped_column(Text)
    policy_class: Mapped[str | None] = mapped_column(String(80))
    access_route: Mapped[str] = mapped_column(String(80), default="")
    instrument: Mapped[str] = mapped_column(String(200))
    start: Mapped[date | None]
    end: Mapped[date | None]
    withdrawn: Mapped[bool] = mapped_column(default=False)
    extension_months: Mapped[list[Any]] = mapped_column(default=list)
    released_on: Mapped[date | None]
    support_until: Mapped[datetime | None]
    embargo_class: Mapped[str | None] = mapped_column(String(80))
    rule: Mapped[str | None] = mapped_column(String(80))
    ends_at: Mapped[datetime | None]
    opens_at: Mapped[datetime | None]
    metadata_public: Mapped[bool] = mapped_column(default=False)
    changed_at: Mapped[datetime | None] = mapped_column(index=True)
    not_before: Mapped[date | None]
    summary: Mapped[str] = mapped_column(Text, default="")
    doi: Mapped[str | None] = mapped_column(String(300), index=True, unique=True)
    keywords: Mapped[list[Any]] = mapped_column(default=list)


class MemberRow(Base):
    """A membership row of a user office; any one of its identities joins it to a person.

    A row that the office removed keeps `removed_at`: it then ends the same right from other sources.
    """

    __tablename__ = "members"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    proposal: Mapped[str] = mapped_column(String(200), index=True)
    issuer: Mapped[str | None] = mapped_column(String(512))
    subject: Mapped[str | None] = mapped_column(String(512))
    orcid: Mapped[str | None] = mapped_column(String(19), index=True)
    facility_account: Mapped[str | None] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(20))
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "issuer", "subject"),)


class StaffRow(Base):
    """A person of the staff whom a user office puts in charge of an instrument, for a time."""

    __tablename__ = "instrument_staff"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    instrument: Mapped[str] = mapped_column(String(200), index=True)
    issuer: Mapped[str | None] = mapped_column(String(512))
    subject: Mapped[str | None] = mapped_column(String(512))
    orcid: Mapped[str | None] = mapped_column(String(19), index=True)
    facility_account: Mapped[str | None] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "issuer", "subject"),)


class PolicyRow(Base):
    """A policy document that was in force; the label is its version and the beginning of its digest."""

    __tablename__ = "policy_documents"

    label: Mapped[str] = mapped_column(String(80), primary_key=True)
    version: Mapped[str] = mapped_column(String(60))
    digest: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, Any]]
    in_force_since: Mapped[datetime] = mapped_column(index=True)


class ActRow(Base):
    """Something that an authorised person did to a proposal's embargo; appended, at most revoked.

    `months` is the length of an extension, `day` that of an early release, `until` the end of a consent.
    `pid` narrows a withdrawal to one dataset.
    """

    __tablename__ = "proposal_acts"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    proposal: Mapped[str] = mapped_column(String(200), index=True)
    pid: Mapped[str | None] = mapped_column(String(300), index=True)
    kind: Mapped[str] = mapped_column(String(20), index=True)
    months: Mapped[int | None]
    day: Mapped[date | None]
    until: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text)
    made_by: Mapped[str] = mapped_column(String(80))
    made_at: Mapped[datetime]
    revoked_by: Mapped[str | None] = mapped_column(String(80))
    revoked_at: Mapped[datetime | None]


class PersonRow(Base):
    """A human being behind one or more accounts; `name` is empty after erasure."""

    __tablename__ = "people"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    orcid: Mapped[str | None] = mapped_column(String(19), unique=True)
    name: Mapped[str] = mapped_column(Text)
    first_seen: Mapped[datetime]
    erased_at: Mapped[datetime | None]


class IdentityRow(Base):
    """An account at a provider, and the person it belongs to; `linked_by` says what joined them.

    `orcid` and `facility_account` are what the provider last asserted. `conflict` says why that points to
    another person too; nothing is merged for it. `signs_in_as` is the account that the person gets who logs
    in with this identity, None for its own; both accounts are one person's.
    """

    __tablename__ = "identities"

    account: Mapped[str] = mapped_column(String(40), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), index=True)
    issuer: Mapped[str] = mapped_column(String(512))
    subject: Mapped[str] = mapped_column(String(512))
    orcid: Mapped[str | None] = mapped_column(String(19), index=True)
    facility_account: Mapped[str | None] = mapped_column(String(64), index=True)
    linked_by: Mapped[str] = mapped_column(String(20))
    linked_at: Mapped[datetime]
    conflict: Mapped[str | None] = mapped_column(String(40))
    signs_in_as: Mapped[str | None] = mapped_column(String(40), index=True)


class PrincipalRow(Base):
    """A person as the hub last said; `removed_at` is set when the hub ended the account's rights."""

    __tablename__ = "principals"

    account: Mapped[str] = mapped_column(String(40), primary_key=True)
    body: Mapped[dict[str, Any]]
    checked_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class LostEntitlementRow(Base):
    """An account once had an entitlement for a proposal and has it no more."""

    __tablename__ = "lost_entitlements"

    account: Mapped[str] = mapped_column(String(40), primary_key=True)
    proposal: Mapped[str] = mapped_column(String(200), primary_key=True)
    lost_at: Mapped[datetime]


class SourceRow(Base):
    """A user office or the policy: what it last said well, since when, and when it was last asked."""

    __tablename__ = "sources"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text)
    good: Mapped[dict[str, Any] | None]
    read_at: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    problems: Mapped[list[Any]]


class ClockRow(Base):
    """What the clock showed, beside the seconds since that boot; see `beamhub_core.clock.GuardedClock`."""

    __tablename__ = "clock_marks"

    boot: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime]
    elapsed_s: Mapped[float]
