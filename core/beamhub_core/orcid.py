"""ORCID iDs."""

from __future__ import annotations

import re

_ORCID = re.compile(r"[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]")


def is_orcid(text: str) -> bool:
    """Whether a text is an ORCID iD with the right check digit.

    Source: ISO/IEC 7064, MOD 11-2; support.orcid.org, "Structure of the ORCID Identifier".
    """
    if not _ORCID.fullmatch(text):
        return False
    plain = text.replace("-", "")
    digits, check = plain[:-1], plain[-1]
    total = 0
    for digit in digits:
        total = (total + int(digit)) * 2
    return check == "0123456789X"[(12 - total % 11) % 11]
