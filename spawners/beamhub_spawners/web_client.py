"""How hub-side code talks to the web service: bounded in time, failing closed."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from beamhub_core.audit_notice import AuditNotice
from beamhub_core.errors import Unavailable
from beamhub_core.identity import Identity, Principal
from beamhub_core.linked_identity import IdentityAnswer, IdentityToLink
from beamhub_core.queue import TicketAnswer, TicketWanted
from beamhub_core.rights import GrantAnswer, Refusal, Refused
from beamhub_core.session import SessionPlan, SessionUpdate, SessionVerdict, StoredSession
from beamhub_core.session_usage import UsageReport
from beamhub_core.word import Word, digest
from beamhub_spawners.web_refusals import TAKEN_BACK, web_refusal

log = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(10.0, connect=2.0)
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)
_Answer = TypeVar("_Answer")


class WebClient:
    """The internal API of the web service, as the hub uses it.

    Every method raises `Unavailable` when web does not answer in time, answers with a fault of its own or
    in another shape, and `Refused` when policy says no. `NotKnown`, `Conflict` and `NotTaken` are refusals
    of web itself: asking again gives the same answer.

    Every call but `recheck`, whose stops are noted in the audit each time, may be repeated without a second
    effect (docs/reference/internal-api.md). So one whose connection broke is sent a second time: the usual
    reason is a web service that was restarted under an open connection. A time-out is not repeated.
    """

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/internal",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT,
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def push_principal(self, principal: Principal) -> None:
        """Tell web who an account is, as of `principal.checked_at`."""
        await self._send("PUT", f"/principals/{principal.account}", principal)

    async def remove_principal(self, account: str) -> None:
        """Tell web that an account's rights ended now."""
        await self._send("DELETE", f"/principals/{account}")

    async def identity(self, account: str) -> IdentityAnswer:
        """As whom the identity of an account signs in, and which identities sign in as the account."""
        return _read(_IDENTITY, await self._send("GET", f"/identities/{account}"))

    async def link_identity(self, identity: Identity, signs_in_as: str) -> None:
        """Let an identity sign in as another account, whose owner showed both.

        Raises
        ------
        Refused
            If it cannot be as things stand; the reason is for its owner. `NotKnown` where web never saw the
            other account.
        """
        told = IdentityToLink(issuer=identity.issuer, subject=identity.subject, signs_in_as=signs_in_as)
        await self._send("PUT", f"/identities/{identity.account}", told)

    async def unlink_identity(self, account: str) -> None:
        """Let the identity of an account sign in as its own account again."""
        await self._send("DELETE", f"/identities/{account}")

    async def grants(self, account: str, datasets: tuple[str, ...]) -> GrantAnswer:
        """What the account may touch of the named datasets."""
        body = await self._send("POST", "/grants", {"account": account, "datasets": list(datasets)})
        return _read(_GRANTS, body)

    async def store_plan(self, plan: SessionPlan) -> None:
        """Store a plan before anything is made from it; storing the same plan twice is one storing."""
        await self._send(
            "PUT", f"/sessions/{plan.id}", {"plan": plan.model_dump(mode="json"), "plan_hash": digest(plan)}
        )

    async def update_session(self, plan_id: str, update: SessionUpdate) -> None:
        """Advance the mutable side of a session."""
        await self._send("POST", f"/sessions/{plan_id}/update", update)

    async def session(self, plan_id: str) -> StoredSession:
        """One stored session; raises `NotKnown` for one that web was never told of."""
        return _read(_SESSION, await self._send("GET", f"/sessions/{plan_id}"))

    async def live_sessions(self) -> tuple[StoredSession, ...]:
        """Every session that is not ended or failed."""
        return _read(_SESSIONS, await self._send("GET", "/sessions?live=true"))

    async def tell_usage(self, report: UsageReport) -> None:
        """Tell what the clusters of sessions have used in all; told twice it counts once."""
        await self._send("PUT", "/usage", report)

    async def take_ticket(self, wanted: TicketWanted) -> TicketAnswer:
        """A place in the queue for a start that found no room; the place it has, where it waits already."""
        return _read(_TICKET, await self._send("PUT", "/tickets", wanted))

    async def drop_tickets(self, account: str) -> None:
        """Let an account leave the queue with all it waits for."""
        await self._send("DELETE", f"/tickets/{account}")

    async def tell(self, notice: AuditNotice) -> None:
        """Have something kept in the audit; the same notice told twice is one entry."""
        await self._send("POST", "/audit", notice)

    async def recheck(self) -> tuple[SessionVerdict, ...]:
        """Re-evaluate the rights of every live session."""
        return _read(_VERDICTS, await self._send("POST", "/recheck", repeat=False))

    async def _send(
        self, method: str, path: str, body: Word | dict[str, Any] | None = None, *, repeat: bool = True
    ) -> Any:
        content = body.model_dump(mode="json") if isinstance(body, Word) else body
        response = await self._answer(method, path, content, repeat=repeat)
        if response.status_code in (403, *TAKEN_BACK):
            raise _refused(method, path, response)
        if not response.is_success:
            raise Unavailable("web", f"HTTP {response.status_code}")
        try:
            return response.json() if response.content else None
        except ValueError:
            raise Unavailable("web", "its answer is no JSON") from None

    async def _answer(self, method: str, path: str, content: Any, *, repeat: bool) -> httpx.Response:
        try:
            return await self._http.request(method, path, json=content)
        except httpx.HTTPError as error:
            if not repeat or not isinstance(error, BROKEN):
                raise Unavailable("web", type(error).__name__) from error
        return await self._answer(method, path, content, repeat=False)


_GRANTS, _SESSION = TypeAdapter(GrantAnswer), TypeAdapter(StoredSession)
_IDENTITY, _TICKET = TypeAdapter(IdentityAnswer), TypeAdapter(TicketAnswer)
_SESSIONS, _VERDICTS = TypeAdapter(tuple[StoredSession, ...]), TypeAdapter(tuple[SessionVerdict, ...])


def _read(kind: TypeAdapter[_Answer], body: Any) -> _Answer:
    try:
        return kind.validate_python(body)
    except ValidationError:
        raise Unavailable("web", "its answer has another shape") from None


def _refused(method: str, path: str, response: httpx.Response) -> Refused | Unavailable:
    """The policy's refusal where the answer holds one, else web's own."""
    try:
        return Refused(Refusal.model_validate(response.json()["refusal"]))
    except (ValueError, KeyError, TypeError, ValidationError):
        if response.status_code not in TAKEN_BACK:
            return Unavailable("web", f"HTTP {response.status_code}")
    refused = web_refusal(response.status_code, "")
    facts = {"request": f"{method} {path}"[:200], "status": response.status_code}
    log.warning(
        "web did not take a request [reference %s]: %s",
        refused.refusal.reference,
        repr(response.text[:300]),
        extra=facts,
    )
    return refused
