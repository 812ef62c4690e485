"""Which PaNET terms a condition on techniques means: a term with all below it, by id or by any name."""

from __future__ import annotations

from collections.abc import Callable

import re2

from beamhub_catalogue.panet import terms_below, terms_called, terms_like
from beamhub_catalogue.search_patterns import PatternRefused, compiled, read_pattern


def terms_by_id(operator: str, text: str) -> frozenset[str]:
    """The terms that an id or pid means; none for patterns, which compare to the letter."""
    return terms_below(text) if operator in ("eq", "inq") else frozenset()


def terms_by_name(operator: str, text: str) -> frozenset[str]:
    """The terms that a name or a pattern of names means; a label that several terms have means them all."""
    if operator in ("eq", "inq"):
        return frozenset().union(*(terms_below(term) for term in terms_called(text)))
    if operator == "regexp":
        try:
            pattern = read_pattern(text)
        except PatternRefused:
            return frozenset()  # the comparison itself says what is wrong with it
        found = compiled(pattern.text)
        return terms_like(
            lambda label: found.search(label.lower() if pattern.fold_case else label) is not None
        )
    return terms_like(_like(text, fold_case=operator == "ilike"))


def _like(text: str, *, fold_case: bool) -> Callable[[str], bool]:
    options = re2.Options()
    options.log_errors, options.dot_nl, options.case_sensitive = False, True, not fold_case
    wild = {"%": ".*", "_": "."}
    written = "".join(wild.get(letter) or re2.escape(letter) for letter in text)
    found = re2.compile(written, options)
    whole = "%" in text or "_" in text
    return lambda label: (found.fullmatch(label) if whole else found.search(label)) is not None
