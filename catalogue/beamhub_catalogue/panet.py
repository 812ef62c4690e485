"""The hierarchy of PaNET: which techniques stand below a term, and by which words a term is known.

The table `panet.tsv` is made by `.ci/write_panet.py`. Source: PaNET ontology,
http://purl.org/pan-science/PaNET/ (CC-BY 4.0, the PaNET authors), https://github.com/pan-ontologies/PaNET
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

PANET = "http://purl.org/pan-science/PaNET/"
"""What comes before the id in a term."""
ROOT = PANET + "PaNET00001"


def terms_below(term: str) -> frozenset[str]:
    """A term, as IRI or id, and all that stand below it, as IRIs; empty for a term that PaNET has not."""
    name = term.removeprefix(PANET)
    return frozenset(PANET + one for one in _below().get(name, frozenset()))


def terms_called(word: str) -> frozenset[str]:
    """The terms whose label or other label is a word, letter case aside; labels are not unique."""
    return _called().get(word.strip().lower(), frozenset())


def terms_like(matches: Callable[[str], bool]) -> frozenset[str]:
    """The terms of which a label matches, and all that stand below them.

    The root, "photon and neutron technique", is left out: else whatever has a photon would be a neutron's.
    """
    others = ((term, words) for term, words in labels().items() if term != ROOT)
    found = (term for term, words in others if any(matches(word) for word in words))
    return frozenset().union(*(terms_below(term) for term in found))


def labels() -> dict[str, tuple[str, ...]]:
    """Every term with its labels, the preferred one first."""
    return _table()[0]


@cache
def _table() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Labels and direct parents by id."""
    names: dict[str, tuple[str, ...]] = {}
    parents: dict[str, tuple[str, ...]] = {}
    for line in (Path(__file__).parent / "panet.tsv").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, label, others, upper = line.split("\t")
        names[PANET + name] = (label, *filter(None, others.split("|")))
        parents[name] = tuple(upper.split())
    return names, parents


@cache
def _below() -> dict[str, frozenset[str]]:
    children: dict[str, list[str]] = defaultdict(list)
    parents = _table()[1]
    for name, upper in parents.items():
        for one in upper:
            children[one].append(name)
    found = {}
    for name in parents:
        seen, front = {name}, [name]
        while front:
            front = [child for one in front for child in children[one] if child not in seen]
            seen.update(front)
        found[name] = frozenset(seen)
    return found


@cache
def _called() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for term, words in labels().items():
        for word in words:
            found[word.lower()].add(term)
    return {word: frozenset(terms) for word, terms in found.items()}
