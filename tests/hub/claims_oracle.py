"""Who may log in with what, said a second time: from the reference page, with nothing of the room's code.

One question per rule, each answered in the plainest way; slow and without a bound, for the fuzz only.
"""

from __future__ import annotations

import re
from typing import Any

RAF = "https://refeds.org/assurance"
ABOVE = {  # what may stand in a claim where the left one is required
    f"{RAF}/IAP/low": ("IAP/low", "IAP/medium", "IAP/high", "profile/cappuccino", "profile/espresso"),
    f"{RAF}/IAP/medium": ("IAP/medium", "IAP/high", "profile/cappuccino", "profile/espresso"),
    f"{RAF}/ID/unique": ("ID/unique", "profile/cappuccino", "profile/espresso"),
}
PART = r"(?:[A-Za-z0-9._~!$&'()*+,;@/-]|%[0-9A-Fa-f]{2})+"
GROUP = re.compile(
    rf"(?i:urn:geant):example\.org:group:({PART}(?::{PART})*)(?::role=({PART}))?(?:\?[+=][^#]*)?(?:#.*)?"
)


def strings(value: Any) -> list[str]:
    """The strings of a claim."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def admits(config: dict[str, Any], id_token: dict[str, Any], userinfo: dict[str, Any]) -> bool:
    """Whether a person with these claims may log in."""
    sub = id_token.get("sub")
    if not isinstance(sub, str) or userinfo.get("sub") != sub:
        return False
    if not 1 <= len(sub) <= 255 or not all("!" <= letter <= "~" for letter in sub):
        return False
    said = dict(id_token) | {name: value for name, value in userinfo.items() if name not in ("acr", "iss")}
    for name in config.get("required_claims", ()):  # the fuzz requires claims that are strings
        if not isinstance(said.get(name), str) or not said[name]:
            return False
    found = [*strings(said.get("voperson_id")), sub]
    if any(text.strip().lower().startswith("test@") or text in config["blocked_subjects"] for text in found):
        return False
    scopes = [text.split("@") for text in found if "@" in text]
    if config["id_scopes"] and not scopes:
        return False
    for parts in scopes if config["id_scopes"] else ():
        if parts[-1].lower() not in config["id_scopes"] or not parts[-1].isascii() or parts[:-1] == [""]:
            return False
    home = strings(said.get("schac_home_organization"))
    if config["home_organisations"] and [text.lower() for text in home] != config["home_organisations"]:
        return False
    sent = strings(said.get("eduperson_assurance"))
    return all(any(f"{RAF}/{one}" in sent for one in ABOVE[need]) for need in config["required_assurance"])


def memberships(config: dict[str, Any], userinfo: dict[str, Any]) -> set[tuple[str, str | None]]:
    """The groups, with their role, that the claims of an admitted person name."""
    values = strings(userinfo.get("entitlements")) + strings(userinfo.get("eduperson_entitlement"))
    matches = [GROUP.fullmatch(text) for text in values if text.isprintable() and len(text) <= 1024]
    if not config["entitlement_namespaces"]:
        return set()
    return {(_capitals(m[1]), _capitals(m[2]) if m[2] else None) for m in matches if m}


def _capitals(text: str) -> str:
    return re.sub("%[0-9a-f]{2}", lambda match: match[0].upper(), text, flags=re.IGNORECASE)
