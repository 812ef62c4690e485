"""What a person, or a program, gets when a request cannot be answered as asked."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_portal.guards import new_reference
from beamhub_portal.hub_client import HubRefused
from beamhub_portal.portal import ForeignForm, LoginNeeded, Portal
from beamhub_portal.visitor import Visitor

log = logging.getLogger(__name__)

NOT_FOUND = ("Not found", "There is nothing at this address, or nothing that you may know of.")
STATUS_WORDS = {
    403: ("Not allowed", "This page is not open to you."),
    404: NOT_FOUND,
    405: ("Not allowed", "This address does not take that kind of request."),
    413: ("Too large", "The request holds more than this service takes."),
    415: ("Not a form", "This address takes forms of its own pages only."),
}
FAULT = (
    "Something broke on our side",
    "Your data is safe and what runs keeps running. Try again; if it repeats, tell your facility the "
    "reference below.",
)


class ErrorPages:
    """An answer for each error, as a page for people and as JSON for callers of an API."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._base = portal.pages.addresses.base.split("/")

    def add_to(self, app: FastAPI) -> None:
        """Register every handler."""
        app.add_exception_handler(LoginNeeded, self._login_needed)
        app.add_exception_handler(ForeignForm, self._foreign_form)
        app.add_exception_handler(Refused, self._refused)
        app.add_exception_handler(HubRefused, self._hub_refused)
        app.add_exception_handler(Unavailable, self._unavailable)
        app.add_exception_handler(RequestValidationError, self._invalid)
        app.add_exception_handler(HTTPException, self._http_error)

    async def fault(self, scope: Scope, receive: Receive, send: Send, reference: str) -> None:
        """Answer 500 for an error that nobody knows; it is in the log under the reference."""
        request = Request(scope, receive)
        response: Response = JSONResponse({"detail": f"{FAULT[0]}, reference {reference}."}, 500)
        if self._is_page(request):
            response = self._page(request, 500, FAULT, None, reference)
        await response(scope, receive, send)

    def _is_page(self, request: Request) -> bool:
        parts = request.url.path.split("/")
        n = len(self._base)
        return parts[:n] == self._base and parts[n : n + 1] != ["api"]

    def _visitor(self, request: Request) -> Visitor | None:
        try:
            return self._portal.visitors.of(request)
        except Unavailable:
            return None

    def _login_needed(self, request: Request, error: Exception) -> Response:
        if request.method in ("GET", "HEAD"):
            return RedirectResponse(self._portal.pages.login_address(request), status_code=303)
        return self._error(request, 403, ("Log in again", "Your login has ended, so nothing was done."))

    def _foreign_form(self, request: Request, error: Exception) -> Response:
        words = "The form did not come from a page of this login. Go back, reload the page and try again."
        return self._error(request, 403, ("Nothing was done", words))

    def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)  # noqa: S101  # registered for this class alone
        return self._portal.pages.refusal(request, self._visitor(request), error.refusal)

    def _hub_refused(self, request: Request, error: Exception) -> Response:
        return self._error(request, 403, ("Not allowed", "The hub did not allow this. Log out and in again."))

    def _unavailable(self, request: Request, error: Exception) -> Response:
        if not self._is_page(request):
            return JSONResponse({"detail": str(error)}, status_code=503)
        reference = new_reference()
        log.warning("no answer [reference %s]: %s", reference, error)
        again = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return self._portal.pages.answer(
            request, "unavailable.html", None, status=503, reference=reference, again=again
        )

    def _invalid(self, request: Request, error: Exception) -> Response:
        if not self._is_page(request):
            return JSONResponse({"detail": "The request does not fit this address."}, status_code=422)
        return self._error(request, 404, NOT_FOUND)

    def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class alone
        if not self._is_page(request):
            return JSONResponse(
                {"detail": error.detail}, status_code=error.status_code, headers=error.headers
            )
        words = STATUS_WORDS.get(error.status_code, ("That did not work", "The request does not fit."))
        return self._error(request, error.status_code, words)

    def _error(self, request: Request, status: int, words: tuple[str, str]) -> Response:
        reference = new_reference()
        log.info("refused [reference %s] %d %s", reference, status, repr(request.url.path[:200]))
        return self._page(request, status, words, self._visitor(request), reference)

    def _page(
        self, request: Request, status: int, words: tuple[str, str], visitor: Visitor | None, reference: str
    ) -> Response:
        """A page that says nothing of the address asked for."""
        return self._portal.pages.answer(
            request,
            "problem.html",
            visitor,
            status=status,
            title=words[0],
            text=words[1],
            reference=reference,
            login_address=self._portal.pages.addresses.page("login"),
            here="",
        )
