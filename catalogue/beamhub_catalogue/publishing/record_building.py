"""Records from the tables, for one reader: what the guard hides is not even asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, cast, get_args

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from beamhub_catalogue.models import (
    AuthorshipRow,
    DatasetRow,
    InputRow,
    MemberRow,
    ProposalRow,
    PublicationDatasetRow,
    PublicationRow,
)
from beamhub_catalogue.publishing.places import PublicPlaces
from beamhub_catalogue.publishing.record import (
    AccessState,
    Affiliation,
    Contributor,
    Making,
    Quantity,
    Record,
    RecordFile,
    RecordKind,
    Relation,
)
from beamhub_catalogue.publishing.sources import own_sources
from beamhub_catalogue.queries import Catalogue, plain_number
from beamhub_catalogue.texts import among
from beamhub_core.config.facility import FacilityConfig
from beamhub_core.policy import Decision
from beamhub_core.product import Product
from beamhub_core.rights import ProposalRole

MAX_FILES = 2_000
MAX_RELATIONS = 500
MAX_PARAMETERS = 100
_ROLES = {role: i for i, role in enumerate(get_args(ProposalRole))}


@dataclass(slots=True)
class _Around:
    """What stands around many datasets, fetched with few queries."""

    teams: Mapping[str, tuple[Contributor, ...]]
    authors: Mapping[int, tuple[Contributor, ...]]
    relations: Mapping[int, list[Relation]]
    proposals: Mapping[str, ProposalRow] = field(default_factory=dict)


class RecordBuilder:
    """Makes records for the reader of a catalogue."""

    def __init__(self, catalogue: Catalogue, config: FacilityConfig, places: PublicPlaces) -> None:
        self._catalogue, self._places = catalogue, places
        self._session = catalogue.session
        publication = config.catalogue.publication
        self._publisher = (publication.publisher if publication else None) or config.name
        self._ror = publication.publisher_ror if publication else None
        self._own = own_sources(config)

    def datasets(self, pids: Iterable[str], *, with_files: bool = False) -> dict[str, Record]:
        """The records of those of these datasets that the reader may know of, by pid."""
        query = self._catalogue.guard.datasets(DatasetRow)
        query = query.where(among(self._session, DatasetRow.pid, list(pids)))
        if with_files:
            query = query.options(selectinload(DatasetRow.files))
        return self.of_rows(self._session.scalars(query).all(), with_files=with_files)

    def of_rows(self, rows: Sequence[DatasetRow], *, with_files: bool = False) -> dict[str, Record]:
        """The records of datasets that the reader may know of, which the caller made sure of."""
        decisions = self._catalogue.judge.on_datasets(rows)
        around = _Around(
            self._teams({row.proposal for row in rows}),
            self._authors(AuthorshipRow.dataset_id, [row.id for row in rows]),
            self._relations(rows),
            self._proposals({row.proposal for row in rows}),
        )
        parameters = self._parameters([row for row in rows if decisions[row.pid].visibility == "full"])
        return {
            row.pid: self._dataset(row, decisions[row.pid], around, parameters.get(row.id, ()), with_files)
            for row in rows
        }

    def documents(self, proposals: Iterable[str]) -> dict[str, Record]:
        """The records of those of these proposals that the reader may know of, by their id."""
        query = self._catalogue.guard.proposals(ProposalRow)
        rows = self._session.scalars(query.where(among(self._session, ProposalRow.id, list(proposals)))).all()
        names = [row.id for row in rows]
        teams = self._teams(names)
        authors = self._authors(AuthorshipRow.document, names)
        parts = self._parts(names)
        return {
            row.id: self._document(row, authors.get(row.id) or teams.get(row.id, ()), parts.get(row.id, []))
            for row in rows
        }

    def _dataset(
        self,
        row: DatasetRow,
        decision: Decision,
        around: _Around,
        parameters: Sequence[Quantity],
        with_files: bool,
    ) -> Record:
        full = decision.visibility == "full"
        proposal = around.proposals.get(row.proposal)
        product = Product.model_validate(row.product) if row.product and full else None
        created = row.start or row.harvested_at
        team = around.teams.get(row.proposal, ())
        makers = (Contributor(product.who),) if product else team
        return Record(
            pid=row.pid,
            kind=cast(RecordKind, row.kind),
            title=row.title.strip() or row.pid,
            url=self._places.dataset(row.pid),
            publisher=row.publisher or self._publisher,
            publisher_ror=self._ror if row.publisher in (None, self._publisher) else None,
            created=created,
            issued=self._issued(decision.opens_at, created),
            access=_access(decision),
            doi=None if row.doi_state == "draft" else row.doi,  # a draft leads nowhere yet
            creators=around.authors.get(row.id) or makers,
            ended=row.end,
            available=decision.opens_at,
            license=row.license or self._license(proposal),
            proposal=row.proposal,
            proposal_title=proposal.title if proposal else "",
            abstract=row.description,
            facility=self._catalogue.facility,
            instrument=row.instrument,
            technique=row.technique,
            technique_label=row.technique_label,
            version=row.version,
            keywords=tuple(str(word) for word in row.keywords),
            relations=tuple(around.relations.get(row.id, ())),
            ours=row.source in self._own,
            full=full,
            size_bytes=row.size_bytes if full else None,
            sample=row.sample if full else None,
            files=_files(row) if full and with_files else (),
            parameters=tuple(parameters) if full else (),
            making=_making(product) if product else None,
        )

    def _document(self, row: ProposalRow, creators: tuple[Contributor, ...], parts: list[Relation]) -> Record:
        decision = self._catalogue.judge.on_proposal(row.id)
        began = row.start or row.end
        midnight = datetime.combine(began, time.min, tzinfo=self._catalogue.policy.zone) if began else None
        created = midnight or row.opens_at or datetime(1970, 1, 1, tzinfo=UTC)
        return Record(
            pid=row.id,
            kind="proposal",
            title=row.title or f"Proposal {row.id}",
            url=self._places.document(row.id),
            publisher=self._publisher,
            publisher_ror=self._ror,
            created=created,
            issued=self._issued(decision.opens_at, created),
            access=_access(decision),
            doi=row.doi,
            creators=creators,
            available=decision.opens_at,
            license=self._license(row),
            proposal=row.id,
            proposal_title=row.title,
            abstract=row.summary,
            facility=self._catalogue.facility,
            instrument=row.instrument,
            keywords=tuple(str(word) for word in row.keywords),
            relations=tuple(parts),
            full=decision.visibility == "full",
        )

    def _issued(self, opens_at: datetime | None, created: datetime) -> date:
        """The end of the embargo, as DataCite asks for. Source: DataCite schema 4.5, publicationYear."""
        return (opens_at or created).astimezone(self._catalogue.policy.zone).date()

    def _license(self, proposal: ProposalRow | None) -> str | None:
        rules = self._catalogue.policy.classes.get((proposal.embargo_class if proposal else None) or "")
        return rules.license if rules else None

    def _proposals(self, names: Iterable[str]) -> dict[str, ProposalRow]:
        query = select(ProposalRow).where(among(self._session, ProposalRow.id, names))
        return {row.id: row for row in self._session.scalars(query)}

    def _teams(self, proposals: Iterable[str]) -> dict[str, tuple[Contributor, ...]]:
        """People as the user office names them, principal investigator first, each once."""
        query = select(
            MemberRow.id, MemberRow.proposal, MemberRow.name, MemberRow.role, MemberRow.orcid
        ).where(among(self._session, MemberRow.proposal, proposals), MemberRow.removed_at.is_(None))
        rows = sorted(self._session.execute(query).all(), key=lambda row: (_ROLES[row.role], row.id))
        found: dict[str, dict[str, Contributor]] = defaultdict(dict)
        for row in rows:
            if row.name:
                found[row.proposal].setdefault(row.name, Contributor(row.name, row.role, row.orcid))
        return {proposal: tuple(people.values()) for proposal, people in found.items()}

    def _authors(self, column: Any, values: Sequence[Any]) -> dict[Any, tuple[Contributor, ...]]:
        """The author lists that a source gave, in their order."""
        query = (
            select(AuthorshipRow)
            .where(column.in_(values))
            .options(selectinload(AuthorshipRow.author), selectinload(AuthorshipRow.affiliation))
            .order_by(AuthorshipRow.position, AuthorshipRow.id)
        )
        found: dict[Any, dict[int, Contributor]] = defaultdict(dict)
        for row in self._session.scalars(query):
            place = (
                (Affiliation(row.affiliation.name, row.affiliation.ror),)
                if row.affiliation is not None
                else ()
            )
            of = found[getattr(row, column.key)]
            known = of.get(row.author_id)
            of[row.author_id] = Contributor(
                row.author.full_name,
                row.role,
                row.author.orcid,
                row.author.first_name,
                row.author.last_name,
                (*(known.affiliations if known else ()), *place),
            )
        return {key: tuple(people.values()) for key, people in found.items()}

    def _parameters(self, rows: Sequence[DatasetRow]) -> dict[int, list[Quantity]]:
        """Values of datasets that the reader may see fully."""
        table = DatasetRow.parameters.property.mapper.class_
        query = select(table.dataset_id, table.name, table.number, table.word, table.unit)
        query = query.where(table.dataset_id.in_([row.id for row in rows])).order_by(table.name, table.id)
        found: dict[int, list[Quantity]] = defaultdict(list)
        for row in self._session.execute(query):
            if len(found[row.dataset_id]) < MAX_PARAMETERS:
                value = row.word or "" if row.number is None else plain_number(row.number)
                found[row.dataset_id].append(Quantity(row.name, value, row.unit))
        return found

    def _relations(self, rows: Sequence[DatasetRow]) -> dict[int, list[Relation]]:
        """What datasets were made from and used by, as far as the reader may know, and their surroundings."""
        found: dict[int, list[Relation]] = defaultdict(list)
        ids = [row.id for row in rows]
        directions: tuple[tuple[str, Any, Any], ...] = (
            ("IsDerivedFrom", InputRow.product_id, InputRow.input_id),
            ("IsSourceOf", InputRow.input_id, InputRow.product_id),
        )
        for word, mine, other in directions:
            query = self._catalogue.guard.datasets(mine, DatasetRow.pid, DatasetRow.doi, DatasetRow.title)
            query = query.join(InputRow, other == DatasetRow.id).where(mine.in_(ids)).order_by(DatasetRow.pid)
            for one, pid, doi, title in self._session.execute(query):
                if len(found[one]) < MAX_RELATIONS:
                    found[one].append(Relation(word, doi or self._places.dataset(pid), title))
        self._add_papers(found, ids)
        self._add_successors(found, [row for row in rows if row.replaced_by])
        for row in rows:
            found[row.id].append(Relation("IsPartOf", self._places.document(row.proposal), "", "Collection"))
        return found

    def _add_papers(self, found: dict[int, list[Relation]], ids: Sequence[int]) -> None:
        papers = (
            select(PublicationDatasetRow.dataset_id, PublicationRow.doi, PublicationRow.title)
            .join(PublicationRow, PublicationRow.id == PublicationDatasetRow.publication_id)
            .where(PublicationDatasetRow.dataset_id.in_(ids), PublicationRow.doi.is_not(None))
            .order_by(PublicationRow.pid)
        )
        for one, doi, title in self._session.execute(papers):
            found[one].append(Relation("IsCitedBy", str(doi), title, "JournalArticle"))

    def _add_successors(self, found: dict[int, list[Relation]], rows: Sequence[DatasetRow]) -> None:
        """Newer versions, where the reader may know of these."""
        if not rows:
            return
        query = self._catalogue.guard.datasets(DatasetRow.pid, DatasetRow.doi, DatasetRow.title)
        successors = {row.id: str(row.replaced_by) for row in rows}
        query = query.where(among(self._session, DatasetRow.pid, successors.values()))
        newer = {pid: (doi, title) for pid, doi, title in self._session.execute(query)}
        for one, pid in successors.items():
            if pid in newer:
                doi, title = newer[pid]
                found[one].append(Relation("IsPreviousVersionOf", doi or self._places.dataset(pid), title))

    def _parts(self, proposals: Sequence[str]) -> dict[str, list[Relation]]:
        """The datasets of proposals, as far as the reader may know, and not more than a page may hold."""
        found: dict[str, list[Relation]] = {}
        for proposal in proposals:
            query = self._catalogue.guard.datasets(DatasetRow.pid, DatasetRow.doi, DatasetRow.title)
            query = query.where(DatasetRow.proposal == proposal, DatasetRow.kind == "raw")
            rows = self._session.execute(query.order_by(DatasetRow.pid).limit(MAX_RELATIONS))
            found[proposal] = [
                Relation("HasPart", doi or self._places.dataset(pid), title) for pid, doi, title in rows
            ]
        return found


def _access(decision: Decision) -> AccessState:
    if decision.state in ("open", "withdrawn"):
        return "open" if decision.state == "open" else "withdrawn"
    return "closed" if decision.opens_at is None else "embargoed"


def _files(row: DatasetRow) -> tuple[RecordFile, ...]:
    return tuple(
        RecordFile(file.name, file.path, file.size_bytes, _sha256(file.checksum or ""))
        for file in row.files[:MAX_FILES]
    )


def _sha256(checksum: str) -> str | None:
    kind, _, digits = checksum.partition(":")
    return digits if kind == "sha256" else None


def _making(product: Product) -> Making:
    return Making(
        made_at=product.made_at,
        who=product.who,
        software=tuple(sorted(product.software.items())),
        parameters=tuple((name, str(value)) for name, value in sorted(product.parameters.items())),
        environment=product.environment,
        image=product.image,
        sha256=product.sha256,
    )
