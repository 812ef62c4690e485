"""From `user_options`, which anybody may send as any JSON, to a `SessionRequest`. Shape only, no I/O."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from beamhub_core.errors import BeamhubError
from beamhub_core.session import SessionRequest

MAX_OPTIONS_BYTES = 16_000
NAMES = ("profile", "environment", "template")


class OptionsRefused(BeamhubError):
    """The options are not names of known kinds; all problems, each with its key."""

    exit_code = 2

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return (
            f"The options of the session are not valid: {'; '.join(self.problems)}. "
            "Options name datasets (a list of pids), a profile, an environment and a template, nothing else."
        )


def read_options(options: Any) -> SessionRequest:
    """The request in a server's options.

    A path, an id, an image or a mode has no key here, so it is refused as unknown; a value is a name
    that later steps look up, never a path that they open.

    Raises
    ------
    OptionsRefused
        If the options are no mapping, larger than 16 kB as JSON, or hold an unknown key or a value that
        is no name. The message repeats no value longer than 40 characters.
    """
    if options is None:
        return SessionRequest()
    if not isinstance(options, dict):
        raise OptionsRefused((f"they are a {type(options).__name__}, not a mapping",))
    try:
        n_bytes = len(json.dumps(options).encode())
    except (TypeError, ValueError, RecursionError):
        raise OptionsRefused(("they are not JSON",)) from None
    if n_bytes > MAX_OPTIONS_BYTES:
        raise OptionsRefused((f"they have {n_bytes} bytes, more than {MAX_OPTIONS_BYTES}",))
    try:
        # Through JSON: lists become tuples, and no coercion of numbers to names happens (strict).
        return SessionRequest.model_validate_json(json.dumps(options), strict=True)
    except ValidationError as error:
        raise OptionsRefused(_problems(error)) from None


def read_form(form: dict[str, list[str]]) -> dict[str, Any]:
    """The options in a form or a query, whose values are always lists; unknown keys stay, to be refused."""
    options: dict[str, Any] = {}
    for key, values in form.items():
        if key.startswith("_"):
            continue  # the hub's own fields, such as _xsrf
        filled = [value for value in values if value]
        if key == "datasets":
            options[key] = filled
        elif len(filled) == 1 and key in NAMES:
            options[key] = filled[0]
        elif filled or key not in NAMES:
            options[key] = filled
    return options


def _problems(error: ValidationError) -> tuple[str, ...]:
    said = []
    for item in error.errors(include_url=False)[:8]:
        where = ".".join(str(part) for part in item["loc"]) or "options"
        message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
        said.append(f"{where[:40]}: {message}")
    return tuple(said)
