"""Grants on named datasets: what the hub may mount for an account, and what it may not."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.decisions import MAX_IN_ONE_QUERY, Judge
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.queries import Catalogue, is_storable
from beamhub_core.policy import Because, Decision
from beamhub_core.rights import DatasetRef, Grant, GrantAnswer, PoolPath, Refusal, Refused

HOME_POOL = "home"
PROCESSED = "processed"

GUEST_REASON = (
    "This data is open to look at and to download. To open it in a session, log in through an institution "
    "that vouches for you."
)
NOT_FOUND_REASON = "There is no such dataset, or it is not for you to know."


def refusal(code: str, subject: str, reason: str, **facts: object) -> Refusal:
    """A refusal with a fresh reference for the log."""
    return Refusal.model_validate(
        {"code": code, "subject": subject[:300], "reason": reason[:500], "reference": secrets.token_hex(5)}
        | facts
    )


class DatasetPlaces(NamedTuple):
    """What of a dataset's row a grant needs."""

    id: int
    pid: str
    kind: str
    proposal: str
    title: str
    technique: str
    instrument: str
    pool: str
    folder: str
    file: str
    size_bytes: int
    link_closure: Sequence[Any]
    missing_links: Sequence[str]
    private_to: str | None
    withdrawn: bool


_PLACES = tuple(getattr(DatasetRow, name) for name in DatasetPlaces._fields)


def answer_grants(catalogue: Catalogue, account: str, pids: tuple[str, ...]) -> GrantAnswer:
    """What an account may touch of the named datasets; few queries, however many there are.

    Raises
    ------
    Refused
        For the first dataset that the account may not open: a session without one of its datasets would
        not be the one that was asked for.
    """
    rows = find_places(catalogue.session, pids)
    decisions = catalogue.judge.on_datasets(list(rows.values()))
    for pid in pids:
        _check_may_open(rows.get(pid), decisions.get(pid), pid)
    refs = [dataset_ref(rows[pid]) for pid in pids]
    grants = [_grant(account, ref.folder, decisions[ref.pid], ref.proposal, ref.pid) for ref in refs]
    ungranted: dict[PoolPath, None] = {}
    yard = Yard(catalogue.session, [folder for ref in refs for folder in ref.link_closure])
    for ref in refs:
        for folder in ref.link_closure:
            decision = yard.decision_on(catalogue.judge, folder)
            if decision is None:
                ungranted[folder] = None
            else:
                grants.append(_grant(account, folder, decision, proposal_of(folder.path), ref.pid))
    grants += _writable(catalogue, account, refs)
    return GrantAnswer.model_construct(
        account=account,
        datasets=tuple(refs),
        grants=_each_once(grants),
        ungranted_links=tuple(ungranted),
        policy_version=catalogue.policy.label,
        decided_at=catalogue.now,
    )


def find_places(session: Session, pids: Iterable[str]) -> dict[str, DatasetPlaces]:
    """The rows of the pids that there are; what a reader may know of them is still to be decided."""
    found: dict[str, DatasetPlaces] = {}
    wanted = [pid for pid in pids if is_storable(pid)]
    for i in range(0, len(wanted), MAX_IN_ONE_QUERY):
        query = select(*_PLACES).where(DatasetRow.pid.in_(wanted[i : i + MAX_IN_ONE_QUERY]))
        for row in session.execute(query):
            found[row[1]] = DatasetPlaces(*row)
    return found


def _check_may_open(row: DatasetPlaces | None, decision: Decision | None, pid: str) -> None:
    if row is None or decision is None or decision.visibility == "hidden":
        raise Refused(refusal("not_found", pid, NOT_FOUND_REASON))
    if not decision.may_read:
        code = decision.refusal or "not_found"
        raise Refused(refusal(code, pid, decision.reason, until=decision.opens_at))
    if not decision.may_mount:
        raise Refused(refusal("not_a_member", pid, GUEST_REASON))
    if row.pool == HOME_POOL:
        raise Refused(refusal("bad_request", pid, "This product lies in your home; open it from there."))


def dataset_ref(row: DatasetPlaces) -> DatasetRef:
    """Where a dataset lies. A product's folder is its own file: its neighbours have policies of their own.

    Nothing is validated again: harvest made the row from a validated word.
    """
    return DatasetRef.model_construct(
        pid=row.pid,
        proposal=row.proposal,
        title=row.title,
        technique=row.technique,
        instrument=row.instrument,
        folder=PoolPath.model_construct(pool=row.pool, path=row.folder),
        file=row.file,
        size_bytes=row.size_bytes,
        link_closure=tuple(
            PoolPath.model_construct(pool=folder["pool"], path=folder["path"]) for folder in row.link_closure
        ),
        missing_links=tuple(row.missing_links),
    )


def proposal_of(path: str) -> str:
    """The proposal that a path below a pool's root belongs to: its first component."""
    return PurePosixPath(path).parts[0]


class Yard:
    """Whole folders of raw data that links lead to, and which of them may be mounted."""

    def __init__(self, session: Session, folders: Iterable[PoolPath]) -> None:
        self._withdrawn: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
        proposals = sorted({proposal_of(folder.path) for folder in folders})
        for i in range(0, len(proposals), MAX_IN_ONE_QUERY):
            query = select(DatasetRow.pool, DatasetRow.proposal, DatasetRow.folder).where(
                DatasetRow.withdrawn, DatasetRow.proposal.in_(proposals[i : i + MAX_IN_ONE_QUERY])
            )
            for pool, proposal, folder in session.execute(query):
                self._withdrawn[pool, proposal].append(PurePosixPath(folder).parts)

    def decision_on(self, judge: Judge, folder: PoolPath) -> Decision | None:
        """The decision that a mount of a folder stands on; None where it may not be mounted.

        It may be where it holds raw data only, and nothing in it was withdrawn.
        """
        parts = PurePosixPath(folder.path).parts
        decision = judge.on_proposal(parts[0])
        if not decision.may_mount or len(parts) < 2 or parts[1] == PROCESSED:
            return None
        gone = self._withdrawn.get((folder.pool, parts[0]), ())
        return None if any(each[: len(parts)] == parts for each in gone) else decision


def _writable(catalogue: Catalogue, account: str, refs: list[DatasetRef]) -> list[Grant]:
    places = dict.fromkeys((ref.proposal, ref.folder.pool) for ref in refs)
    found: list[Grant] = []
    for proposal, pool in places:
        decision = catalogue.judge.on_proposal(proposal)
        if decision.may_write:
            folder = PoolPath(pool=pool, path=f"{proposal}/{PROCESSED}")
            found.append(_grant(account, folder, decision, proposal, None, mode="rw"))
    return found


def _grant(
    account: str,
    folder: PoolPath,
    decision: Decision,
    proposal: str,
    pid: str | None,
    mode: Literal["ro", "rw"] = "ro",
) -> Grant:
    return Grant.model_construct(
        account=account,
        folder=folder,
        mode=mode,
        because=cast(Because, decision.because),  # a decision that lets mount says why
        detail=decision.detail,
        until=decision.until,
        pid=pid,
        proposal=proposal,
        required_assurance=decision.required_assurance,
        required_acr=decision.required_acr,
    )


def _each_once(grants: list[Grant]) -> tuple[Grant, ...]:
    """Two datasets may need one folder: it is granted once, for the first of them."""
    found: dict[tuple[str, str, str], Grant] = {}
    for grant in grants:
        found.setdefault((grant.folder.pool, grant.folder.path, grant.mode), grant)
    return tuple(found.values())
