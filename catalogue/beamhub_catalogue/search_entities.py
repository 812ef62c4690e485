"""The entities of the PaNOSC search API as one reader may ask for them: fields, relations, guarded rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    Date,
    Select,
    String,
    and_,
    case,
    cast,
    func,
    literal,
    not_,
    null,
    or_,
    union,
    union_all,
)
from sqlalchemy import select as sql_select

from beamhub_catalogue.counts import uncounted
from beamhub_catalogue.guards import Guard
from beamhub_catalogue.models import (
    DatasetCountRow,
    DatasetRow,
    DocumentParameterRow,
    FileRow,
    ParameterRow,
    ProposalRow,
    PublicationDatasetRow,
    PublicationRow,
    SampleRow,
    StaleCountRow,
    TechniqueRow,
    UtcDateTime,
)
from beamhub_catalogue.panet import PANET
from beamhub_catalogue.people import ANONYMOUS
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.search_items import (
    dataset_item,
    document_item,
    file_item,
    instrument_item,
    parameter_item,
    sample_item,
    technique_item,
)
from beamhub_catalogue.search_people import affiliation_entity, member_entity, people, person_entity
from beamhub_catalogue.search_sql import Entity, Field, Relation
from beamhub_catalogue.search_terms import terms_by_id, terms_by_name
from beamhub_catalogue.texts import constant


class Entities:
    """Made for one reader at one instant; each entity when it is first asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue, self._guard = catalogue, catalogue.guard
        self.reads = catalogue.guard.reads()
        anonymous = catalogue.reader == ANONYMOUS
        public = catalogue.guard if anonymous else Guard(ANONYMOUS, catalogue.policy, catalogue.now)
        self.is_public = public.reads()

    def named(self, name: str) -> Entity:
        """The entity of a name, such as "Dataset"."""
        found: Entity = getattr(self, name.lower())
        return found

    @cached_property
    def dataset(self) -> Entity:
        """Datasets, raw ones and products."""
        created = func.coalesce(DatasetRow.start, DatasetRow.harvested_at, type_=UtcDateTime())
        fields = {
            "pid": Field(DatasetRow.pid, "text"),
            "title": Field(DatasetRow.title, "text"),
            "isPublic": Field(case((self.is_public, True), else_=False), "bool"),
            "creationDate": Field(created, "date"),
            "size": Field(DatasetRow.size_bytes, "number", only_where=self.reads),
            "doi": Field(DatasetRow.doi, "text"),
            "license": Field(DatasetRow.license, "text"),
            "keywords": Field(DatasetRow.keywords, "words"),
        }
        gated = self.reads
        relations = {
            "documents": lambda: Relation(
                "Document", DatasetRow.id, self._documents.c.pid, link=self._document_links
            ),
            "techniques": lambda: Relation("Technique", DatasetRow.id, TechniqueRow.dataset_id, apart=True),
            "instrument": lambda: Relation("Instrument_of_dataset", many=False, inline=self._instrument_in),
            "files": lambda: Relation("File", DatasetRow.id, FileRow.dataset_id, only_where=gated),
            "parameters": lambda: Relation(
                "Parameter", DatasetRow.id, ParameterRow.dataset_id, only_where=gated
            ),
            "samples": lambda: Relation("Sample", DatasetRow.id, SampleRow.dataset_id, only_where=gated),
            "members": lambda: Relation("Member", DatasetRow.id, self._people.c.dataset_id, only_where=gated),
        }
        flags = (
            case((self.reads, True), else_=False).label("reads"),
            case((self.is_public, True), else_=False).label("is_public"),
        )
        return Entity(
            "Dataset",
            fields,
            (DatasetRow.title,),
            self._guard.datasets,
            (DatasetRow, *flags),
            (DatasetRow.pid,),
            lambda row, include: dataset_item(row),
            relations,
        )

    @cached_property
    def document(self) -> Entity:
        """Proposals and publications."""
        d = self._documents.c
        fields = {
            "pid": Field(d.pid, "text"),
            "title": Field(d.title, "text"),
            "type": Field(d.type, "text"),
            "summary": Field(d.summary, "text"),
            "doi": Field(d.doi, "text"),
            "license": Field(d.license, "text"),
            "keywords": Field(d.keywords, "words"),
            "isPublic": Field(d.is_public, "bool"),
            "startDate": Field(d.start, "day"),
            "endDate": Field(d.end, "day"),
            "releaseDate": Field(d.released_at, "date"),
        }
        relations = {
            "datasets": lambda: Relation(
                "Dataset", d.pid, DatasetRow.id, link=self._dataset_links, each=True
            ),
            "members": lambda: Relation("Member", d.pid, self._people.c.document),
            "parameters": lambda: Relation("Document_parameter", d.pid, DocumentParameterRow.document),
        }
        documents = self._documents
        return Entity(
            "Document",
            fields,
            (d.title, d.summary),
            lambda *columns: sql_select(*columns).select_from(documents),
            tuple(d),
            (d.pid,),
            lambda row, include: document_item(row),
            relations,
        )

    @cached_property
    def instrument(self) -> Entity:
        """Instruments of which the reader knows a dataset."""
        c = DatasetCountRow
        counted = self._guard.proposals(c.value.label("name")).join(c, c.proposal == ProposalRow.id)
        counted = counted.where(c.facet == "instrument", c.value != "")
        fresh = c.proposal.not_in(sql_select(StaleCountRow.proposal).correlate(None))
        live = self._guard.datasets(DatasetRow.instrument.label("name"))
        live = live.where(DatasetRow.instrument != "", uncounted())
        table = union(counted.where(fresh), live).subquery("known_instruments")
        relations = {"datasets": lambda: Relation("Dataset", table.c.name, DatasetRow.instrument, each=True)}
        return self._instruments(
            table.c.name, lambda *columns: sql_select(*columns).select_from(table), relations
        )

    @cached_property
    def instrument_of_dataset(self) -> Entity:
        """The instrument that a dataset names."""
        return self._instruments(DatasetRow.instrument, self._guard.datasets, {})

    def _instrument_in(self, row: Any) -> dict[str, Any] | None:
        name = row.DatasetRow.instrument
        return instrument_item(name, self._catalogue.facility) if name else None

    def _instruments(self, name: Any, source: Any, relations: Mapping[str, Callable[[], Relation]]) -> Entity:
        facility = self._catalogue.facility
        fields = {
            "pid": Field(name, "text"),
            "name": Field(name, "text"),
            "facility": Field(constant(facility), "text"),
        }
        texts = (name, constant(facility))
        return Entity(
            "Instrument",
            fields,
            texts,
            source,
            (name.label("name"),),
            (name,),
            lambda row, include: instrument_item(row.name, facility),
            relations,
        )

    @cached_property
    def technique(self) -> Entity:
        """Techniques of datasets, expanded by PaNET."""
        pid, label = TechniqueRow.pid, TechniqueRow.label
        short = func.replace(pid, PANET, "", type_=String())
        fields = {
            "pid": Field(pid, "term", term=pid, terms=terms_by_id),
            "name": Field(label, "term", term=pid, terms=terms_by_name),
            "panetId": Field(short, "term", term=pid, terms=terms_by_id),
        }
        return Entity(
            "Technique",
            fields,
            (label,),
            lambda *columns: sql_select(*columns).select_from(TechniqueRow),
            (pid, label),
            (TechniqueRow.position,),
            lambda row, include: technique_item(row),
        )

    @cached_property
    def sample(self) -> Entity:
        """Samples of datasets."""
        fields = {
            "pid": Field(SampleRow.pid, "text"),
            "name": Field(SampleRow.name, "text"),
            "description": Field(SampleRow.description, "text"),
        }
        return Entity(
            "Sample",
            fields,
            (SampleRow.name, SampleRow.description),
            lambda *columns: sql_select(*columns).select_from(SampleRow),
            (SampleRow.pid, SampleRow.name, SampleRow.description),
            (SampleRow.position,),
            lambda row, include: sample_item(row),
        )

    @cached_property
    def file(self) -> Entity:
        """Files of datasets."""
        fields = {
            "name": Field(FileRow.name, "text"),
            "path": Field(FileRow.path, "text"),
            "size": Field(FileRow.size_bytes, "number"),
        }
        pid = sql_select(DatasetRow.pid).where(DatasetRow.id == FileRow.dataset_id).correlate(FileRow)
        told = (FileRow.pool, FileRow.path, FileRow.name, FileRow.size_bytes, FileRow.checksum)
        return Entity(
            "File",
            fields,
            (FileRow.name,),
            lambda *columns: sql_select(*columns).select_from(FileRow),
            (pid.scalar_subquery().label("dataset_pid"), *told),
            (FileRow.id,),
            lambda row, include: file_item(row),
        )

    @cached_property
    def parameter(self) -> Entity:
        """Parameters of datasets."""
        owner = sql_select(DatasetRow.pid).where(DatasetRow.id == ParameterRow.dataset_id)
        return _parameters(ParameterRow, owner.correlate(ParameterRow).scalar_subquery())

    @cached_property
    def document_parameter(self) -> Entity:
        """Parameters of documents."""
        return _parameters(DocumentParameterRow, DocumentParameterRow.document)

    @cached_property
    def member(self) -> Entity:
        """Places of people in documents and datasets."""
        return member_entity(self._people)

    @cached_property
    def person(self) -> Entity:
        """The person of a place."""
        return person_entity(self._people)

    @cached_property
    def affiliation(self) -> Entity:
        """The affiliation of a place."""
        return affiliation_entity(self._people)

    @cached_property
    def _document_links(self) -> tuple[Any, Any, Any]:
        """Which dataset belongs to which document: (table, dataset, document)."""
        of_proposals = sql_select(DatasetRow.id.label("dataset"), DatasetRow.proposal.label("document"))
        of_publications = sql_select(
            PublicationDatasetRow.dataset_id.label("dataset"), PublicationRow.pid.label("document")
        ).join_from(PublicationDatasetRow, PublicationRow)
        links = union_all(of_proposals, of_publications).subquery("links")
        return links, links.c.dataset, links.c.document

    @property
    def _dataset_links(self) -> tuple[Any, Any, Any]:
        """The same the other way round: (table, document, dataset)."""
        table, dataset, document = self._document_links
        return table, document, dataset

    @cached_property
    def _people(self) -> Any:
        return people()

    @cached_property
    def _documents(self) -> Any:
        """All documents that the reader may know of; a publication by any of its datasets."""
        known = self._guard.datasets(PublicationDatasetRow.publication_id).join(
            PublicationDatasetRow, PublicationDatasetRow.dataset_id == DatasetRow.id
        )
        publications = sql_select(*self._of_publications(self._catalogue.now)).where(
            PublicationRow.id.in_(known.correlate(None))
        )
        proposals = self._guard.proposals(*self._of_proposals(self._catalogue.now))
        return union_all(proposals, publications).subquery("documents")

    def _of_proposals(self, now: datetime) -> tuple[Any, ...]:
        is_open = and_(ProposalRow.opens_at.is_not(None), ProposalRow.opens_at <= now)
        named = [(n, rules.license) for n, rules in self._catalogue.policy.classes.items() if rules.license]
        licensed = [(ProposalRow.embargo_class == name, literal(text)) for name, text in named]
        return (
            ProposalRow.id.label("pid"),
            cast(constant("proposal"), String()).label("type"),
            ProposalRow.title.label("title"),
            ProposalRow.summary.label("summary"),
            ProposalRow.doi.label("doi"),
            cast(case(*licensed, else_=null()) if licensed else null(), String()).label("license"),
            ProposalRow.keywords.label("keywords"),
            case((and_(is_open, not_(ProposalRow.withdrawn)), True), else_=False).label("is_public"),
            ProposalRow.start.label("start"),
            ProposalRow.end.label("end"),
            ProposalRow.opens_at.label("released_at"),
        )

    def _of_publications(self, now: datetime) -> tuple[Any, ...]:
        released = or_(PublicationRow.released_at.is_(None), PublicationRow.released_at <= now)
        return (
            PublicationRow.pid.label("pid"),
            PublicationRow.type.label("type"),
            PublicationRow.title.label("title"),
            PublicationRow.summary.label("summary"),
            PublicationRow.doi.label("doi"),
            PublicationRow.license.label("license"),
            PublicationRow.keywords.label("keywords"),
            case((released, True), else_=False).label("is_public"),
            cast(null(), Date()).label("start"),
            cast(null(), Date()).label("end"),
            PublicationRow.released_at.label("released_at"),
        )


def _parameters(table: Any, owner: Any) -> Entity:
    fields = {
        "name": Field(table.name, "text"),
        "value": Field(table.number, "measured", word=table.word, si=table.si_number),
        "unit": Field(table.unit, "text", dimension=table.dimension),
    }

    def source(*columns: Any) -> Select[Any]:
        return sql_select(*columns).select_from(table)

    told = (table.name, table.number, table.word, table.unit, table.si_number, table.dimension)
    return Entity(
        "Parameter",
        fields,
        (table.name,),
        source,
        (owner.label("owner"), *told),
        (table.id,),
        parameter_item,
    )
