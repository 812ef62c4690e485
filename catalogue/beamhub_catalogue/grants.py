"""Grants on named datasets: what the hub may mount for an account, and what it may not."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy import Text, select
from sqlalchemy import cast as sa_cast
from sqlalchemy.orm import Session

from beamhub_catalogue.decisions import Judge
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.texts import among, is_storable
from beamhub_core.policy import GUEST_REASON, Decision
from beamhub_core.rights import Refusal, Refused

ELSEWHERE = ""
"""The pool of a dataset whose files lie in none of ours."""
ELSEWHERE_REASON = "The files of this dataset are not kept here; its catalogue says where they are."
HOME_POOL = "home"
PROCESSED = "processed"

SHARED_FOLDER_REASON = (
    "This dataset lies in one folder with data that was withdrawn, and a session would see both. "
    "Ask the user office to move it."
)
NOT_FOUND_REASON = "There is no such dataset, or it is not for you to know."


def refusal(code: str, subject: str, reason: str, **facts: object) -> Refusal:
    """A refusal with a fresh reference for the log."""
    return Refusal.model_validate(
        {"code": code, "subject": subject[:300], "reason": reason[:500], "reference": secrets.token_hex(5)}
        | facts
    )


class Folder(NamedTuple):
    """A folder of a pool; a `PoolPath` that costs nothing to make, for thousands of rows."""

    pool: str
    path: str


class DatasetPlaces(NamedTuple):
    """What of a dataset's row a grant needs; the two lists are JSON texts."""

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
    private_to: str | None
    withdrawn: bool
    link_closure: str
    missing_links: str

    @property
    def mounted(self) -> Folder:
        """What is mounted for it."""
        return Folder(self.pool, self.folder)


# The table's columns, not the class's: rows need not pass through the mapper, which takes as long again.
_COLUMNS = DatasetRow.__table__.c
_PLACES = (
    *(_COLUMNS[name] for name in DatasetPlaces._fields[:-2]),
    *(sa_cast(_COLUMNS[name], Text) for name in DatasetPlaces._fields[-2:]),
)


class GrantedFolder(NamedTuple):
    """What one grant touches, for the audit."""

    proposal: str
    pid: str | None
    pool: str
    path: str
    mode: str
    because: str | None


@dataclass(frozen=True, slots=True)
class GrantedAnswer:
    """A `GrantAnswer` as JSON, and what of it the audit keeps."""

    body: bytes
    folders: tuple[GrantedFolder, ...]
    policy_version: str


def answer_grants(catalogue: Catalogue, account: str, pids: tuple[str, ...]) -> GrantedAnswer:
    """What an account may touch of the named datasets.

    It takes few queries, however many datasets there are, and writes the JSON from the rows: harvest made
    them from validated words, and making the words again would take longer than all the rest.

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
    wanted = [rows[pid] for pid in pids]
    # Neighbours often link to the same files: each text is parsed, and each folder decided on, once.
    links = {text: _folders(text) for text in {row.link_closure for row in wanted}}
    linked = {folder for each in links.values() for folder in each}
    proposals = {row.proposal for row in wanted} | {proposal_of(folder.path) for folder in linked}
    yard = Yard(catalogue.session, proposals)
    for row in wanted:
        if yard.holds_withdrawn(row):
            raise Refused(refusal("withdrawn", row.pid, SHARED_FOLDER_REASON))
    on_links = {folder: yard.decision_on(catalogue.judge, folder) for folder in linked}
    grants = _Grants(account)
    ungranted: dict[Folder, None] = {}
    for row in wanted:
        grants.add(row.mounted, decisions[row.pid], row.proposal, row.pid)
        for folder in links[row.link_closure]:
            decision = on_links[folder]
            if decision is None:
                ungranted[folder] = None
            else:
                grants.add(folder, decision, proposal_of(folder.path), row.pid)
    for proposal, pool in dict.fromkeys((row.proposal, row.pool) for row in wanted):
        decision = catalogue.judge.on_proposal(proposal)
        if decision.may_write:
            grants.add(Folder(pool, f"{proposal}/{PROCESSED}"), decision, proposal, None, mode="rw")
    body = to_json(
        {
            "account": account,
            "datasets": [_dataset_ref(row, links[row.link_closure]) for row in wanted],
            "grants": grants.told,
            "ungranted_links": [folder._asdict() for folder in ungranted],
            "policy_version": catalogue.policy.label,
            "decided_at": catalogue.now,
        }
    )
    return GrantedAnswer(body, grants.folders, catalogue.policy.label)


def find_places(session: Session, pids: Iterable[str]) -> dict[str, DatasetPlaces]:
    """The rows of the pids that there are; what a reader may know of them is still to be decided."""
    query = select(*_PLACES).where(among(session, _COLUMNS.pid, filter(is_storable, pids)))
    return {row.pid: row for row in map(DatasetPlaces._make, session.execute(query))}


def _check_may_open(row: DatasetPlaces | None, decision: Decision | None, pid: str) -> None:
    if row is None or decision is None or decision.visibility == "hidden":
        raise Refused(refusal("not_found", pid, NOT_FOUND_REASON))
    if not decision.may_read:
        code = decision.refusal or "not_found"
        raise Refused(
            refusal(code, pid, decision.reason, until=decision.opens_at, required_acr=decision.step_up)
        )
    if not decision.may_mount:
        raise Refused(refusal("not_a_member", pid, GUEST_REASON))
    if row.pool == ELSEWHERE:
        raise Refused(refusal("bad_request", pid, ELSEWHERE_REASON))
    if row.pool == HOME_POOL:
        raise Refused(refusal("bad_request", pid, "This product lies in your home; open it from there."))


def _folders(text: str) -> tuple[Folder, ...]:
    return tuple(Folder(each["pool"], each["path"]) for each in json.loads(text))


def _dataset_ref(row: DatasetPlaces, links: Iterable[Folder]) -> dict[str, Any]:
    """A `DatasetRef`. A product's folder is its own file: its neighbours have policies of their own."""
    return {
        "pid": row.pid,
        "proposal": row.proposal,
        "title": row.title,
        "technique": row.technique,
        "instrument": row.instrument,
        "folder": {"pool": row.pool, "path": row.folder},
        "file": row.file,
        "size_bytes": row.size_bytes,
        "link_closure": [{"pool": pool, "path": path} for pool, path in links],
        "missing_links": () if row.missing_links == "[]" else json.loads(row.missing_links),
    }


def proposal_of(path: str) -> str:
    """The proposal that a path below a pool's root belongs to: its first component."""
    return path.partition("/")[0]


class Yard:
    """Whole folders of raw data that links lead to, and which of them may be mounted."""

    def __init__(self, session: Session, proposals: Iterable[str]) -> None:
        self._withdrawn: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
        query = select(DatasetRow.pool, DatasetRow.proposal, DatasetRow.folder)
        query = query.where(DatasetRow.withdrawn, among(session, DatasetRow.proposal, proposals))
        for pool, proposal, folder in session.execute(query):
            self._withdrawn[pool, proposal].append(tuple(folder.split("/")))

    def decision_on(self, judge: Judge, folder: Folder) -> Decision | None:
        """The decision that a mount of a folder stands on; None where it may not be mounted.

        It may be where it holds raw data only, and nothing in it was withdrawn.
        """
        parts = tuple(folder.path.split("/"))
        decision = judge.on_proposal(parts[0])
        if not decision.may_mount or len(parts) < 2 or parts[1] == PROCESSED:
            return None
        return None if self._is_tainted(folder) else decision

    def holds_withdrawn(self, row: DatasetPlaces) -> bool:
        """Whether a mount of raw data would show withdrawn data too; a product is mounted as a file alone."""
        return bool(self._withdrawn) and row.kind == "raw" and self._is_tainted(row.mounted)

    def _is_tainted(self, folder: Folder) -> bool:
        parts = tuple(folder.path.split("/"))
        gone = self._withdrawn.get((folder.pool, parts[0]), ())
        return any(each[: len(parts)] == parts for each in gone)


class _Grants:
    """Grants of one account. Two datasets may need one folder: it is granted once, for the first of them."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._found: dict[tuple[Folder, str], dict[str, Any]] = {}

    @property
    def told(self) -> list[dict[str, Any]]:
        """Each a `Grant`."""
        return list(self._found.values())

    @property
    def folders(self) -> tuple[GrantedFolder, ...]:
        """What they touch."""
        return tuple(
            GrantedFolder(grant["proposal"], grant["pid"], folder.pool, folder.path, mode, grant["because"])
            for (folder, mode), grant in self._found.items()
        )

    def add(
        self, folder: Folder, decision: Decision, proposal: str, pid: str | None, *, mode: str = "ro"
    ) -> None:
        """Grant a folder on the ground of a decision that lets mount."""
        if (folder, mode) not in self._found:
            self._found[folder, mode] = {
                "account": self._account,
                "folder": {"pool": folder.pool, "path": folder.path},
                "mode": mode,
                "because": decision.because,
                "detail": decision.detail,
                "until": decision.until,
                "pid": pid,
                "proposal": proposal,
                "required_assurance": decision.required_assurance,
                "required_acr": decision.required_acr,
            }
