"""A record as one reader may see it, in the terms of DataCite: what every form of metadata is made from.

The records hold no row of the database and nothing that the reader may not see, so that a serialiser cannot
leak and needs no rights.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

RecordKind = Literal["raw", "product", "proposal"]
AccessState = Literal["open", "embargoed", "closed", "withdrawn"]
"""`closed` has no known date from which on it is open."""
PANET = "http://purl.org/pan-science/PaNET/"
HDF5_MEDIA_TYPE = "application/x-hdf5"
"""Source: IANA has registered none of HDF5; this is what The HDF Group recommends."""


@dataclass(frozen=True, slots=True)
class Affiliation:
    """Where somebody works; `ror` is the whole address of a ROR record."""

    name: str
    ror: str | None = None


@dataclass(frozen=True, slots=True)
class Contributor:
    """A person; `orcid` is the bare iD, `role` that in the proposal."""

    name: str
    role: str = ""
    orcid: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    affiliations: tuple[Affiliation, ...] = ()

    @property
    def orcid_url(self) -> str | None:
        """The iD as an address. Source: ORCID, 'Structure of the ORCID identifier'."""
        return f"https://orcid.org/{self.orcid}" if self.orcid else None


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A file of an open record; `path` is relative to the storage pool."""

    name: str
    path: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Quantity:
    """A named value from the header of a file."""

    name: str
    value: float | str
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """Another record, by DataCite's name of the relation, e.g. `IsDerivedFrom`."""

    relation: str
    identifier: str
    """A DOI or an address."""
    title: str = ""
    general_type: str = "Dataset"

    @property
    def is_doi(self) -> bool:
        """Whether the identifier is a bare DOI."""
        return self.identifier.startswith("10.")

    @property
    def url(self) -> str:
        """The identifier as an address."""
        return doi_url(self.identifier) if self.is_doi else self.identifier


@dataclass(frozen=True, slots=True)
class Making:
    """How a product was made."""

    made_at: datetime
    who: str
    software: tuple[tuple[str, str], ...]
    parameters: tuple[tuple[str, str], ...]
    environment: str
    image: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """A dataset, a product or a proposal's document."""

    pid: str
    kind: RecordKind
    title: str
    url: str
    """The landing page."""
    publisher: str
    created: datetime
    """When it was measured or made; of a proposal, when it began."""
    issued: date
    """When it becomes, or became, open; when it was made where that is not known."""
    access: AccessState
    doi: str | None = None
    creators: tuple[Contributor, ...] = ()
    publisher_ror: str | None = None
    ended: datetime | None = None
    available: datetime | None = None
    license: str | None = None
    """An SPDX identifier, of an open record or from its date on."""
    proposal: str = ""
    proposal_title: str = ""
    abstract: str = ""
    facility: str = ""
    instrument: str = ""
    technique: str = ""
    """A PaNET term as an address, empty where none is known."""
    technique_label: str = ""
    version: str | None = None
    keywords: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()
    ours: bool = True
    """Whether it is ours to publish; of a mirrored catalogue, that catalogue describes it."""
    full: bool = False
    """Whether the reader sees all of it; what follows is empty where not."""
    size_bytes: int | None = None
    sample: str | None = None
    files: tuple[RecordFile, ...] = ()
    parameters: tuple[Quantity, ...] = ()
    making: Making | None = None

    @property
    def identifier(self) -> str:
        """The identifier that is cited: the DOI as an address, else the landing page."""
        return doi_url(self.doi) if self.doi else self.url

    @property
    def is_dataset(self) -> bool:
        """Whether it is no proposal."""
        return self.kind != "proposal"

    @property
    def description(self) -> str:
        """What it is, in words, for those who find it: never shorter than 50 characters."""
        if self.abstract:
            return self.abstract
        what = {"raw": "Raw data", "product": "Processed data", "proposal": "The data"}[self.kind]
        how = f" of {self.technique_label}" if self.technique_label else ""
        where = f" at the instrument {self.instrument}" if self.instrument else ""
        title = f": {self.proposal_title}" if self.proposal_title else ""
        when = f" on {self.created.date().isoformat()}"
        return f"{what}{how}, recorded{where} of {self.publisher}{when}, for proposal {self.proposal}{title}."

    @property
    def license_url(self) -> str | None:
        """The licence as an address. Source: SPDX License List; Creative Commons' own addresses."""
        if self.license is None:
            return None
        return LICENSE_URLS.get(self.license, f"https://spdx.org/licenses/{self.license}.html")


LICENSE_URLS = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC-BY-NC-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
}


def files_url(record: Record) -> str:
    """Where programs get the list of a dataset's files, as far as they may."""
    base, _, name = record.url.rpartition("/datasets/")
    return f"{base}/api/Datasets/{name}/files"


def doi_url(doi: str) -> str:
    """A DOI as an address. Source: DataCite and Crossref display guidelines."""
    return f"https://doi.org/{doi}"
