"""The tables of the web service."""

from beamhub_catalogue.models.audit import (
    AuditActorRow,
    AuditCheckpointRow,
    AuditHeadRow,
    AuditProposalRow,
    AuditRow,
)
from beamhub_catalogue.models.base import Base, RowId, UtcDateTime
from beamhub_catalogue.models.data import (
    DatasetRow,
    FileRow,
    GovernorRow,
    InputRow,
    InstrumentRow,
    ParameterRow,
    SeenFileRow,
    StoragePoolRow,
)
from beamhub_catalogue.models.rights import (
    ActRow,
    ClockRow,
    IdentityRow,
    LostEntitlementRow,
    MemberRow,
    PersonRow,
    PolicyRow,
    PrincipalRow,
    ProposalRow,
    SourceRow,
    StaffRow,
)
from beamhub_catalogue.models.sessions import LogbookRow, SessionMountRow, SessionRow, ShareRow

__all__ = [
    "ActRow",
    "AuditActorRow",
    "AuditCheckpointRow",
    "AuditHeadRow",
    "AuditProposalRow",
    "AuditRow",
    "Base",
    "ClockRow",
    "DatasetRow",
    "FileRow",
    "GovernorRow",
    "IdentityRow",
    "InputRow",
    "InstrumentRow",
    "LogbookRow",
    "LostEntitlementRow",
    "MemberRow",
    "ParameterRow",
    "PersonRow",
    "PolicyRow",
    "PrincipalRow",
    "ProposalRow",
    "RowId",
    "SeenFileRow",
    "SessionMountRow",
    "SessionRow",
    "ShareRow",
    "SourceRow",
    "StaffRow",
    "StoragePoolRow",
    "UtcDateTime",
]
