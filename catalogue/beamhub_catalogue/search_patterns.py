"""Regular expressions of a filter, rewritten so that PostgreSQL and RE2 read them alike, in linear time.

What is understood: letters, `.`, classes, `\\d \\w \\s` and their opposites, groups, `|`, `^`, `$` and the
quantifiers, also one within another. References back and looking around are refused: no engine matches them
in linear time. PostgreSQL matches what is left with an automaton, SQLite calls RE2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import re2

MAX_PATTERN = 200
MAX_REPEAT = 100
MAX_SIZE = 2_000
_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " \t\n\r\f\v"}
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_BOUNDS = re.compile(r"\{(\d{1,3})(,(\d{0,3}))?\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that both databases understand; with `fold_case` it is written in small letters."""

    text: str
    fold_case: bool


class PatternRefused(ValueError):
    """What is wrong with a pattern, as the rest of a sentence."""


def read_pattern(told: str) -> Pattern:
    """A pattern as the API takes it, `x` or `/x/i`.

    Raises
    ------
    PatternRefused
        If it is none, or none that is matched in linear time.
    """
    fold_case = False
    if len(told) > 1 and told.startswith("/") and (end := told.rfind("/")) > 0:
        flags, told = told[end + 1 :], told[1:end]
        if set(flags) - {"i"}:
            raise PatternRefused("knows no flag but i")
        fold_case = bool(flags)
    if len(told) > MAX_PATTERN:
        raise PatternRefused(f"is longer than {MAX_PATTERN} characters")
    reader = _Reader(told)
    text = reader.whole()
    pattern = Pattern(text.lower() if fold_case else text, fold_case)
    try:
        compiled(pattern.text)
    except re2.error:
        raise PatternRefused("is no regular expression") from None
    return pattern


@lru_cache(maxsize=200)
def compiled(text: str) -> re2._Regexp:
    """The pattern for RE2; `re2.error` for what it does not take."""
    options = re2.Options()
    options.log_errors, options.dot_nl, options.max_mem = False, True, 8 << 20
    return re2.compile(text, options)


class _Reader:
    """Reads a pattern from left to right and writes it in the words that all engines share."""

    def __init__(self, told: str) -> None:
        self._told, self._at, self._size = told, 0, 0

    def whole(self) -> str:
        text = self._choice(0)
        if self._at < len(self._told):
            raise PatternRefused("has a bracket that nobody opened")
        return text

    def _choice(self, depth: int) -> str:
        if depth > 10:
            raise PatternRefused("nests deeper than 10 groups")
        branches = [self._branch(depth)]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._branch(depth))
        return "|".join(branches)

    def _branch(self, depth: int) -> str:
        written = ""
        while self._peek() not in ("", "|", ")"):
            begin = self._size
            atom = self._atom(depth)
            quantifier, n = self._quantifier()
            if quantifier and atom in ("^", "$"):
                raise PatternRefused("repeats a place, which has no length")
            self._size = begin + (self._size - begin) * n
            if self._size > MAX_SIZE:
                raise PatternRefused("repeats too much")
            written += atom + quantifier
        return written

    def _atom(self, depth: int) -> str:
        self._size += 1
        letter = self._next()
        if letter == "(":
            if self._told.startswith("?", self._at):
                if not self._told.startswith("?:", self._at):
                    raise PatternRefused("has a group that is not of the kind (...) or (?:...)")
                self._at += 2
            inner = self._choice(depth + 1)
            if self._next() != ")":
                raise PatternRefused("has a bracket that nobody closed")
            return f"(?:{inner})"
        if letter == "[":
            return self._class()
        if letter == "\\":
            return self._escaped(in_class=False)
        if letter in "*+?{":
            raise PatternRefused(f"repeats nothing at {letter!r}")
        return letter if letter in ".^$" else _literal(letter)

    def _class(self) -> str:
        opposite = self._peek() == "^"
        self._at += opposite
        inside = ""
        while (letter := self._next()) != "]" or not inside:
            if letter == "":
                raise PatternRefused("has a class that nobody closed")
            if letter == "\\":
                inside += self._escaped(in_class=True)
            elif letter == "-" and inside and self._peek() not in ("]", ""):
                inside += "-"
            else:
                inside += _literal(letter)
        return f"[{'^' if opposite else ''}{inside}]"

    def _escaped(self, *, in_class: bool) -> str:
        letter = self._next()
        if letter.lower() in _CLASSES:
            if not in_class:
                return f"[{'^' if letter.isupper() else ''}{_CLASSES[letter.lower()]}]"
            if letter.isupper():
                raise PatternRefused("has an opposite within a class")
            return _CLASSES[letter]
        if letter in _LETTERS:
            return _LETTERS[letter]
        if letter == "" or letter.isalnum():
            raise PatternRefused(f"does not know \\{letter}")
        return _literal(letter)

    def _quantifier(self) -> tuple[str, int]:
        """What repeats the atom before, and how many copies of it an automaton needs."""
        letter = self._peek()
        if letter not in ("*", "+", "?", "{") or not letter:
            return "", 1
        if letter == "{":
            match = _BOUNDS.match(self._told, self._at)
            if match is None:
                raise PatternRefused("has a { that begins no {n}, {n,} or {n,m}; write \\{")
            low, high = int(match[1]), int(match[3]) if match[3] else int(match[1])
            if not low <= high <= MAX_REPEAT:
                raise PatternRefused(f"repeats more than {MAX_REPEAT} times, or from more to less")
            self._at, quantifier, n = match.end(), match[0], max(high, 1)
        else:
            self._at, quantifier, n = self._at + 1, letter, 1
        if self._peek() == "?":  # the shortest match is a match as well
            self._at += 1
        if self._peek() in ("*", "+", "?", "{") and self._peek():
            raise PatternRefused("has two quantifiers in a row")
        return quantifier, n

    def _peek(self) -> str:
        return self._told[self._at : self._at + 1]

    def _next(self) -> str:
        letter = self._peek()
        self._at += 1
        return letter


def _literal(letter: str) -> str:
    """A letter that stands for itself, everywhere."""
    return letter if letter.isalnum() or not letter.isascii() or letter.isspace() else "\\" + letter
