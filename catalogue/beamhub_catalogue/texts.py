"""Search words as SQL patterns."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func

ESCAPE = "\\"


def contains(column: ColumnElement[str], word: str) -> ColumnElement[bool]:
    """Rows whose column holds the word anywhere, letter case aside; the word has no wildcards."""
    escaped = word.replace(ESCAPE, ESCAPE * 2).replace("%", ESCAPE + "%").replace("_", ESCAPE + "_")
    return func.lower(column).like(f"%{escaped.lower()}%", escape=ESCAPE)


def like(column: ColumnElement[str], pattern: str, *, fold_case: bool) -> ColumnElement[bool]:
    """PaNOSC's like: % and _ are wildcards and nothing else is; without any, the text may stand anywhere."""
    text = pattern.replace(ESCAPE, ESCAPE * 2)
    if "%" not in text and "_" not in text:
        text = f"%{text}%"
    if fold_case:
        return func.lower(column).like(text.lower(), escape=ESCAPE)
    return column.like(text, escape=ESCAPE)
