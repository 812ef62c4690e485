"""Citations in the forms that people and reference managers read.

Source: APA style, 7th edition, section 10.9 (data sets); BibTeX; RIS format specification of 2001;
Citation Style Language 1.0.2, csl-data.json.
"""

from __future__ import annotations

import json
import re
from typing import Any

from beamhub_catalogue.publishing.record import Contributor, Record

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_APA_AUTHORS = 20
"""As many stand before the last one when there are more. Source: APA, section 9.8."""


def apa(record: Record) -> str:
    """A reference in APA style; a name of which no family name is known stands as it is written."""
    version = f" (Version {record.version})" if record.version else ""
    text = (
        f"{_apa_authors(record)} ({record.issued.year}). {record.title}{version} [Data set]. "
        f"{record.publisher}. {record.identifier}"
    )
    return _plain(text)


def bibtex(record: Record) -> str:
    """A BibTeX `@misc` entry; special characters of TeX escaped, control characters dropped.

    A name is braced whole, unless it is known which part of it is the family name.
    """
    key = re.sub(r"[^A-Za-z0-9]+", "-", record.doi or record.pid).strip("-") or "dataset"
    fields = [
        ("author", " and ".join(_bibtex_name(one) for one in record.creators)),
        ("title", "{" + _escaped(record.title) + "}"),
        ("year", str(record.issued.year)),
        ("publisher", _escaped(record.publisher)),
        ("version", _escaped(record.version or "")),
        ("doi", _escaped(record.doi or "")),
        ("url", _escaped(record.identifier)),
        ("note", "Dataset " + _escaped(record.pid)),
    ]
    lines = [f"  {name} = {{{value}}}," for name, value in fields if value]
    return "\n".join([f"@misc{{{key},", *lines, "}"])


def ris(record: Record) -> str:
    """A RIS record; line breaks in values become spaces, so that no value makes a tag."""
    fields = [("TY", "DATA"), *(("AU", _inverted(one)) for one in record.creators)]
    fields += [
        ("TI", record.title),
        ("PY", str(record.issued.year)),
        ("DA", record.issued.strftime("%Y/%m/%d")),
        ("PB", record.publisher),
        ("ET", record.version or ""),
        ("DO", record.doi or ""),
        ("UR", record.identifier),
        ("AN", record.pid),
        ("AB", record.description),
        *(("KW", word) for word in (record.technique_label, *record.keywords)),
    ]
    lines = [f"{tag}  - {_plain(value)}" for tag, value in fields if value]
    return "\r\n".join([*lines, "ER  - ", ""])


def csl(record: Record) -> dict[str, Any]:
    """An item of CSL-JSON."""
    item: dict[str, Any] = {
        "type": "dataset",
        "id": record.identifier,
        "title": record.title,
        "author": [_csl_name(one) for one in record.creators],
        "issued": {"date-parts": [[record.issued.year, record.issued.month, record.issued.day]]},
        "publisher": record.publisher,
        "URL": record.identifier,
        "DOI": record.doi,
        "version": record.version,
        "abstract": record.description,
        "language": "en",
    }
    return {name: value for name, value in item.items() if value not in (None, [])}


def csl_text(record: Record) -> str:
    """The same as a document."""
    return json.dumps(csl(record), ensure_ascii=False)


def _apa_authors(record: Record) -> str:
    names = [_apa_name(one) for one in record.creators] or [f"Team of proposal {record.proposal}"]
    if len(names) > _APA_AUTHORS:
        return ", ".join(names[: _APA_AUTHORS - 1]) + ", … " + names[-1]
    return ", ".join(names[:-1]) + f", & {names[-1]}" if len(names) > 1 else names[0]


def _apa_name(person: Contributor) -> str:
    if not (person.family_name and person.given_name):
        return person.name
    initials = " ".join(f"{word[0]}." for word in re.split(r"[\s.]+", person.given_name) if word)
    return f"{person.family_name}, {initials}" if initials else person.family_name


def _inverted(person: Contributor) -> str:
    if person.family_name and person.given_name:
        return f"{person.family_name}, {person.given_name}"
    return person.name


def _bibtex_name(person: Contributor) -> str:
    if person.family_name and person.given_name:
        return "{" + _escaped(person.family_name) + "}, {" + _escaped(person.given_name) + "}"
    return "{" + _escaped(person.name) + "}"


def _csl_name(person: Contributor) -> dict[str, str]:
    if person.family_name and person.given_name:
        return {"family": person.family_name, "given": person.given_name}
    return {"literal": person.name}


def _plain(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _escaped(text: str) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return "".join(_SPECIAL.get(sign, sign) for sign in printable)
