"""Values as communities write them, for the tests of entitlements: how they are built and varied."""

from __future__ import annotations

from hypothesis import strategies as st

NAMESPACE = "urn:geant:example.org"
EGI = "urn:mace:egi.eu"
plain = st.text("ABCabc019._-~!$&'()*+,;@/", min_size=1, max_size=12)
encoded = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4).map(
    lambda text: "".join(f"%{byte:02X}" for byte in text.encode())
)
component = plain | encoded | st.tuples(plain, encoded).map("".join)
"""One component as it may stand in a URN, percent-encoding in its usual form."""
word = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
authority = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9)
hostile_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def urn(groups: list[str], role: str | None = None, authority: str | None = None) -> str:
    """The value that a community writes for a membership."""
    text = ":".join([NAMESPACE, "group", *groups])
    text += f":role={role}" if role is not None else ""
    return text + (f"#{authority}" if authority is not None else "")


def res(path: list[str], actions: list[str] | None = None, authority: str | None = "as.example") -> str:
    """The value that a community writes for a capability."""
    text = ":".join([NAMESPACE, "res", *path])
    text += f":act:{','.join(actions)}" if actions is not None else ""
    return text + (f"#{authority}" if authority is not None else "")
