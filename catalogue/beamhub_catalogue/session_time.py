"""Time left of a session, and its extension by the person.

The plan is immutable: it says when the session was to end as it was made. An extension moves the record's
end, `expires_at` of the row, and that is what the re-check, the sweeper, budgets and pages go by.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from beamhub_catalogue.admission import check_budget
from beamhub_catalogue.grants import refusal
from beamhub_catalogue.models import SessionRow
from beamhub_catalogue.recheck import Present, end_of_rights
from beamhub_core.config.facility import FacilityConfig
from beamhub_core.config.storage import ProfileConfig
from beamhub_core.rights import Refused
from beamhub_core.session import LIVE_STATES

SHORTEST = timedelta(minutes=1)
"""An extension by less is none."""


@dataclass(frozen=True, slots=True)
class Extension:
    """When a session ends now, and up to when it may be extended; the same where it may not."""

    expires_at: datetime
    latest: datetime


def find_extension(session: Session, config: FacilityConfig, present: Present, row: SessionRow) -> Extension:
    """How far a session may be extended now; it ends with its rights, and at its profile's last hour.

    One step goes as far as a new session of the profile would.
    """
    profile = profile_of(config, row)
    if profile is None or profile.max_lifetime_h is None or row.state not in LIVE_STATES:
        return Extension(row.expires_at, row.expires_at)
    holds, first = end_of_rights(session, config.login, present, row.plan_id)
    if not holds:
        return Extension(row.expires_at, row.expires_at)
    ends = [
        row.created_at + timedelta(hours=profile.max_lifetime_h),
        present.now + timedelta(hours=profile.lifetime_h),
        *([first] if first is not None else []),
    ]
    return Extension(row.expires_at, max(row.expires_at, min(ends)))


def extend_session(session: Session, config: FacilityConfig, present: Present, row: SessionRow) -> datetime:
    """The new end of a session, as far as it may be extended now.

    Raises
    ------
    Refused
        `profile_not_allowed` where there is nothing to extend by, `over_quota` where a proposal has not the
        processor hours for it.
    """
    found = find_extension(session, config, present, row)
    by = found.latest - found.expires_at
    if by < SHORTEST:
        said = f"This session ends at {row.expires_at:%Y-%m-%d %H:%M} UTC and cannot be extended further."
        raise Refused(refusal("profile_not_allowed", row.server_name or "session", said))
    for proposal in row.proposals:
        hours = proposal.share * row.cpu * by.total_seconds() / 3600
        check_budget(session, proposal.proposal, hours, config.sessions)
    row.expires_at = found.latest
    return found.latest


def profile_of(config: FacilityConfig, row: SessionRow) -> ProfileConfig | None:
    """The profile of a session as it is configured now; None where there is none of its name any more."""
    name = row.plan.get("profile")
    return next((one for one in config.sessions.profiles if one.name == name), None)
