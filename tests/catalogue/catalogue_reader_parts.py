"""Rows of a small catalogue, put straight into the tables, and who reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI, Request
from sqlalchemy import delete
from sqlalchemy.orm import Session

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import (
    ActRow,
    DatasetRow,
    FileRow,
    GovernorRow,
    InputRow,
    LostEntitlementRow,
    MemberRow,
    ProposalRow,
    SampleRow,
    StaffRow,
)
from beamhub_catalogue.records import parameter_row
from beamhub_catalogue.rules import apply_policy
from beamhub_core.identity import Principal
from beamhub_core.techniques import POWDER_DIFFRACTION
from catalogue.catalogue_parts import INES, NOW, Facility  # the folder of these tests, not the room

SOURCE = "user_office:office"
TABLES = (
    GovernorRow,
    InputRow,
    FileRow,
    DatasetRow,
    MemberRow,
    StaffRow,
    LostEntitlementRow,
    ActRow,
)


@dataclass(frozen=True)
class Made:
    """A dataset to be put in; `inputs` are the places of earlier datasets."""

    pid: str
    proposal: str
    inputs: tuple[int, ...] = ()
    withdrawn: bool = False
    private_to: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def proposal_row(
    name: str, policy_class: str | None, end: date | None, *, title: str = "", **facts: Any
) -> ProposalRow:
    """A proposal as a user office tells it."""
    words = {"instrument": "bl09", "start": None} | facts
    return ProposalRow(
        id=name,
        source=SOURCE,
        title=title or f"Title of {name}",
        policy_class=policy_class,
        end=end,
        **words,
    )


def member_row(proposal: str, role: str = "member", **facts: Any) -> MemberRow:
    """A row of a user office that names nobody unless told."""
    words = dict.fromkeys(
        ("issuer", "subject", "orcid", "facility_account", "since", "until", "removed_at")
    ) | {"name": "Somebody"}
    return MemberRow(source=SOURCE, proposal=proposal, role=role, **words | facts)


def put(
    service: CatalogueService,
    proposals: Sequence[ProposalRow],
    members: Sequence[Any],
    datasets: Sequence[Made],
) -> None:
    """Replace everything in the catalogue by these; the room itself applies the policy."""
    policy = service.rules.refresh()
    with service.database.writing() as session:
        for table in TABLES:
            session.execute(delete(table))
        session.execute(delete(ProposalRow))
        session.add_all([*proposals, *members])
        session.flush()
        apply_policy(session, policy, NOW)
        _put_datasets(session, datasets)


def _put_datasets(session: Session, datasets: Sequence[Made]) -> None:
    rows: list[DatasetRow] = []
    governors: list[set[int]] = []
    for number, made in enumerate(datasets):
        rows.append(_dataset_row(number, made))
        session.add(rows[-1])
        session.flush()
        governors.append(set().union(made.inputs, *(governors[i] for i in made.inputs)))
        for i in made.inputs:
            session.add(InputRow(product_id=rows[-1].id, input_id=rows[i].id))
        for i in governors[-1]:
            session.add(GovernorRow(product_id=rows[-1].id, governor_id=rows[i].id))


def _dataset_row(number: int, made: Made) -> DatasetRow:
    facts = {
        "title": f"Dataset {number}",
        "technique": POWDER_DIFFRACTION,
        "technique_label": "x-ray powder diffraction",
        "instrument": "bl09",
        "size_bytes": 1000 + number,
    } | made.facts
    row = DatasetRow(
        pid=made.pid,
        kind="product" if made.inputs else "raw",
        proposal=made.proposal,
        pool="pool",
        folder=f"{made.proposal}/raw",
        file=f"{made.proposal}/raw/{number}.h5",
        link_closure=[],
        missing_links=[],
        private_to=made.private_to,
        withdrawn=made.withdrawn,
        product=None,
        harvested_at=NOW,
        **facts,
    )
    row.set_techniques((row.technique, row.technique_label))
    row.set_samples(*([SampleRow(name=row.sample)] if row.sample else []))
    return row


def secrets_of(word: str, size: int) -> dict[str, Any]:
    """What only readers of a dataset may learn: files, parameters and a sample that hold the word."""
    return {
        "size_bytes": size,
        "sample": f"{word}-sample",
        "files": [FileRow(pool="pool", path=f"raw/{word}-file.h5", name=f"{word}-file.h5", size_bytes=size)],
        "parameters": [
            parameter_row(f"{word}-temperature", float(size), "kelvin"),
            parameter_row("mode", f"{word}-mode", None),
        ],
    }


def furnish(service: CatalogueService) -> None:
    """Open, embargoed and hidden datasets, a withdrawn one, and products of all of them."""
    proposals = [
        proposal_row("OP-1", "open", date(2021, 3, 4), title="Standards"),
        proposal_row("MA-2", "standard", date(2025, 10, 9), title="Electrodes"),
        proposal_row("TO-3", "confidential", date(2025, 11, 7), title="Hushweld"),
    ]
    ines = {"issuer": INES.issuer, "subject": INES.subject}
    members = [
        member_row("MA-2", "pi", name="Ines Ferreira", **ines),
        member_row("TO-3", "pi", name="Hushperson", **ines),
    ]
    day = datetime(2021, 3, 2, 9, tzinfo=UTC)
    hidden = secrets_of("hush", 7) | {"title": "Hushweld 100%_a", "instrument": "hushtof", "start": day}
    veiled = secrets_of("veiled", 30) | {"title": "Electrode (a|b)*", "start": NOW}
    datasets = [
        Made("t:OP-1:a", "OP-1", facts=secrets_of("plain", 10) | {"title": "Silicon 100% a", "start": day}),
        Made("t:OP-1:b", "OP-1", facts=secrets_of("plain", 20) | {"title": "Silicon_100 b"}),
        Made("t:MA-2:a", "MA-2", facts=veiled),
        Made("t:TO-3:a", "TO-3", facts=hidden),
        Made("t:OP-1:hush-product", "OP-1", inputs=(0, 3), facts={"title": "Hushweld sum"}),
        Made("t:OP-1:veiled-product", "OP-1", inputs=(0, 2), facts=secrets_of("veiled", 40)),
        Made("t:OP-1:hush-home", "OP-1", inputs=(0,), private_to=INES.account, facts={"title": "Hush home"}),
        Made("t:OP-1:gone", "OP-1", withdrawn=True, facts=secrets_of("veiled", 50)),
    ]
    put(service, proposals, members, datasets)


OUTSIDERS_SEE = {"t:OP-1:a", "t:OP-1:b", "t:MA-2:a", "t:OP-1:veiled-product", "t:OP-1:gone"}
OUTSIDERS_READ = {"t:OP-1:a", "t:OP-1:b"}
HIDDEN = {"t:TO-3:a", "t:OP-1:hush-product", "t:OP-1:hush-home"}


@dataclass
class Api:
    """The search API as some reader calls it: the app itself, without a socket; failures are raised."""

    app: FastAPI
    portal: BlockingPortal
    readers: dict[str, Principal]

    def get(self, path: str, who: Principal | None = None, **query: str) -> httpx.Response:
        """The answer to one request."""
        headers = {} if who is None else {"x-reader": who.account}
        if who is not None:
            self.readers[who.account] = who
        return self.portal.call(self._get, f"/api/{path}", query, headers)

    async def _get(self, path: str, query: dict[str, str], headers: dict[str, str]) -> httpx.Response:
        # The query goes past httpx, which refuses to send a long one.
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self.app(
                scope | {"query_string": urlencode(query, errors="strict").encode()}, receive, send
            )

        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://catalogue.example") as client:
            return await client.get(path, headers=headers)

    def items(self, path: str, who: Principal | None = None, **query: str) -> list[dict[str, Any]]:
        """The items of a list, in its order."""
        answer = self.get(path, who, **query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    def pids(self, path: str, who: Principal | None = None, **query: str) -> list[str]:
        """The pids of a list, in its order."""
        return [item["pid"] for item in self.items(path, who, **query)]

    def item(self, kind: str, pid: str, who: Principal | None = None, **query: str) -> httpx.Response:
        """The answer for one pid."""
        return self.get(f"{kind}/{quote(pid, safe='')}", who, **query)


@contextmanager
def running_api(service: CatalogueService) -> Iterator[Api]:
    """The API in an app of its own; who calls stands in a header, as no real app would have it."""
    readers: dict[str, Principal] = {}

    def resolve(request: Request) -> Principal | None:
        return readers.get(request.headers.get("x-reader", ""))

    app = FastAPI()
    app.include_router(service.api_router(resolve))
    # One loop for all requests: with a loop for each, the threads that work for it would be started anew.
    with start_blocking_portal() as portal:
        yield Api(app, portal, readers)


@contextmanager
def furnished_api(folder: Path) -> Iterator[Api]:
    """The API on a facility of its own in a folder, with the rows of `furnish`."""
    facility = Facility(folder)
    facility.prepare()
    service = facility.service()
    try:
        furnish(service)
        with running_api(service) as api:
            yield api
    finally:
        service.stop()
