"""Errors that end on a page of ours, with a reference, and leave no request address in the log."""

from __future__ import annotations

import secrets

from jinja2 import Undefined
from tornado.log import app_log
from tornado.web import HTTPError

from beamhub_hub.denial import LoginDenied, ProviderUnavailable


class PageError(HTTPError):
    """A status with words for people; `reference`, if any, finds the line in the log.

    It carries no `log_message`: tornado would log it together with the request's address, which
    holds the authorization code.
    """

    def __init__(self, status: int, title: str, advice: str, reference: str = "") -> None:
        super().__init__(status, reason=None)
        self.title, self.reference = title, reference
        self.jupyterhub_message = advice


def denied_page(denied: LoginDenied) -> PageError:
    """The page of a login that proved nothing."""
    return PageError(403, "You are not logged in", denied.advice, denied.reference)


def provider_down_page(title: str, error: ProviderUnavailable) -> PageError:
    """The page of a provider that does not answer."""
    advice = (
        f"{title} does not answer, so nobody can log in now. What runs keeps running. "
        "Try again in a few minutes."
    )
    return PageError(503, "The identity provider is not available", advice, error.reference)


def web_down_page(reference: str) -> PageError:
    """The page of a login whose rights nobody could note down."""
    advice = (
        "Your identity was confirmed, but the service that knows your rights does not answer, so you were "
        "not logged in. What runs keeps running. Try again in a few minutes."
    )
    return PageError(503, "The catalogue is not available", advice, reference)


def web_refused_page(reference: str) -> PageError:
    """The page of a login that the service of rights did not take: it would not a second time."""
    advice = (
        "Your identity was confirmed, but the service that knows your rights did not take it, so you were "
        "not logged in. What runs keeps running. Trying again does not help: tell your facility the "
        "reference."
    )
    return PageError(502, "This login cannot be noted down", advice, reference)


def stale_form_page(reference: str) -> PageError:
    """The page of a form that no page of ours sent, or one too old."""
    return PageError(
        403,
        "Nothing was done",
        "The form is too old, or it did not come from a page of this site. Go back to the login page and try "
        "again. If that does not help, allow cookies for this site.",
        reference,
    )


def no_such_provider_page() -> PageError:
    """The page of an address that names no provider."""
    return PageError(
        404, "No such login", "There is no login at this address. Start again from the login page."
    )


def no_text_page() -> PageError:
    """The page of an address whose parameters are no text."""
    return PageError(
        400, "This address makes no sense", "Its parameters are no text. Start again from the login page."
    )


class ErrorNotes:
    """What the error template asks for its reference; one instance serves every page.

    Errors of our own brought their reference along, and their line is written. For any other one, a line is
    written now: it follows the one with the traceback.
    """

    def reference(self, status: int, error: BaseException | Undefined | None) -> str:
        """The reference of an error, whose line the log holds when the page is sent."""
        known = getattr(error, "reference", None) if isinstance(error, BaseException) else None
        if isinstance(known, str) and known:
            return known
        reference = secrets.token_hex(4)
        kind = type(error).__name__ if isinstance(error, BaseException) else "none"
        app_log.warning("error page: reference=%s status=%s error=%s", reference, status, kind)
        return reference
