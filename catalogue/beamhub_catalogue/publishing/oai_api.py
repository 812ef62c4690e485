"""The route of the OAI-PMH provider: GET and POST alike, always 200 but when there is too much at once."""

from __future__ import annotations

import threading
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from beamhub_catalogue.publishing.oai_provider import OaiProvider

MEDIA_TYPE = "text/xml; charset=utf-8"
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 20
MAX_TEXT = 8_000
RETRY_AFTER_S = 5


class OaiApi:
    """`/oai`, with a bound on what is answered at the same time."""

    def __init__(self, provider: OaiProvider, max_at_once: int) -> None:
        self._provider = provider
        self._places = threading.BoundedSemaphore(max_at_once)

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter(tags=["harvest"])
        router.add_api_route("/oai", self.get, methods=["GET", "HEAD"], response_model=None)
        router.add_api_route("/oai", self.post, methods=["POST"], response_model=None)
        return router

    async def get(self, request: Request) -> Response:
        """A request whose arguments stand in the address."""
        return await self._answer(request.scope["query_string"])

    async def post(self, request: Request) -> Response:
        """A request whose arguments stand in a form."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("", FORM):
            return Response(status_code=415)
        return await self._answer(await request.body())

    async def _answer(self, raw: bytes) -> Response:
        return await run_in_threadpool(self._answer_now, raw)

    def _answer_now(self, raw: bytes) -> Response:
        if not self._places.acquire(blocking=False):
            return Response(status_code=503, headers={"Retry-After": str(RETRY_AFTER_S)})
        try:
            return Response(self._provider.answer(_pairs(raw)), media_type=MEDIA_TYPE)
        finally:
            self._places.release()


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    """The arguments; of what is too much, the one that makes the request wrong."""
    try:
        text = raw[:MAX_TEXT].decode("utf-8", "replace")
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        return [("verb", "Identify"), ("more", f"than {MAX_FIELDS} arguments")]
