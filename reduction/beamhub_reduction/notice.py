"""Telling the web service that a product was written."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
import warnings
from typing import Any

from beamhub_core.product import ProductNotice
from beamhub_reduction.session_info import WebService, web_service

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 65_536

log = logging.getLogger(__name__)


class CatalogueNotTold(UserWarning):
    """A product was written, but the catalogue does not know of it yet."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def tell_web(path: str) -> str | None:
    """Tell the session's web service of a product; its pid in the catalogue, or None.

    Outside a session there is nobody to tell. A failure is a warning: the file is written, and the next
    harvest finds it.

    Warns
    -----
    CatalogueNotTold
        If the web service did not take the product.
    """
    service = web_service()
    if service is None:
        return None
    try:
        return _post(service, ProductNotice(path=path))
    except (OSError, ValueError) as error:
        reason = _reason(error)
        log.warning("product not announced", extra={"path": path, "reason": reason})
        message = (
            f"{path} was written, but the catalogue could not be told ({reason}). It will be found later."
        )
        warnings.warn(CatalogueNotTold(message), stacklevel=3)
        return None


def _post(service: WebService, notice: ProductNotice) -> str:
    if not service.url.startswith(("http://", "https://")):
        raise ValueError("the address of the web service is not http")
    request = urllib.request.Request(  # noqa: S310  # the scheme was checked
        f"{service.url}/internal/products",
        data=notice.model_dump_json().encode(),
        headers={"Authorization": f"Bearer {service.token}", "Content-Type": "application/json"},
        method="POST",
    )
    # No proxy of the environment: the token goes to the web service and to nobody else.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        pid = json.loads(answer.read(MAX_ANSWER_BYTES)).get("pid")
    if not isinstance(pid, str) or not pid:
        raise ValueError("the answer has no pid")
    return pid


def _reason(error: OSError | ValueError) -> str:
    """Why, in a few words and without any text that could hold the token."""
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code}{_refusal(error)}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection: {error.reason}"
    return type(error).__name__ if isinstance(error, ValueError) else error.strerror or type(error).__name__


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        answer = json.loads(error.read(MAX_ANSWER_BYTES))
        return f": {str(answer['refusal']['reason'])[:300]}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
