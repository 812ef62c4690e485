"""What a reader finds: result lists, facets and dataset pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select
from sqlalchemy.orm import Session

from beamhub_catalogue.decisions import Judge
from beamhub_catalogue.guards import Guard
from beamhub_catalogue.models import DatasetRow, InputRow, ProposalRow
from beamhub_catalogue.people import Reader, team_names
from beamhub_catalogue.texts import contains, is_storable
from beamhub_catalogue.views import (
    DatasetKind,
    DatasetView,
    EmbargoState,
    EmbargoView,
    Facet,
    FileView,
    ParameterView,
    Provenance,
    RelatedDataset,
    SearchFilters,
    SearchHit,
    SearchPage,
)
from beamhub_core.policy import GUEST_REASON, Decision
from beamhub_core.policy_document import PolicyDocument
from beamhub_core.product import Product
from beamhub_core.techniques import technique_label

MAX_PAGE_SIZE = 100
MAX_PAGE = 100_000
MAX_WORDS = 12
MAX_TEXT = 300
MAX_FACETS = 50
MAX_RELATED = 200
MAX_FILES_SHOWN = 2_000


class Catalogue:
    """The datasets as one reader may see them at one instant."""

    def __init__(
        self, session: Session, reader: Reader, policy: PolicyDocument, now: datetime, facility: str
    ) -> None:
        self.session, self.reader, self.policy, self.now = session, reader, policy, now
        self.facility = facility
        self.guard = Guard(reader, policy, now)
        self.judge = Judge(session, reader, policy, now)

    def search(self, text: str, filters: SearchFilters, page: int, page_size: int) -> SearchPage:
        """One page of what matches, newest first, with facets over all of it."""
        page_size = min(max(page_size, 1), MAX_PAGE_SIZE)
        page = min(max(page, 1), MAX_PAGE)
        matching = self._matching(text, filters, DatasetRow)
        ordered = matching.order_by(DatasetRow.start.desc().nulls_last(), DatasetRow.pid)
        total = self.session.scalar(select(func.count()).select_from(matching.subquery())) or 0
        rows = self.session.scalars(ordered.limit(page_size).offset((page - 1) * page_size)).all()
        return SearchPage(
            hits=self._hits(rows),
            total=total,
            page=page,
            page_size=page_size,
            n_pages=-(-total // page_size),
            techniques=self._facets(text, filters, DatasetRow.technique, DatasetRow.technique_label),
            instruments=self._facets(text, filters, DatasetRow.instrument, DatasetRow.instrument),
        )

    def row(self, pid: str) -> DatasetRow | None:
        """The dataset of a pid, None when there is none or the reader may not know of it."""
        found: DatasetRow | None = self.session.scalar(
            self.guard.datasets(DatasetRow).where(equals(DatasetRow.pid, pid))
        )
        return found

    def page(self, row: DatasetRow) -> DatasetView:
        """A dataset's page."""
        decision = self.judge.on_dataset(row)
        proposal = self.judge.proposal_row(row.proposal)
        embargo = self._embargo(row, decision)
        team = team_names(self.session, row.proposal)
        full = decision.visibility == "full"
        barred = decision.may_read and not decision.may_mount and self.reader.principal is not None
        product = Product.model_validate(row.product) if row.product else None
        return DatasetView(
            pid=row.pid,
            kind=cast(DatasetKind, row.kind),
            full=full,
            may_read=decision.may_read,
            may_open=decision.may_read and not barred,
            may_write=decision.may_write or (row.kind == "product" and self._may_write(row.proposal)),
            because=_because(decision),
            refusal=GUEST_REASON if barred else decision.reason or None,
            refusal_code="not_a_member" if barred else decision.refusal,
            step_up=decision.step_up,
            title=row.title,
            proposal=row.proposal,
            proposal_title=proposal.title if proposal else "",
            team=team,
            technique=row.technique,
            technique_label=row.technique_label,
            instrument=row.instrument,
            facility=self.facility,
            start=row.start,
            end=row.end,
            embargo=embargo,
            preview_available=full and row.has_preview,
            made_from=self._related(row, InputRow.input_id, InputRow.product_id),
            used_by=self._related(row, InputRow.product_id, InputRow.input_id),
            size_bytes=row.size_bytes if full else None,
            sample=row.sample if full else None,
            files=_files(row) if full else (),
            parameters=_parameters(row) if full else (),
            missing_links=tuple(row.missing_links) if full else (),
            provenance=_provenance(product) if full and product else None,
            private=row.private_to is not None,
        )

    def embargo_of(self, row: DatasetRow) -> EmbargoView:
        """Where a dataset stands on its way to being open."""
        return self._embargo(row, self.judge.on_dataset(row))

    def _may_write(self, proposal: str) -> bool:
        return self.judge.on_proposal(proposal).may_write

    def _matching(self, text: str, filters: SearchFilters, *columns: Any) -> Select[Any]:
        query = self.guard.datasets(*columns)
        for word in text[:MAX_TEXT].replace("\0", " ").split()[:MAX_WORDS]:
            # Only what a reader sees of every hit may be searched: else a match would tell the rest.
            fields = (
                DatasetRow.title,
                DatasetRow.pid,
                DatasetRow.proposal,
                DatasetRow.instrument,
                DatasetRow.technique_label,
                ProposalRow.title,
            )
            query = query.where(or_(*(contains(cast(Any, field), word) for field in fields)))
        equal = {
            DatasetRow.technique: filters.technique,
            DatasetRow.instrument: filters.instrument,
            DatasetRow.proposal: filters.proposal,
            DatasetRow.kind: filters.kind,
        }
        wanted = [equals(column, value) for column, value in equal.items() if value]
        if filters.readable_only:
            wanted.append(self.guard.reads())
        return query.where(and_(*wanted)) if wanted else query

    def _facets(self, text: str, filters: SearchFilters, value: Any, label: Any) -> tuple[Facet, ...]:
        matching = self._matching(text, filters, value, label, func.count()).group_by(value, label)
        rows = self.session.execute(matching.order_by(func.count().desc(), value).limit(MAX_FACETS))
        return tuple(Facet(*row) for row in rows)

    def _hits(self, rows: Sequence[DatasetRow]) -> tuple[SearchHit, ...]:
        decisions = self.judge.on_datasets(rows)
        return tuple(self._hit(row, decisions[row.pid]) for row in rows)

    def _hit(self, row: DatasetRow, decision: Decision) -> SearchHit:
        return SearchHit(
            pid=row.pid,
            kind=cast(DatasetKind, row.kind),
            title=row.title,
            proposal=row.proposal,
            technique=row.technique,
            technique_label=row.technique_label,
            instrument=row.instrument,
            start=row.start,
            end=row.end,
            embargo=self._embargo(row, decision),
            may_read=decision.may_read,
            has_preview=row.has_preview and decision.visibility == "full",
        )

    def _embargo(self, row: DatasetRow, decision: Decision) -> EmbargoView:
        proposal = self.judge.proposal_row(row.proposal)
        name = proposal.embargo_class if proposal and proposal.embargo_class else "closed"
        rules = self.policy.classes.get(name)
        state: EmbargoState = "embargoed"
        if decision.state == "open" or decision.state == "withdrawn":
            state = decision.state
        elif proposal is None or proposal.end is None:
            state = "running"
        return EmbargoView(state, decision.opens_at, name, rules.license if rules else None)

    def _related(self, row: DatasetRow, other: Any, mine: Any) -> tuple[RelatedDataset, ...]:
        query = self.guard.datasets(DatasetRow.pid, DatasetRow.title, DatasetRow.kind, DatasetRow.technique)
        linked = query.where(DatasetRow.id.in_(select(other).where(mine == row.id)))
        rows = self.session.execute(linked.order_by(DatasetRow.pid).limit(MAX_RELATED))
        return tuple(RelatedDataset(r.pid, r.title, r.kind, technique_label(r.technique)) for r in rows)


def equals(column: Any, text: str) -> ColumnElement[bool]:
    """Rows whose column is the text; none where no column can be it."""
    same: ColumnElement[bool] = column == text
    return same if is_storable(text) else false()


def _because(decision: Decision) -> str | None:
    return (decision.detail or "open") if decision.may_read else None


def _files(row: DatasetRow) -> tuple[FileView, ...]:
    return tuple(FileView(file.name, file.path, file.size_bytes) for file in row.files[:MAX_FILES_SHOWN])


def _parameters(row: DatasetRow) -> tuple[ParameterView, ...]:
    return tuple(
        ParameterView(p.name, p.word or "" if p.number is None else plain_number(p.number), p.unit)
        for p in row.parameters
    )


def plain_number(number: float) -> float:
    """A count as an int, so that 80 frames are not 80.0."""
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _provenance(product: Product) -> Provenance:
    return Provenance(
        who=product.who,
        made_at=product.made_at,
        software=tuple(sorted(product.software.items())),
        parameters=tuple((name, str(value)) for name, value in sorted(product.parameters.items())),
        environment=product.environment,
        image=product.image,
        plan_id=product.plan_id,
        sha256=product.sha256,
        evidence=product.evidence,
    )
