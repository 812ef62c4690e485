"""Where proposals and memberships come from: one contract, one module a kind."""

from beamhub_catalogue.sources.contract import (
    MemberEntry,
    ProposalEntry,
    SourceBroken,
    SourceProblem,
    SourceReading,
    StaffEntry,
    UserOffice,
)
from beamhub_catalogue.sources.csv_office import CsvUserOffice
from beamhub_catalogue.sources.rest_office import RestUserOffice

__all__ = [
    "CsvUserOffice",
    "MemberEntry",
    "ProposalEntry",
    "RestUserOffice",
    "SourceBroken",
    "SourceProblem",
    "SourceReading",
    "StaffEntry",
    "UserOffice",
]
