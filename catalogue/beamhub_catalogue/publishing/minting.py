"""DOIs of our records: given, kept true to what the public may see, and hidden when a record is withdrawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import select

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.models import DatasetRow, OaiRecordRow, ProposalRow
from beamhub_catalogue.publishing.doi_registry import DoiRegistry, doi_for
from beamhub_catalogue.publishing.places import PublicPlaces
from beamhub_catalogue.publishing.publisher import Told
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.record_building import RecordBuilder
from beamhub_core.errors import BeamhubError

Kind = Literal["dataset", "document"]


class NotCitable(BeamhubError):
    """A record that gets no DOI."""

    exit_code = 4

    def __init__(self, pid: str, reason: str) -> None:
        super().__init__(pid, reason)
        self.pid, self.reason = pid, reason

    def __str__(self) -> str:
        return f"{self.pid!r} gets no DOI: {self.reason}"


@dataclass(frozen=True, slots=True)
class Minted:
    """What DataCite holds now."""

    kind: Kind
    pid: str
    doi: str
    state: str


class Minter:
    """Gives DOIs to what an anonymous reader may know of, and to nothing else."""

    def __init__(self, desk: Desk, places: PublicPlaces, registry: DoiRegistry) -> None:
        self._desk, self._places, self._registry = desk, places, registry

    def mint(self, kind: Kind, pid: str, *, draft: bool = False) -> Minted:
        """The DOI of a record, made findable, or reserved only with `draft`; the same one when asked again.

        Raises
        ------
        NotCitable
            For what the public may not know of, what is withdrawn, private or another catalogue's.
        DoiRefused
            If DataCite does not take the metadata.
        Unavailable
            If DataCite gives no answer.
        """
        record = self._public_record(kind, pid)
        doi = self._kept_doi(kind, pid) or doi_for(
            self._registry.prefix, self._desk.config.short_name, kind, pid
        )
        named = replace(record, doi=doi)
        # A draft first, so that a refusal leaves nothing public behind.
        state = self._registry.draft(named, doi)
        if not draft:
            state = self._registry.publish(named, doi)
        self._keep(kind, pid, doi, state)
        if state == "findable":
            self._note(kind, pid, Told(kind, pid, "", self._public_record(kind, pid)).digest)
        return Minted(kind, pid, doi, state)

    def renew(self) -> Iterator[Minted]:
        """Tell DataCite what changed of records with a findable DOI, and hide those of withdrawn ones.

        The errors of `mint`; what was done before stays done.
        """
        for kind, pid, doi, deleted in self._stale():
            if deleted:
                state = self._registry.hide(doi)
                self._note(kind, pid, "")
            else:
                record = self._public_record(kind, pid)
                state = self._registry.publish(record, doi)
                self._note(kind, pid, Told(kind, pid, "", record).digest)
            yield Minted(kind, pid, doi, state)

    def _stale(self) -> list[tuple[Kind, str, str, bool]]:
        query = select(OaiRecordRow.kind, OaiRecordRow.pid, OaiRecordRow.doi, OaiRecordRow.deleted).where(
            OaiRecordRow.doi.is_not(None), OaiRecordRow.registered.is_distinct_from(OaiRecordRow.digest)
        )
        with self._desk.database.reading() as session:
            rows = session.execute(query.order_by(OaiRecordRow.id)).all()
        return [(_kind(kind), pid, str(doi), deleted) for kind, pid, doi, deleted in rows]

    def _public_record(self, kind: Kind, pid: str) -> Record:
        with self._desk.reading(None) as catalogue:
            builder = RecordBuilder(catalogue, self._desk.config, self._places)
            found = builder.datasets([pid]) if kind == "dataset" else builder.documents([pid])
        record = found.get(pid)
        if record is None:
            raise NotCitable(pid, "the public may not know of it, or there is none")
        if not record.ours:
            raise NotCitable(pid, "another catalogue is the authority for it, and names it")
        if record.access == "withdrawn":
            raise NotCitable(pid, "it was withdrawn")
        return record

    def _kept_doi(self, kind: Kind, pid: str) -> str | None:
        column, named = (
            (DatasetRow.doi, DatasetRow.pid) if kind == "dataset" else (ProposalRow.doi, ProposalRow.id)
        )
        with self._desk.database.reading() as session:
            return session.scalar(select(column).where(named == pid))

    def _keep(self, kind: Kind, pid: str, doi: str, state: str) -> None:
        """Store a DOI; that of a document once it is findable, since nothing there says that it is not."""
        now = self._desk.clock()
        with self._desk.database.writing() as session:
            if kind == "dataset":
                row = session.scalar(select(DatasetRow).where(DatasetRow.pid == pid))
                if row is not None and (row.doi, row.doi_state) != (doi, state):
                    row.doi, row.doi_state, row.changed_at = doi, state, now
            elif state == "findable":
                proposal = session.get(ProposalRow, pid)
                if proposal is not None and proposal.doi != doi:
                    proposal.doi, proposal.changed_at = doi, now

    def _note(self, kind: Kind, pid: str, digest: str) -> None:
        """Remember what DataCite was told."""
        query = select(OaiRecordRow).where(OaiRecordRow.kind == kind, OaiRecordRow.pid == pid)
        with self._desk.database.writing() as session:
            row = session.scalar(query)
            if row is not None:
                row.registered = digest


def _kind(word: str) -> Kind:
    return "dataset" if word == "dataset" else "document"
