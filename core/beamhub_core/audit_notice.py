"""What a process tells the audit of things that happen where web does not see them."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from pydantic import Field

from beamhub_core.identity import ACCOUNT_PATTERN
from beamhub_core.word import Word

NoticeKind = Literal[
    "login", "login_refused", "account_ended", "refusal", "admin_act", "impersonation", "server_access"
]
AccountName = Annotated[str, Field(pattern=ACCOUNT_PATTERN)]
AuditIssuer = Annotated[str, Field(pattern=r"^(https?://[^\s?#@]+|beamhub:guest)$", max_length=512)]
"""Who vouched for a person: a provider's issuer identifier, or the facility's own guests."""


class AuditNotice(Word):
    """Something that happened at the hub or the gateway.

    `reference` is the teller's own name of the event, random and not made from a person: the same notice sent
    twice is one entry. `account` acted, `about` is whom it happened to.
    """

    reference: Annotated[str, Field(pattern=r"^[0-9a-f-]{16,64}$")]
    kind: NoticeKind
    account: AccountName | None = None
    about: AccountName | None = None
    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")] | None = None
    issuer: AuditIssuer | None = None
    plan_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


def new_reference() -> str:
    """A name for an event that nobody else gives."""
    return str(uuid.uuid4())
