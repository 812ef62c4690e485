"""How hub-side code talks to the web service: bounded in time, failing closed."""

from __future__ import annotations

from typing import Any

import httpx
from pydantic import ValidationError

from beamhub_core.errors import Unavailable
from beamhub_core.identity import Principal
from beamhub_core.rights import GrantAnswer, Refusal, Refused
from beamhub_core.session import SessionPlan, SessionUpdate, SessionVerdict, StoredSession
from beamhub_core.word import Word, digest

TIMEOUT = httpx.Timeout(10.0, connect=2.0)


class WebClient:
    """The internal API of the web service, as the hub uses it.

    Every method raises `Unavailable` when web does not answer in time or answers with a
    fault of its own, and `Refused` when policy says no.
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

    async def grants(self, account: str, datasets: tuple[str, ...]) -> GrantAnswer:
        """What the account may touch of the named datasets."""
        body = await self._send("POST", "/grants", {"account": account, "datasets": list(datasets)})
        return GrantAnswer.model_validate(body)

    async def store_plan(self, plan: SessionPlan) -> None:
        """Store a plan before anything is made from it; storing the same plan twice is one storing."""
        await self._send(
            "PUT", f"/sessions/{plan.id}", {"plan": plan.model_dump(mode="json"), "plan_hash": digest(plan)}
        )

    async def update_session(self, plan_id: str, update: SessionUpdate) -> None:
        """Advance the mutable side of a session."""
        await self._send("POST", f"/sessions/{plan_id}/update", update)

    async def session(self, plan_id: str) -> StoredSession:
        """One stored session."""
        return StoredSession.model_validate(await self._send("GET", f"/sessions/{plan_id}"))

    async def live_sessions(self) -> tuple[StoredSession, ...]:
        """Every session that is not ended or failed."""
        rows = await self._send("GET", "/sessions?live=true")
        return tuple(StoredSession.model_validate(row) for row in rows)

    async def recheck(self) -> tuple[SessionVerdict, ...]:
        """Re-evaluate the rights of every live session."""
        rows = await self._send("POST", "/recheck")
        return tuple(SessionVerdict.model_validate(row) for row in rows)

    async def _send(self, method: str, path: str, body: Word | dict[str, Any] | None = None) -> Any:
        content = body.model_dump(mode="json") if isinstance(body, Word) else body
        try:
            response = await self._http.request(method, path, json=content)
        except httpx.HTTPError as error:
            raise Unavailable("web", type(error).__name__) from error
        if response.status_code in (403, 404, 409, 422):
            try:
                raise Refused(Refusal.model_validate(response.json()["refusal"]))
            except (ValueError, KeyError, TypeError, ValidationError):
                raise Unavailable("web", f"HTTP {response.status_code}") from None
        if response.is_error:
            raise Unavailable("web", f"HTTP {response.status_code}")
        return response.json() if response.content else None
