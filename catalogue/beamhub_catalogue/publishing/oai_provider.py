"""The OAI-PMH provider: from the arguments of a request to the document that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.models import OaiRecordRow
from beamhub_catalogue.publishing.oai_arguments import (
    PREFIXES,
    OaiError,
    OaiRequest,
    Selection,
    parse_request,
)
from beamhub_catalogue.publishing.oai_listing import Listing, Span
from beamhub_catalogue.publishing.oai_sets import set_specs
from beamhub_catalogue.publishing.oai_tokens import ListPlace, TokenSigner, expires_at
from beamhub_catalogue.publishing.oai_xml import (
    Header,
    Repository,
    Resumption,
    add_error,
    add_formats,
    add_header,
    add_identify,
    add_record,
    add_resumption,
    add_sets,
    envelope,
    verb_element,
    written,
)
from beamhub_catalogue.publishing.places import PublicPlaces
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.record_building import RecordBuilder
from beamhub_catalogue.publishing.xml_text import Element
from beamhub_catalogue.queries import Catalogue
from beamhub_core.config.publication import PublicationConfig

Pairs = Sequence[tuple[str, str]]
_UNKNOWN = "There is no record with this identifier."


@dataclass(slots=True)
class _Answer:
    """An answer in the making: one snapshot, one instant."""

    root: Element
    catalogue: Catalogue
    listing: Listing
    horizon: datetime


class OaiProvider:
    """Answers harvesters with what an anonymous reader may see; safe to share between threads."""

    def __init__(
        self, desk: Desk, publication: PublicationConfig, places: PublicPlaces, signer: TokenSigner
    ) -> None:
        self._desk, self._publication, self._places, self._signer = desk, publication, places, signer

    def answer(self, pairs: Pairs) -> bytes:
        """The document that answers a request; an error of the protocol is one too."""
        asked_at = self._desk.clock()  # before the snapshot is taken; see `Listing.horizon`
        try:
            request = parse_request(pairs)
        except OaiError as error:
            return self._error(error, dict(pairs), asked_at)
        arguments = {"verb": request.verb, **request.arguments}
        try:
            with self._desk.reading(None) as catalogue:
                listing = Listing(catalogue.session, self._desk.config.short_name)
                horizon = listing.horizon(asked_at)
                root = envelope(self._places.oai_url, arguments, horizon)
                self._fill(_Answer(root, catalogue, listing, horizon), request)
                return written(root)
        except OaiError as error:
            return self._error(error, arguments, asked_at)

    def _error(self, error: OaiError, arguments: dict[str, str], asked_at: datetime) -> bytes:
        wrong = error.code in ("badVerb", "badArgument")
        root = envelope(self._places.oai_url, {} if wrong else arguments, asked_at)
        add_error(root, error)
        return written(root)

    def _fill(self, answer: _Answer, request: OaiRequest) -> None:
        if request.verb == "Identify":
            add_identify(answer.root, self._repository(answer.listing))
        elif request.verb == "ListSets":
            if request.token is not None:
                raise OaiError("badResumptionToken", "The list of sets comes in one piece and has no token.")
            add_sets(answer.root, answer.listing.sets())
        elif request.verb == "ListMetadataFormats":
            if request.identifier is not None:
                self._find(answer, request.identifier)
            add_formats(answer.root, PREFIXES)
        elif request.verb == "GetRecord":
            self._get_record(answer, request)
        else:
            self._list(answer, request)

    def _repository(self, listing: Listing) -> Repository:
        places = self._places
        return Repository(
            name=self._desk.config.name,
            base_url=places.oai_url,
            admin_email=self._publication.admin_email,
            earliest=listing.earliest(),
            namespace=places.namespace if places.has_identifier_scheme else None,
            sample_identifier=places.oai_identifier("dataset", f"{self._desk.config.short_name}:1"),
        )

    def _find(self, answer: _Answer, identifier: str) -> OaiRecordRow:
        named = self._places.local_name(identifier)
        row = answer.listing.find(*named) if named is not None else None
        if row is None:
            raise OaiError("idDoesNotExist", _UNKNOWN)
        return row

    def _get_record(self, answer: _Answer, request: OaiRequest) -> None:
        row = self._find(answer, request.identifier or "")
        prefix = request.selection.prefix if request.selection else PREFIXES[0]
        record = self._records(answer, [row]).get(row.id)
        add_record(verb_element(answer.root, "GetRecord"), self._header(row, record), record, prefix)

    def _list(self, answer: _Answer, request: OaiRequest) -> None:
        place = self._resumed(request, answer) if request.token is not None else None
        if place is None:
            place = self._first_place(request, answer)
        since = _instant(place.since) if place.since is not None else None
        span = Span(place.set_spec, since, _instant(place.until))
        behind = (_instant(place.last_datestamp), place.last_id) if place.cursor else None
        size = self._publication.oai.page_size
        rows = answer.listing.page(span, size + 1, behind)
        page, more = rows[:size], len(rows) > size
        if not page and not place.cursor:
            raise OaiError("noRecordsMatch", "No record matches these arguments.")
        records = self._records(answer, page)
        parent = verb_element(answer.root, request.verb)
        for row in page:
            record = records.get(row.id)
            if request.verb == "ListIdentifiers":
                add_header(parent, self._header(row, record))
            else:
                add_record(parent, self._header(row, record), record, place.prefix)
        if more or place.cursor:
            add_resumption(parent, self._resumption(place, page, more))

    def _first_place(self, request: OaiRequest, answer: _Answer) -> ListPlace:
        chosen = request.selection or Selection(PREFIXES[0])
        until = min(chosen.until, answer.horizon) if chosen.until else answer.horizon
        return ListPlace(
            verb=request.verb,
            prefix=chosen.prefix,
            set_spec=chosen.set_spec,
            since=int(chosen.since.timestamp()) if chosen.since else None,
            until=int(until.timestamp()),
            last_datestamp=0,
            last_id=0,
            cursor=0,
            total=answer.listing.count(Span(chosen.set_spec, chosen.since, until)),
            made_at=int(answer.horizon.timestamp()),
        )

    def _resumed(self, request: OaiRequest, answer: _Answer) -> ListPlace:
        place = self._signer.read(request.token or "", self._desk.clock())
        if place is None or place.verb != request.verb:
            raise OaiError("badResumptionToken", "The token is not ours, not of this verb, or a day old.")
        return place

    def _resumption(self, place: ListPlace, page: Sequence[OaiRecordRow], more: bool) -> Resumption:
        if not more:
            return Resumption("", max(place.total, place.cursor + len(page)), place.cursor)
        last = page[-1]
        following = replace(
            place,
            last_datestamp=int(last.datestamp.timestamp()),
            last_id=last.id,
            cursor=place.cursor + len(page),
        )
        total = max(place.total, following.cursor + 1)
        return Resumption(self._signer.sign(following), total, place.cursor, expires_at(place))

    def _records(self, answer: _Answer, rows: Sequence[OaiRecordRow]) -> dict[int, Record]:
        """What the public may see now of told records: nothing of one that was hidden or withdrawn since."""
        builder = RecordBuilder(answer.catalogue, self._desk.config, self._places)
        of = {
            "dataset": builder.datasets(
                [row.pid for row in rows if row.kind == "dataset" and not row.deleted]
            ),
            "document": builder.documents(
                [row.pid for row in rows if row.kind == "document" and not row.deleted]
            ),
        }
        found = {row.id: of[row.kind].get(row.pid) for row in rows}
        return {row: record for row, record in found.items() if record and record.access != "withdrawn"}

    def _header(self, row: OaiRecordRow, record: Record | None) -> Header:
        return Header(
            self._places.oai_identifier(row.kind, row.pid),
            row.datestamp,
            tuple(set_specs(self._desk.config.short_name, row.kind, row.instrument, row.technique, row.year)),
            deleted=record is None,
        )


def _instant(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
