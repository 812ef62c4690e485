"""Where proposals and memberships come from: one contract, one module a kind."""

from beamhub_catalogue.sources.contract import (
    MemberEntry,
    ProposalEntry,
    SourceBroken,
    SourceProblem,
    SourceReading,
    UserOffice,
)
from beamhub_catalogue.sources.csv_office import CsvUserOffice

__all__ = [
    "CsvUserOffice",
    "MemberEntry",
    "ProposalEntry",
    "SourceBroken",
    "SourceProblem",
    "SourceReading",
    "UserOffice",
]
