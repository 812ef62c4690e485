"""Text that XML can hold, and elements made of it."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

Element = Any
"""An element of lxml, which exports no name of its type."""
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Source: XML 1.0 (fifth edition), production 2, Char."""


def xml_text(text: str) -> str:
    """A text without what no XML document may hold, such as control characters."""
    if text.isprintable():  # nearly always, and then nothing is forbidden
        return text
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def add(parent: Element, tag: str, text: str | None = None, **attributes: str | None) -> Element:
    """A new last child, in the parent's own vocabulary when the tag is a qualified name."""
    child = etree.SubElement(parent, tag)
    for name, value in attributes.items():
        if value:
            child.set(name, xml_text(value))
    if text is not None:
        child.text = xml_text(text)
    return child
