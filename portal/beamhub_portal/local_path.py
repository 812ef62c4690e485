"""The one filter for every address that a visitor hands us to be sent to."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

MAX_PATH_LENGTH = 2048
_PLAIN = re.compile(r"[!-~]+")  # printable ASCII without space: nothing a browser strips or folds
_FORBIDDEN_STARTS = ("login", "logout", "oauth_callback", "internal")


def local_path(asked: str | None, base_path: str) -> str:
    """`asked` when it is a plain address below our own base path, else our front page.

    The path is compared component by component after percent-decoding; an empty component (`//`), a dot
    component, a backslash, an encoded separator or a scheme makes it foreign. The addresses of the login
    itself are excluded, so that no login leads to a login.

    Source: CVE-2019-10255 and GHSA-3vff-hjqv-m7h8 (JupyterHub), where `//` and `\\` left the host.
    """
    home = base_path + "/"
    if not asked or len(asked) > MAX_PATH_LENGTH or not _PLAIN.fullmatch(asked) or "\\" in asked:
        return home
    try:
        parts = urlsplit(asked)
    except ValueError:
        return home
    if parts.scheme or parts.netloc or parts.fragment or not asked.startswith(home):
        return home
    components = parts.path.split("/")
    base = base_path.split("/")
    if components[: len(base)] != base:
        return home
    below = components[len(base) :]
    if any(_is_foreign(component) for component in below[:-1]) or _is_foreign(below[-1] or "x"):
        return home
    if unquote(below[0]) in _FORBIDDEN_STARTS:
        return home
    return asked


def _is_foreign(component: str) -> bool:
    plain = unquote(component)
    return (
        plain in ("", ".", "..")
        or any(sign in plain for sign in "/\\%")
        or any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in plain)
    )


def path_of(base_path: str, *components: str) -> str:
    """An address below the base path, each component quoted as one component."""
    return base_path + "".join("/" + quote(component, safe=":") for component in components)
