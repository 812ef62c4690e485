"""Answers of the internal API as words, and what its document says of each route beside its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from beamhub_catalogue.audit_reading import EntryPage
from beamhub_catalogue.internal_acts import ActView
from beamhub_core.linked_identity import IdentityAnswer
from beamhub_core.queue import TicketAnswer
from beamhub_core.rights import GrantAnswer, Refusal
from beamhub_core.session import SessionVerdict, StoredSession
from beamhub_core.session_life import SessionNow
from beamhub_core.word import Word

SECURITY_SCHEME, SESSION_SCHEME = "platform_token", "session_token"


class Detail(Word):
    """An error that is nobody's refusal."""

    detail: Annotated[str, Field(max_length=1_000)]


class RefusalAnswer(Word):
    """A no of the policy's, in words that the person may read."""

    refusal: Refusal


class HealthAnswer(Word):
    """Whether the service can answer."""

    status: Literal["ok", "down"]
    database: Literal["ok", "down"]


class ProductAnswer(Word):
    """The record of a product."""

    pid: Annotated[str, Field(max_length=300)]


class FileProblem(Word):
    """A file that was set aside, and why."""

    file: str
    reason: str


class HarvestAnswer(Word):
    """What a scan found."""

    harvested: Annotated[int, Field(ge=0)]
    unchanged: Annotated[int, Field(ge=0)]
    datasets: Annotated[int, Field(ge=0, description="Raw datasets below the asked roots.")]
    problems: list[FileProblem]


class EntryKept(Word):
    """The entry of the audit that a notice became."""

    seq: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Told:
    """What a route answers by status, and whether asking again changes nothing.

    None is an answer without a body, a pair of types is either.
    """

    answers: dict[int, Any]
    idempotent: bool = True


_NO_BODY: dict[int, Any] = {204: None}
TOLD: dict[tuple[str, str], Told] = {
    ("GET", "/health"): Told({200: HealthAnswer, 503: HealthAnswer}),
    ("POST", "/products"): Told({201: ProductAnswer, 422: RefusalAnswer | Detail}),
    ("POST", "/session/report"): Told({200: SessionNow}),
    ("POST", "/session/extend"): Told({200: SessionNow, 403: RefusalAnswer | Detail}, idempotent=False),
    ("PUT", "/principals/{account}"): Told(_NO_BODY),
    ("DELETE", "/principals/{account}"): Told(_NO_BODY),
    ("GET", "/identities/{account}"): Told({200: IdentityAnswer}),
    ("PUT", "/identities/{account}"): Told(_NO_BODY | {404: Detail, 409: RefusalAnswer | Detail}),
    ("DELETE", "/identities/{account}"): Told(_NO_BODY),
    ("POST", "/grants"): Told({200: GrantAnswer, 403: RefusalAnswer | Detail, 404: RefusalAnswer}),
    ("GET", "/sessions"): Told({200: list[StoredSession]}),
    ("PUT", "/sessions/{plan_id}"): Told(
        {200: type(None), 201: type(None), 403: RefusalAnswer | Detail, 409: Detail}
    ),
    ("PUT", "/tickets"): Told({200: TicketAnswer, 403: RefusalAnswer | Detail}),
    ("DELETE", "/tickets/{account}"): Told(_NO_BODY),
    ("GET", "/sessions/{plan_id}"): Told({200: StoredSession, 404: Detail}),
    ("POST", "/sessions/{plan_id}/update"): Told(_NO_BODY | {404: Detail}),
    ("PUT", "/usage"): Told(_NO_BODY),
    ("POST", "/recheck"): Told({200: list[SessionVerdict]}),
    ("POST", "/harvest"): Told({200: HarvestAnswer}),
    ("PUT", "/acts/{act_id}"): Told(
        {
            200: type(None),
            201: type(None),
            403: RefusalAnswer | Detail,
            404: RefusalAnswer,
            409: Detail,
        }
    ),
    ("DELETE", "/acts/{act_id}"): Told(_NO_BODY | {403: RefusalAnswer | Detail, 404: Detail}),
    ("GET", "/proposals/{proposal}/acts"): Told({200: list[ActView], 404: Detail}),
    ("POST", "/audit"): Told({200: EntryKept, 201: EntryKept, 409: Detail}),
    ("GET", "/audit"): Told({200: EntryPage}),
}
"""By method and path below `/internal`; a route without an entry is documented without its answers."""
_EVERYWHERE: dict[int, Any] = {401: Detail, 403: Detail, 411: Detail, 413: Detail, 422: Detail, 503: Detail}
_WORDS = {
    200: "Done",
    201: "New",
    204: "Done",
    401: "No token, or one that is not known here",
    403: "Refused, or the client has not the scope",
    404: "There is none, or it is not to be known",
    409: "Another one stands under this id",
    411: "The body does not say its length",
    413: "The body is too large",
    422: "The request does not fit; names fields, never values",
    503: "Not now",
}


def documented(method: str, path: str, scope: str | None) -> dict[str, Any]:
    """The keywords that tell FastAPI's document of a route; they change nothing of what it answers."""
    told = TOLD.get((method, path), Told({}))
    open_to_all = path == "/health"
    general = {413: Detail, 411: Detail, 422: Detail} if open_to_all else _EVERYWHERE
    answers = general | told.answers
    responses: dict[int | str, dict[str, Any]] = {}
    for status, model in sorted(answers.items()):
        responses[status] = {"description": _WORDS.get(status, "Answer")}
        if model is not None:
            responses[status]["model"] = model
    scheme = SECURITY_SCHEME if scope else SESSION_SCHEME
    extra: dict[str, Any] = {
        "x-idempotent": told.idempotent,
        "security": [] if open_to_all else [{scheme: []}],
    }
    if scope is not None:
        extra["x-scope"] = scope
    return {"responses": responses, "openapi_extra": extra}
