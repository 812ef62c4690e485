"""What may be recorded: one model for the details of each kind of entry; a new kind is one line of KINDS.

Entries are hashed and cannot be unsaid, so nothing that names a person or opens a door may stand in them:
no name, e-mail, ORCID, account, subject or token. People are named beside an entry, by a pseudonym.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from beamhub_core.audit_notice import AuditIssuer
from beamhub_core.errors import BeamhubError
from beamhub_core.identity import FacilityRole
from beamhub_core.rights import RefusalCode
from beamhub_core.session import SessionState
from beamhub_core.word import Word

MAX_TEXT = 300
MAX_PARTS = 20_000
REMOVED = "[removed]"
_PERSONAL = (
    r"u-[a-z2-7]{26}",
    r"\d{4}-\d{4}-\d{4}-\d{3}[\dXx](?!\d)",
    r"[^\s@/:]+@[^\s@/]+\.[A-Za-z]{2,}",
)
_TOKENS = (
    r"eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?",
    r"(?i:bearer|token|basic)[ =:]+[\w.~+/=-]{8,}",
    r"(?:gh[pousr]|glpat|xox[abp]|sk|pk)[_-][\w-]{16,}",
    r"-----BEGIN [A-Z ]+-----",
)
_NOT_IN_IDENTIFIERS = re.compile("|".join((*_PERSONAL, *_TOKENS)))
# In a sentence a long run without a space is no word either; identifiers of data have such runs.
_NOT_IN_TEXT = re.compile("|".join((*_PERSONAL, *_TOKENS, r"[A-Za-z0-9+/_=-]{40,}")))


class NotRecordable(BeamhubError):
    """Something that must not, or cannot, stand in the audit; nothing was written."""

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(kind, problem)
        self.kind, self.problem = kind, problem

    def __str__(self) -> str:
        return f"The audit takes no {self.kind[:60]!r} entry of this form: {self.problem}."


def check_identifier(text: str) -> str:
    """The text; ValueError where it holds an account, an ORCID, an e-mail address or a token."""
    if _NOT_IN_IDENTIFIERS.search(text):
        raise ValueError("holds what looks like a person's identifier or a token")
    return _check_printable(text)


def _check_text(text: str) -> str:
    if _NOT_IN_TEXT.search(text):
        raise ValueError("holds what looks like a person's identifier or a token")
    return _check_printable(text)


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a character that cannot be printed")
    return text


def plain(text: Any) -> Any:
    """A name of data made fit to record: a stranger chose it, so it is cleaned rather than refused."""
    if not isinstance(text, str):
        return text
    cleaned = _NOT_IN_IDENTIFIERS.sub(REMOVED, text)
    return "".join(c if c.isprintable() else "?" for c in cleaned)


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_check_text)]
Name = Annotated[str, BeforeValidator(plain), Field(max_length=1024)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PlanId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Pseudonym = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0)]


class Part(Word):
    """Something of one proposal that an entry touches; a reader of the proposal sees its own parts only."""

    proposal: Annotated[str, BeforeValidator(plain), Field(max_length=200)]
    pid: Name | None = None
    pool: Name | None = None
    path: Name | None = None
    mode: Literal["ro", "rw"] | None = None
    because: Literal["membership", "open", "role"] | None = None


class Detail(Word):
    """What all kinds share."""

    parts: Annotated[tuple[Part, ...], Field(max_length=MAX_PARTS)] = ()


class LoginDetail(Detail):
    """Somebody logged in, or the hub told of an account that web did not know."""

    issuer: AuditIssuer | None = None
    roles: tuple[FacilityRole, ...] = ()


class RightsDetail(Detail):
    """A refresh that changed what the provider says of somebody's rights; proposals as parts."""

    gained: tuple[Name, ...] = ()
    lost: tuple[Name, ...] = ()
    roles: tuple[FacilityRole, ...] = ()
    assurance_changed: bool = False


class CodeDetail(Detail):
    """Something that another process tells of, by a word of its own."""

    code: Code
    issuer: AuditIssuer | None = None
    plan_id: PlanId | None = None


class DecisionDetail(Detail):
    """Rights were asked for. Of asked datasets that the catalogue does not know, only the number is kept."""

    decision: Literal["granted"] | RefusalCode
    n_unknown: Count = 0
    policy_version: Name | None = None
    refusal_reference: Annotated[str, Field(pattern=r"^[0-9a-f]{0,40}$")] | None = None


class PlanDetail(Detail):
    """A plan was stored; its mounts are the parts, a home or scratch only counts."""

    plan_hash: Sha256
    datasets: tuple[Name, ...] = ()
    n_own_mounts: Count = 0
    place: Name = ""
    policy_version: Name | None = None


class StateDetail(Detail):
    """A session came to a state."""

    state: SessionState


class ExtensionDetail(Detail):
    """A session was extended by its person."""

    until: Annotated[str, Field(pattern=r"^[0-9T:.+-]{1,40}$")]


class RecheckDetail(Detail):
    """Rights while a session runs: a verdict that asks for something."""

    reason: Annotated[str, BeforeValidator(plain), Field(max_length=MAX_TEXT)]
    action: Literal["warn", "stop"] = "stop"


class ProductDetail(Detail):
    """A session's product was catalogued."""

    plan_id: PlanId | None = None
    sha256: Sha256 | None = None


class ActDetail(Detail):
    """An act upon a proposal, by its kind and its id; its reason stands with the act."""

    act: Code
    act_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{1,36}$")] | None = None


class CommandDetail(Detail):
    """A command line that changed something, without its arguments."""

    command: Annotated[str, Field(pattern=r"^[a-z-]+( [a-z-]+)*$", max_length=80)]


class ErasureDetail(Detail):
    """A person was erased: these pseudonyms stand for nobody now."""

    actors: tuple[Pseudonym, ...]
    n_rows: Count = 0


class PruneDetail(Detail):
    """Entries up to a place were removed at the end of their retention."""

    through: Count
    digest: Sha256
    n_entries: Count
    n_sessions: Count = 0


class SessionsPrunedDetail(Detail):
    """Rows of ended sessions were removed at the end of their retention."""

    n_sessions: Count


class FaultDetail(Detail):
    """The chain did not verify."""

    seq: Count
    how: Code


class ReadingDetail(Detail):
    """Somebody read entries that are not their own."""

    of: Literal["person", "proposal", "all", "export"]
    n_entries: Count = 0


class LinkDetail(Detail):
    """An account was joined to, or taken from, the person that others belong to; or could not be."""

    by: Code
    others: tuple[Pseudonym, ...] = ()


KINDS: dict[str, type[Detail]] = {
    "login": LoginDetail,
    "account_known": LoginDetail,
    "login_refused": CodeDetail,
    "rights_changed": RightsDetail,
    "account_ended": Detail,
    "decision": DecisionDetail,
    "refusal": CodeDetail,
    "plan": PlanDetail,
    "state": StateDetail,
    "extension": ExtensionDetail,
    "recheck": RecheckDetail,
    "product": ProductDetail,
    "act": ActDetail,
    "act_revoked": ActDetail,
    "admin_act": CodeDetail,
    "impersonation": CodeDetail,
    "server_access": CodeDetail,
    "command": CommandDetail,
    "erasure": ErasureDetail,
    "prune": PruneDetail,
    "sessions_pruned": SessionsPrunedDetail,
    "verification_failed": FaultDetail,
    "entries_read": ReadingDetail,
    "identity_linked": LinkDetail,
    "identity_unlinked": LinkDetail,
    "identity_conflict": LinkDetail,
}
"""Every kind of entry and the model of its details."""


def build_detail(kind: str, facts: dict[str, Any]) -> Detail:
    """The details of an entry.

    Raises
    ------
    NotRecordable
        For a kind that is none, an unknown or unfit field, or a text that looks like a person or a token.
    """
    model = KINDS.get(kind)
    if model is None:
        raise NotRecordable(kind, "there is no such kind")
    try:
        return model.model_validate(facts)
    except ValidationError as error:
        places = ", ".join(".".join(str(part) for part in problem["loc"]) for problem in error.errors())
        raise NotRecordable(kind, f"what does not fit is {places[:200]}") from None
