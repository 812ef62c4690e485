"""What web does not take, told apart from a web that does not answer: asking again gives the same."""

from __future__ import annotations

from beamhub_core.rights import RefusalCode, Refused
from beamhub_spawners.refusal import refuse


class NotKnown(Refused):
    """Web has nothing under this name: a session, an act or a proposal that it was never told of."""


class Conflict(Refused):
    """Web holds something else under this id, and never replaces it."""


class NotTaken(Refused):
    """Web does not take a request in this form: a fault of the platform, not of the person."""


TAKEN_BACK = (400, 404, 405, 409, 411, 413, 422)
"""Answers that stay the same when the same is asked again. 401 and a bare 403 are not among them: while a
token is replaced, web and hub know different ones for a moment."""
_REASON = "The platform did not take this request (HTTP {}). Trying again does not help: tell your facility."


def web_refusal(status: int, subject: str) -> Refused:
    """The refusal of an answer without one, with a fresh reference for the log.

    Web's own words are for the log: they may name what the person is not to know.
    """
    kind = {404: NotKnown, 409: Conflict}.get(status, NotTaken)
    code: RefusalCode = "not_found" if status == 404 else "bad_request"
    return kind(refuse(code, subject, _REASON.format(status)).refusal)
