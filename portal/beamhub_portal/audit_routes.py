"""What was recorded: a person reads their own entries, an investigator those of the proposal."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from beamhub_catalogue.audit_reading import EntryPage
from beamhub_core.rights import Refusal
from beamhub_portal.portal import Portal
from beamhub_portal.visitor import Visitor

Proposal = Annotated[str, Path(min_length=1, max_length=200)]
KIND_WORDS = {
    "login": "Logged in",
    "login_refused": "Login refused",
    "rights_changed": "Rights changed",
    "account_ended": "Rights ended",
    "account_known": "Account became known here",
    "decision": "Access decided",
    "refusal": "Refused",
    "plan": "Session planned",
    "state": "Session state",
    "recheck": "Rights checked again",
    "product": "Result catalogued",
    "act": "Act upon the proposal",
    "act_revoked": "Act revoked",
    "admin_act": "Act of an administrator",
    "impersonation": "An administrator acted as a person",
    "server_access": "A server was used by somebody else",
    "entries_read": "These records were read",
    "identity_linked": "Accounts joined",
    "identity_unlinked": "Account separated",
    "identity_conflict": "Accounts not joined",
}


def audit_router(portal: Portal) -> APIRouter:
    """`audit` and `audit/proposals/{proposal}`."""
    router = APIRouter()
    page = portal.pages.addresses.page

    @router.get("/audit")
    def own(request: Request) -> Response:
        visitor = portal.require_visitor(request)
        found = portal.service.own_audit(visitor.account, _before(request))
        return _answer(portal, request, visitor, found, None, page("audit"))

    @router.get("/audit/proposals/{proposal}")
    def of_proposal(request: Request, proposal: Proposal) -> Response:
        visitor = portal.require_visitor(request)
        found = portal.service.proposal_audit(visitor.principal, proposal, _before(request))
        if isinstance(found, Refusal):
            return portal.pages.refusal(request, visitor, found)
        return _answer(portal, request, visitor, found, proposal, page("audit", "proposals", proposal))

    return router


def _answer(
    portal: Portal, request: Request, visitor: Visitor, found: EntryPage, proposal: str | None, here: str
) -> Response:
    return portal.pages.answer(
        request,
        "audit.html",
        visitor,
        entries=found.entries,
        proposal=proposal,
        kind_words=KIND_WORDS,
        months=portal.config.catalogue.audit.security_log_months,
        older=f"{here}?before={found.before}" if found.before is not None else None,
        is_first=_before(request) is None,
        newest=here,
    )


def _before(request: Request) -> int | None:
    """The number that a page begins below; anything else is the first page."""
    text = request.query_params.get("before", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
