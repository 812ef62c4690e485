"""One id over all processes that a session's start passes: W3C Trace Context.

Source: W3C Recommendation "Trace Context", 23 November 2021, section 3.2 (`traceparent`). An id says nothing
of anybody and opens nothing; it only lets log lines of several processes be read together.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

HEADER = "traceparent"
MAX_LENGTH = 55
_FORM = re.compile(r"00-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_current: ContextVar[str | None] = ContextVar("beamhub_trace", default=None)


def begin_trace(known: str | None = None) -> str:
    """Make an id the one of this request, a new one where none of its form is known; the id."""
    trace_id = read_trace_id(traceparent(known)) if known else None
    trace_id = trace_id or new_trace_id()
    _current.set(trace_id)
    return trace_id


def current_trace_id() -> str | None:
    """The id of this request, where it began one."""
    return _current.get()


def new_trace_id() -> str:
    """A fresh id, 32 hexadecimal digits."""
    return secrets.token_hex(16)


def traceparent(trace_id: str, parent: str | None = None) -> str:
    """The header's value; `parent` is 16 hexadecimal digits of whoever asks, random when absent."""
    return f"00-{trace_id}-{parent or secrets.token_hex(8)}-01"


def read_trace_id(value: str | None) -> str | None:
    """The id in a header's value; None for an absent one and for one of another form."""
    if value is None or len(value) > MAX_LENGTH:
        return None
    found = _FORM.fullmatch(value)
    return found["trace"] if found else None
