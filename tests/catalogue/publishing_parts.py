"""A facility that publishes, its OAI-PMH provider on a port, and a check of what every answer has to be."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from lxml import etree

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.publishing.oai_provider import OaiProvider
from beamhub_catalogue.publishing.oai_tokens import TokenSigner
from beamhub_catalogue.publishing.record import (
    PANET,
    Affiliation,
    Contributor,
    Making,
    Quantity,
    Record,
    RecordFile,
    Relation,
)
from catalogue.catalogue_parts import Facility  # the folder of these tests, not the room
from catalogue.catalogue_reader_parts import furnish  # likewise

SECRET = "signs tokens of tests, 0123456789abcdef"
OAI = "{http://www.openarchives.org/OAI/2.0/}"
PUBLICATION: dict[str, Any] = {
    "admin_email": "data@facility.example",
    "publisher_ror": "https://ror.org/02550n020",
    "oai": {"namespace": "facility.example", "page_size": 2},
}
RECORD = Record(
    pid="t:OP-1:a",
    kind="raw",
    title="Silicon standard",
    url="https://facility.example/services/web/datasets/t%3AOP-1%3Aa",
    publisher="Test facility",
    publisher_ror="https://ror.org/02550n020",
    created=datetime(2021, 3, 2, 9, tzinfo=UTC),
    ended=datetime(2021, 3, 2, 10, tzinfo=UTC),
    issued=date(2021, 3, 5),
    available=datetime(2021, 3, 5, tzinfo=UTC),
    access="open",
    doi="10.12345/abc-1",
    creators=(
        Contributor(
            "Ines Ferreira",
            "pi",
            "0000-0002-1825-0097",
            "Ines",
            "Ferreira",
            (Affiliation("Test facility", "https://ror.org/02550n020"),),
        ),
        Contributor("Sam Okafor", "member"),
    ),
    license="CC-BY-4.0",
    proposal="OP-1",
    proposal_title="Standards",
    facility="Test facility",
    instrument="bl09",
    technique=f"{PANET}PaNET01101",
    technique_label="x-ray powder diffraction",
    version="2",
    keywords=("silicon",),
    relations=(
        Relation("IsPartOf", "https://facility.example/services/web/documents/OP-1", "", "Collection"),
        Relation("IsCitedBy", "10.1000/xyz", "A paper", "JournalArticle"),
    ),
    full=True,
    size_bytes=1234,
    sample="Si",
    files=(RecordFile("a.h5", "OP-1/raw/a.h5", 1234, "ab" * 32),),
    parameters=(Quantity("wavelength", 0.5, "angstrom"),),
)
PRODUCT = replace(
    RECORD,
    pid="t:OP-1:product-1",
    kind="product",
    doi=None,
    relations=(Relation("IsDerivedFrom", "10.12345/abc-1", "Silicon standard"),),
    making=Making(
        datetime(2026, 5, 1, tzinfo=UTC),
        "Ines Ferreira",
        (("beamhub", "0.1"),),
        (),
        "standard",
        "local",
        "0" * 64,
    ),
)
EMBARGOED = replace(
    RECORD,
    pid="t:MA-2:a",
    doi=None,
    access="embargoed",
    full=False,
    issued=date(2028, 10, 10),
    available=datetime(2028, 10, 10, tzinfo=UTC),
    size_bytes=None,
    sample=None,
    files=(),
    parameters=(),
)


@dataclass
class Published:
    """A facility that publishes, and its provider without a web server."""

    facility: Facility
    service: CatalogueService
    provider: OaiProvider

    def ask(self, *pairs: tuple[str, str], **arguments: str) -> Any:
        """The tree of an answer, whose form was checked."""
        words = {"since": "from"}
        named = [(words.get(name, name), value) for name, value in arguments.items()]
        root = etree.fromstring(self.provider.answer([*pairs, *named]))
        check_answer(root)
        return root

    def error(self, *pairs: tuple[str, str], **arguments: str) -> str:
        """The code of the error that answers a request."""
        codes = [str(one.get("code")) for one in self.ask(*pairs, **arguments).iter(f"{OAI}error")]
        assert len(codes) == 1
        return codes[0]

    def pids(self, verb: str = "ListIdentifiers", **arguments: str) -> dict[str, bool]:
        """The names of a whole list, followed to its end, with whether each is deleted."""
        found: dict[str, bool] = {}
        root = self.ask(verb=verb, **{"metadataPrefix": "oai_dc", **arguments})
        while True:
            if root.find(f"{OAI}error") is not None:
                return found
            for header in root.iter(f"{OAI}header"):
                name = text_of(header, "identifier").removeprefix("oai:facility.example:")
                assert name not in found, "a record came twice"
                found[name] = header.get("status") == "deleted"
            tokens = [one.text for one in root.iter(f"{OAI}resumptionToken") if one.text]
            if not tokens:
                return found
            root = self.ask(verb=verb, resumptionToken=tokens[0])


def text_of(parent: Any, name: str) -> str:
    """The text of the only child of a name."""
    return str(parent.findtext(f"{OAI}{name}"))


@contextmanager
def publishing(
    folder: Path, fill: Any = furnish, publication: dict[str, Any] = PUBLICATION
) -> Iterator[Published]:
    """A facility in a folder that publishes the furnished catalogue."""
    facility = Facility(folder, changes={"publication": publication})
    facility.prepare()
    service = facility.service()
    try:
        fill(service)
        service.publication.publish()
        facility.clock.now = facility.clock.now.replace(second=10)
        signer = TokenSigner(SECRET)
        config = service.publication.config
        assert config is not None
        yield Published(
            facility, service, OaiProvider(service.desk, config, service.publication.places, signer)
        )
    finally:
        service.stop()


@contextmanager
def on_a_port(app: FastAPI) -> Iterator[str]:
    """An app behind a real socket; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


_ORDER: dict[str, tuple[str, ...]] = {
    "header": ("identifier", "datestamp", "setSpec"),
    "record": ("header", "metadata"),
    "set": ("setSpec", "setName"),
    "metadataFormat": ("metadataPrefix", "schema", "metadataNamespace"),
    "Identify": (
        "repositoryName",
        "baseURL",
        "protocolVersion",
        "adminEmail",
        "earliestDatestamp",
        "deletedRecord",
        "granularity",
        "description",
    ),
    "ListRecords": ("record", "resumptionToken"),
    "ListIdentifiers": ("header", "resumptionToken"),
    "GetRecord": ("record",),
    "ListSets": ("set",),
    "ListMetadataFormats": ("metadataFormat",),
}
"""The children of each element in their order. Source: OAI-PMH.xsd of OAI-PMH 2.0."""
_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_SET = re.compile(r"([A-Za-z0-9\-_.!~*'()])+(:[A-Za-z0-9\-_.!~*'()]+)*")
_URI = re.compile(r"oai:[A-Za-z0-9.-]+:[A-Za-z0-9\-_.!~*'();/?:@&=+$,%]+")
_PATTERNS = {"datestamp": _SECOND, "responseDate": _SECOND, "setSpec": _SET, "identifier": _URI}


def check_answer(root: Any) -> None:
    """Raise AssertionError for an answer that the protocol's schema would not take."""
    assert root.tag == f"{OAI}OAI-PMH"
    names = [etree.QName(one).localname for one in root]
    assert names[:2] == ["responseDate", "request"]
    assert len(names) == 3
    wrong = names[2] == "error" and root[2].get("code") in ("badVerb", "badArgument")
    assert bool(root[1].attrib) is not wrong
    for element in root.iter(f"{OAI}*"):
        name = etree.QName(element).localname
        if name in _ORDER:
            _check_order(name, [etree.QName(child).localname for child in element])
        if name in _PATTERNS:
            assert _PATTERNS[name].fullmatch(element.text or ""), (name, element.text)
        if name == "record":
            deleted = element[0].get("status") == "deleted"
            assert len(element) == (1 if deleted else 2)


def _check_order(name: str, children: Sequence[str]) -> None:
    order = _ORDER[name]
    assert set(children) <= set(order), (name, children)
    places = [order.index(child) for child in children]
    assert places == sorted(places), (name, children)
