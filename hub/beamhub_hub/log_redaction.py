"""What no line of the hub's log shows, whoever wrote it: values in addresses, tokens, session ids, inputs."""

from __future__ import annotations

import logging
import re
from typing import Final

_HIDDEN: Final = "[…]"
_RULES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # A query holds codes, states, nonces, hints; its path and its names are enough to follow.
        (r"(?<=[?&])([^=&?\s'\"<>]{1,200})=[^&\s'\"<>]*", rf"\1={_HIDDEN}"),
        # The session id, with which JupyterHub names the form token that it sets.
        (r"(xsrf.{0,60}?)b(['\"]).*?\2(?: != b(['\"]).*?\3)?", rf"\1{_HIDDEN}"),
        (r"\b(Bearer|Basic) [A-Za-z0-9._~+/=-]{8,}", rf"\1 {_HIDDEN}"),
        (r"\beyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*", _HIDDEN),
        # pydantic quotes what it did not take.
        (r"input_value=.*?, input_type=", rf"input_value={_HIDDEN}, input_type="),
    )
)
MAX_LINE = 64 * 1024
"""Longer texts are cut: what a browser or a provider sends must not fill a disk through the log."""


def redacted(text: str) -> str:
    """The text without the values that a log must not hold; names, paths and codes stay."""
    text = text if len(text) <= MAX_LINE else text[:MAX_LINE] + " [cut]"
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


class RedactingFilter(logging.Filter):
    """A handler's filter that lets every record through, redacted with its traceback."""

    _plain = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; every handler after us sees the redacted one, too."""
        record.msg, record.args = redacted(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = self._plain.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redacted(record.exc_text)
        return True


def redact_log(logger: logging.Logger) -> None:
    """Put the filter on every handler of a logger and of its parents; quiet those who log whole requests."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    each: logging.Logger | None = logger
    while each is not None:
        for handler in each.handlers:
            if not any(isinstance(known, RedactingFilter) for known in handler.filters):
                handler.addFilter(RedactingFilter())
        each = each.parent
