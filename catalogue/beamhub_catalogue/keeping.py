"""What no database keeps is refused by all of them: PostgreSQL would fail where SQLite keeps anything."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, event, inspect
from sqlalchemy.exc import DataError, DBAPIError, StatementError
from sqlalchemy.orm import Session

from beamhub_catalogue.texts import is_storable


class CheckedSession(Session):
    """A session that keeps no text that is longer than its column, or that holds a zero character.

    It raises the error that SQLAlchemy has for values of a wrong kind, without the value. Rows that are
    inserted in bulk are not looked at: whoever makes them bounds them.
    """


@event.listens_for(CheckedSession, "before_flush")
def _check(session: Session, context: Any, instances: Any) -> None:
    for row in (*session.new, *session.dirty):
        state = inspect(row)
        for column in state.mapper.columns:
            value = state.dict.get(state.mapper.get_property_by_column(column).key)
            if isinstance(value, str) and isinstance(column.type, String):
                reason = _unkept(value, column.type.length)
                if reason is not None:
                    raise StatementError(f"{column} {reason}", None, None, ValueError(reason))


def _unkept(text: str, length: int | None) -> str | None:
    if length is not None and len(text) > length:
        return f"takes at most {length} characters"
    return None if is_storable(text) else "takes no zero character and no half of a character"


def is_about_values(error: StatementError) -> bool:
    """Whether a database failed on what it was given to keep, not by itself."""
    return isinstance(error, DataError) or not isinstance(error, DBAPIError)
