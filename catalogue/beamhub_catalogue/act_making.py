"""Making and revoking acts: who may, what the policy allows, and what it changes at once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.acts import ActNotAllowed, keep_act, standing_acts
from beamhub_catalogue.grants import NOT_FOUND_REASON, refusal
from beamhub_catalogue.models import ActRow, DatasetRow, ProposalRow
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.rules import govern, proposal_facts
from beamhub_core.acts import MAKERS, ProposalAct, problem_of
from beamhub_core.policy_document import PolicyDocument
from beamhub_core.rights import Refused

OPERATOR = "operator"
"""Who acts where no account does: a person with access to the facility's machines, or a trusted process."""


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
        _check_role(act, catalogue)
    if act.pid is not None and _dataset(session, act) is None:
        raise Refused(refusal("not_found", act.pid, NOT_FOUND_REASON))
    if session.get(ActRow, act.id) is None:
        problem = problem_of(act, proposal_facts(row.id, row), catalogue.policy)
        if problem is not None:
            raise ActNotAllowed(problem)
    if not keep_act(session, act, person.account if person else made_by, catalogue.now):
        return False
    _apply(session, act.proposal, act.pid, catalogue.policy)
    return True


def revoke_act(
    session: Session, act_id: str, by: str, policy: PolicyDocument, now: datetime
) -> ActRow | None:
    """Take an act back: it counts no more. Again, it changes nothing; None for an act that nobody told."""
    row = session.get(ActRow, act_id)
    if row is None or row.revoked_at is not None:
        return row
    row.revoked_by, row.revoked_at = by, now
    _apply(session, row.proposal, row.pid, policy)
    return row


def acts_upon(session: Session, proposal: str) -> list[ActRow]:
    """All acts upon a proposal, also the revoked ones, in the order in which they were made."""
    query = select(ActRow).where(ActRow.proposal == proposal).order_by(ActRow.made_at, ActRow.id)
    return list(session.scalars(query))


def _check_role(act: ProposalAct, catalogue: Catalogue) -> None:
    allowed = MAKERS.get(act.kind, ())
    if not allowed:
        raise ActNotAllowed("Only the facility's operators do this. Ask the user office.")
    held = catalogue.reader.roles_in(act.proposal, catalogue.now)
    if not any(role in allowed for role in held):
        raise ActNotAllowed(f"Only {' and '.join(allowed)} of {act.proposal} may do this.")


def _dataset(session: Session, act: ProposalAct) -> DatasetRow | None:
    same = DatasetRow.pid == act.pid
    return session.scalar(select(DatasetRow).where(same, DatasetRow.proposal == act.proposal))


def _apply(session: Session, proposal: str, pid: str | None, policy: PolicyDocument) -> None:
    session.flush()
    acts = standing_acts(session, proposal).get(proposal, ())
    row = session.get(ProposalRow, proposal)
    if row is not None:
        govern(row, acts, policy)
    if pid is not None:
        dataset = session.scalar(select(DatasetRow).where(DatasetRow.pid == pid))
        if dataset is not None:
            dataset.withdrawn = any(act.kind == "withdrawal" and act.pid == pid for act in acts)
