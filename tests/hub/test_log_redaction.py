"""What no line of the hub's log shows."""

from __future__ import annotations

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from beamhub_hub.log_redaction import MAX_LINE, RedactingFilter, redacted

SECRET = "Zx9-secret_value.~%2F"
VALUES = st.text("abcXYZ019-_.~%", min_size=12, max_size=60)


@given(name=st.text("abcdefgh_%63", min_size=1, max_size=20), value=VALUES, first=st.booleans())
def test_no_value_of_an_address_is_shown_and_every_path_is(name: str, value: str, first: bool) -> None:
    query = f"?{name}={value}&x=1" if first else f"?x=1&{name}={value}"
    text = redacted(f"302 GET /hub/login/aai/callback{query} -> /hub/home{query} (@127.0.0.1) 1.2ms")
    assert value not in text
    assert "302 GET /hub/login/aai/callback?" in text
    assert text.endswith("(@127.0.0.1) 1.2ms")


@pytest.mark.parametrize(
    "line",
    [
        f"HTTPServerRequest(protocol='http', uri='/hub/x?code={SECRET}', method='GET')",
        f"Setting new xsrf cookie for b'{SECRET}:abc=' {{'path': '/hub/'}}",
        f"xsrf id mismatch b'{SECRET}' != b'{SECRET}'",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: Basic {SECRET}==",
        f"token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJpbmVzIn0.{SECRET.partition('.')[0]} was wrong",
        f"Input should be a number [type=int, input_value='{SECRET}', input_type=str]",
    ],
)
def test_known_places_of_secrets_are_hidden(line: str) -> None:
    assert SECRET.partition(".")[0] not in redacted(line)


@given(st.text("abc /:.,()[]", max_size=80))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


def test_a_line_has_an_end() -> None:
    assert len(redacted("x" * 10_000_000)) < MAX_LINE + 100


class Strict(BaseModel):
    """A model that quotes what it does not take."""

    number: int


def test_a_traceback_is_redacted_too() -> None:
    stream = io.StringIO()
    logger = logging.Logger("redaction-test")
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger.addHandler(handler)
    try:
        Strict.model_validate({"number": SECRET})
    except ValueError:
        logger.exception("not usable: %s", f"/a?code={SECRET}")
    assert SECRET not in stream.getvalue()
    assert "Traceback" in stream.getvalue()
    assert "ValidationError" in stream.getvalue()
