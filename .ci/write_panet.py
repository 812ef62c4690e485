"""Write the hierarchy of PaNET that the search API expands techniques by, from the ontology's table.

    python .ci/write_panet.py PaNET.csv VERSION > catalogue/beamhub_catalogue/panet.tsv

The table is source/PaNET.csv of https://github.com/pan-ontologies/PaNET (CC-BY 4.0). Most of its classes are
defined by equivalence, so who stands below whom has to be reasoned. The axioms are conjunctions of classes
and of `relation some class`: the completion rules of EL decide those fully. Source: Baader, Brandt and Lutz,
Pushing the EL envelope, IJCAI 2005, table 1.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

BASE = "http://purl.org/pan-science/PaNET/"
ROOT = "PaNET00001"
PARENTS, EQUIVALENTS = slice(8, 15), slice(15, 18)
SOME = re.compile(r"^\(?(?P<relation>'[^']+') some (?P<filler>[^()]+?)\)?$")
Part = tuple[str, str]
"""A relation (empty for none) and a class."""


def main(path: str, version: str) -> None:
    """Print one line for each technique: id, label, other labels, direct parents."""
    rows = [row for row in csv.reader(Path(path).read_text("utf-8").splitlines()) if len(row) > 17]
    classes = [row for row in rows if row[7] == "owl:Class"]
    ids = {row[2]: _short(row[1]) for row in classes}
    labels = {_short(row[1]): row[2] for row in classes}
    synonyms = {_short(row[1]): [text for text in row[3:5] if text] for row in classes}
    told = {_short(row[1]): _parts(row[PARENTS], ids) for row in classes}
    defined = {_short(row[1]): _parts(row[EQUIVALENTS], ids) for row in classes}
    above = _complete(told, defined)
    techniques = sorted(name for name in above if re.fullmatch(r"PaNET\d{5}", name))
    for name in techniques:
        above[name].add(ROOT)  # else only those would be below it whose relations say a domain
    sys.stdout.write(f"# PaNET {version}, {BASE}, CC-BY 4.0; hierarchy reasoned by .ci/write_panet.py\n")
    for name in techniques:
        upper = {one for one in above[name] - {name} if one in techniques and name not in above[one]}
        direct = sorted(one for one in upper if not any(one in above[two] - {two} for two in upper - {one}))
        line = "\t".join([name, labels[name], "|".join(synonyms[name]), " ".join(direct)])
        sys.stdout.write(line + "\n")


def _short(iri: str) -> str:
    return iri.removeprefix(BASE).removeprefix("PaNET:")


def _parts(cells: list[str], ids: dict[str, str]) -> list[Part]:
    """The conjuncts of some cells."""
    found: list[Part] = []
    for cell in filter(None, cells):
        if match := SOME.match(cell):
            found.append((match["relation"], _class(match["filler"], ids)))
        else:
            found += [("", _class(name, ids)) for name in cell.strip("()").split(" and ")]
    return [part for part in found if part[1]]


def _class(text: str, ids: dict[str, str]) -> str:
    name = text.strip().strip("'")
    if name == "owl:Thing":
        return ""
    return ids[name] if name in ids else _short(name)


def _complete(told: dict[str, list[Part]], defined: dict[str, list[Part]]) -> dict[str, set[str]]:
    """Every class with all that are above it, itself included."""
    above = {name: {name} for name in told}
    related: dict[str, set[Part]] = {name: set() for name in told}
    changed = True
    while changed:
        changed = False
        for name in told:
            before = len(above[name]), len(related[name])
            for upper in list(above[name]):
                for relation, other in [*told.get(upper, []), *defined.get(upper, [])]:
                    if relation:
                        related[name].add((relation, other))
                    else:
                        above[name] |= above.get(other, {other})
            for whole, parts in defined.items():
                if parts and all(_holds(part, above, related, name) for part in parts):
                    above[name] |= above[whole]
            changed |= before != (len(above[name]), len(related[name]))
    return above


def _holds(part: Part, above: dict[str, set[str]], related: dict[str, set[Part]], name: str) -> bool:
    relation, other = part
    if not relation:
        return other in above[name]
    return any(r == relation and other in above.get(filler, {filler}) for r, filler in related[name])


if __name__ == "__main__":
    main(*sys.argv[1:])
