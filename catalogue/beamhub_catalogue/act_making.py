"""Making and revoking acts: who may, what the policy allows, and what it changes at once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from beamhub_catalogue.acts import ActNotAllowed, is_withdrawn, keep_act, standing_acts, told
from beamhub_catalogue.grants import NOT_FOUND_REASON, refusal
from beamhub_catalogue.models import ActRow, DatasetRow, ProposalRow
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.rules import govern, proposal_facts
from beamhub_core.acts import MAKERS, ActKind, ProposalAct, problem_of
from beamhub_core.policy_document import PolicyDocument
from beamhub_core.rights import Refused

OPERATOR = "operator"
"""Who acts where no account does: a person with access to the facility's machines, or a trusted process."""
MAX_ACTS = 500
"""Upon one proposal, with the revoked ones: more is no decision of people."""


def make_act(catalogue: Catalogue, act: ProposalAct, made_by: str = OPERATOR) -> bool:
    """Keep an act of the catalogue's reader, or of an operator where it has none; False if it stands already.

    What it changes holds in the same transaction, for the next question.

    Raises
    ------
    Refused
        `not_found` for a proposal or dataset that the reader may not know of.
    ActNotAllowed
        If the policy does not allow it, or the reader's roles do not.
    ActConflict
        If another act stands under its id.
    """
    session, person = catalogue.session, catalogue.reader.principal
    row = session.get(ProposalRow, act.proposal)
    decision = catalogue.judge.on_proposal(act.proposal)
    if row is None or (person is not None and decision.visibility == "hidden"):
        raise Refused(refusal("not_found", act.proposal, NOT_FOUND_REASON))
    if person is not None:
        _check_role(act.kind, act.proposal, catalogue)
        if not decision.may_read:  # e.g. for want of a second factor: who may not read may not publish
            raise ActNotAllowed(decision.reason)
    if act.pid is not None and _dataset(session, act) is None:
        raise Refused(refusal("not_found", act.pid, NOT_FOUND_REASON))
    if session.get(ActRow, act.id) is None:
        problem = problem_of(act, proposal_facts(row.id, row), catalogue.policy, catalogue.now)
        if problem is not None:
            raise ActNotAllowed(problem)
        n_acts = select(func.count()).select_from(ActRow).where(ActRow.proposal == act.proposal)
        if (session.scalar(n_acts) or 0) >= MAX_ACTS:
            raise ActNotAllowed(f"{MAX_ACTS} acts upon {act.proposal} are kept already. Ask an operator.")
    if not keep_act(session, act, person.account if person else made_by, catalogue.now):
        return False
    _apply(session, act.proposal, act.pid, catalogue.policy, catalogue.now)
    return True


def take_back(catalogue: Catalogue, act_id: str, by: str = OPERATOR) -> tuple[ActRow, bool] | None:
    """Revoke an act for the catalogue's reader, or for an operator; whether it stood until now.

    People take back what they may make themselves, but no early release that an operator made or whose day
    has come. None for an act that nobody told, or upon a proposal that the reader may not know of.

    Raises
    ------
    ActNotAllowed
        If the reader's roles do not allow it.
    """
    session, person = catalogue.session, catalogue.reader.principal
    row = session.get(ActRow, act_id)
    if row is None:
        return None
    if person is not None:
        if catalogue.judge.on_proposal(row.proposal).visibility == "hidden":
            return None
        kind = told(row).kind
        _check_role(kind, row.proposal, catalogue)
        today = catalogue.now.astimezone(catalogue.policy.zone).date()
        begun = row.day is not None and row.day <= today
        if kind == "early_release" and (begun or row.made_by == OPERATOR):
            raise ActNotAllowed("Only the facility's operators take this back. Ask the user office.")
    stood = row.revoked_at is None
    revoke_act(session, act_id, person.account if person else by, catalogue.policy, catalogue.now)
    return row, stood


def revoke_act(
    session: Session, act_id: str, by: str, policy: PolicyDocument, now: datetime
) -> ActRow | None:
    """Take an act back: it counts no more. Again, it changes nothing; None for an act that nobody told."""
    row = session.get(ActRow, act_id)
    if row is None or row.revoked_at is not None:
        return row
    row.revoked_by, row.revoked_at = by, now
    _apply(session, row.proposal, row.pid, policy, now)
    return row


def acts_upon(session: Session, proposal: str) -> list[ActRow]:
    """All acts upon a proposal, also the revoked ones, in the order in which they were made."""
    query = select(ActRow).where(ActRow.proposal == proposal).order_by(ActRow.made_at, ActRow.id)
    return list(session.scalars(query))


def _check_role(kind: ActKind, proposal: str, catalogue: Catalogue) -> None:
    allowed = MAKERS.get(kind, ())
    if not allowed:
        raise ActNotAllowed("Only the facility's operators do this. Ask the user office.")
    held = catalogue.reader.roles_in(proposal, catalogue.now)
    if not any(role in allowed for role in held):
        raise ActNotAllowed(f"Only {' and '.join(allowed)} of {proposal} may do this.")


def _dataset(session: Session, act: ProposalAct) -> DatasetRow | None:
    same = DatasetRow.pid == act.pid
    return session.scalar(select(DatasetRow).where(same, DatasetRow.proposal == act.proposal))


def _apply(session: Session, proposal: str, pid: str | None, policy: PolicyDocument, now: datetime) -> None:
    session.flush()
    acts = standing_acts(session, proposal).get(proposal, ())
    row = session.get(ProposalRow, proposal)
    if row is not None:
        govern(row, acts, policy, now)
    if pid is not None:
        dataset = session.scalar(select(DatasetRow).where(DatasetRow.pid == pid))
        if dataset is not None:
            withdrawn = is_withdrawn(session, pid) or _is_replaced(session, dataset)
            if withdrawn != dataset.withdrawn:
                dataset.withdrawn, dataset.changed_at = withdrawn, now


def _is_replaced(session: Session, row: DatasetRow) -> bool:
    """Whether other content took the place of a product's file: harvest withdrew the record then."""
    later = or_(
        DatasetRow.harvested_at > row.harvested_at,
        and_(DatasetRow.harvested_at == row.harvested_at, DatasetRow.id > row.id),
    )
    same_place = and_(DatasetRow.pool == row.pool, DatasetRow.file == row.file)
    other = select(DatasetRow.id).where(same_place, later, DatasetRow.kind == "product")
    return session.scalar(other.limit(1)) is not None
