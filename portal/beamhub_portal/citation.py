"""Citations in the forms that reference managers read."""

from __future__ import annotations

import re

from beamhub_catalogue.views import Citation

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


def bibtex(citation: Citation) -> str:
    """A BibTeX `@misc` entry; special characters of TeX escaped, control characters dropped.

    A name is braced whole, since a list of full names does not say which word is the family name.
    """
    key = re.sub(r"[^A-Za-z0-9]+", "-", citation.identifier).strip("-") or "dataset"
    fields = [
        ("author", " and ".join("{" + _escaped(author) + "}" for author in citation.authors)),
        ("title", "{" + _escaped(citation.title) + "}"),
        ("year", str(citation.year) if citation.year is not None else ""),
        ("publisher", _escaped(citation.publisher)),
        ("note", "Dataset " + _escaped(citation.identifier)),
    ]
    lines = [f"  {name} = {{{value}}}," for name, value in fields if value]
    return "\n".join([f"@misc{{{key},", *lines, "}"])


def _escaped(text: str) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return "".join(_SPECIAL.get(sign, sign) for sign in printable)
