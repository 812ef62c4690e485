"""The people whom records name as their authors, each kept once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.models import AffiliationRow, AuthorRow, AuthorshipRow, DatasetRow

MAX_ROLE = 60


@dataclass(frozen=True, slots=True)
class Author:
    """A person as a record names them; the ORCID iD was checked."""

    name: str
    orcid: str | None = None
    role: str | None = None
    affiliation: str | None = None
    first_name: str | None = None
    last_name: str | None = None


def set_authors(session: Session, row: DatasetRow, authors: Sequence[Author]) -> None:
    """Make these the authors of a dataset that has an id, in this order."""
    row.authorships = [
        AuthorshipRow(
            position=position,
            role=(author.role or "creator")[:MAX_ROLE],
            author=ensure_author(session, author),
            affiliation=_ensure_affiliation(session, author.affiliation),
        )
        for position, author in enumerate(dict.fromkeys(authors))
    ]
    session.flush()


def ensure_author(session: Session, author: Author) -> AuthorRow:
    """The row of a person: by ORCID iD, else by a name that nobody with an ORCID iD bears here."""
    if author.orcid is not None:
        same = AuthorRow.orcid == author.orcid
    else:
        same = (AuthorRow.full_name == author.name) & AuthorRow.orcid.is_(None)
    row = session.scalar(select(AuthorRow).where(same).limit(1))
    if row is None:
        row = AuthorRow(full_name=author.name, orcid=author.orcid)
        row.first_name, row.last_name = author.first_name, author.last_name
        session.add(row)
        session.flush()
    return row


def _ensure_affiliation(session: Session, name: str | None) -> AffiliationRow | None:
    if not name:
        return None
    query = select(AffiliationRow).where(AffiliationRow.name == name, AffiliationRow.ror.is_(None)).limit(1)
    row = session.scalar(query)
    if row is None:
        row = AffiliationRow(name=name)
        session.add(row)
        session.flush()
    return row
