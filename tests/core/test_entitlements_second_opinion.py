"""Our parser beside the AARC community's own library: the same where both should agree, and where not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.entitlements import parse_entitlement, satisfies
from core.entitlement_values import NAMESPACE, authority, component, urn  # tests' folder

library = pytest.importorskip("aarc_entitlement", reason="the library aarc-entitlement is not installed")

# Words that the library itself reads as they stand: it takes ':group:' wherever it stands last.
names = component.filter(lambda text: text != "group")
values = st.builds(urn, st.lists(names, min_size=1, max_size=4), st.none() | names, st.none() | authority)


@given(values)
def test_both_read_the_same_group_and_role(value: str) -> None:
    ours, theirs = parse_entitlement(value, (NAMESPACE,)), library.G069(value)
    assert ours is not None
    assert (ours.group, ours.subgroups, ours.role, ours.authority) == tuple(
        _as_ours(part) for part in (theirs.group, theirs.subgroups, theirs.role, theirs.group_authority)
    )


def _as_ours(part: object) -> object:
    """The library writes percent-encoding in small letters, we in capitals: the same to RFC 8141."""
    if isinstance(part, tuple):
        return tuple(_as_ours(one) for one in part)
    return _capitals(part) if isinstance(part, str) else part


def _capitals(text: str) -> str:
    pieces = text.split("%")
    return "%".join([pieces[0], *(piece[:2].upper() + piece[2:] for piece in pieces[1:])])


few = st.sampled_from(["a", "b"])
nearby = st.builds(urn, st.lists(few, min_size=1, max_size=3), st.none() | few, st.none() | authority)


@given(nearby, nearby)
def test_both_say_the_same_of_demands(held: str, wanted: str) -> None:
    ours = [parse_entitlement(value, (NAMESPACE,)) for value in (held, wanted)]
    assert None not in ours
    assert satisfies(ours[0], ours[1]) == library.G069(held).satisfies(library.G069(wanted))


@given(nearby, st.sampled_from(["URN:geant", "urn:GEANT", "uRn:Geant"]))
def test_both_pass_over_the_letter_case_of_the_scheme_and_its_identifier(value: str, start: str) -> None:
    other = value.replace("urn:geant", start)
    assert parse_entitlement(other, (NAMESPACE,)) == parse_entitlement(value, (NAMESPACE,))
    assert library.G069(other) == library.G069(value)


@pytest.mark.parametrize(
    ("value", "theirs"),
    [
        # The last ':group:' wins there: a group's name makes a longer namespace.
        (f"{NAMESPACE}:group:evil:group:admins", ("admins", (), None)),
        # An empty role becomes a subgroup.
        (f"{NAMESPACE}:group:a:role=", ("a", ("role=",), None)),
        # What follows a role belongs to the role.
        (f"{NAMESPACE}:group:a:role=x:b", ("a", (), "x:b")),
        # Characters that no URN holds.
        (f"{NAMESPACE}:group:a b", ("a b", (), None)),
        (f"{NAMESPACE}:group:ä", ("ä", (), None)),
        (f"{NAMESPACE}:group:a\n", ("a\n", (), None)),
        # An '=' in a name.
        (f"{NAMESPACE}:group:a=b", ("a=b", (), None)),
        # The delegated namespace in another letter case: RFC 8141 ignores it before that only.
        ("urn:geant:EXAMPLE.org:group:a", ("a", (), None)),
    ],
)
def test_where_the_library_is_wider_ours_reads_no_more_than_the_letter(
    value: str, theirs: tuple[str, tuple[str, ...], str | None]
) -> None:
    found = library.G069(value)
    assert (found.group, found.subgroups, found.role) == theirs
    ours = parse_entitlement(value, (NAMESPACE,))
    assert ours is None or (ours.group, ours.subgroups) == ("evil", ("group", "admins"))


def test_a_longer_namespace_satisfies_a_shorter_one_there_and_not_here() -> None:
    held, wanted = f"{NAMESPACE}:sub:group:a", f"{NAMESPACE}:group:a"
    assert library.G069(held).satisfies(library.G069(wanted))
    assert parse_entitlement(held, (NAMESPACE,)) is None


def test_the_older_form_there_decodes_before_it_splits() -> None:
    value = f"{NAMESPACE}:group:a%3Arole%3Dadmin"
    assert library.G002(value).role == "admin"
    ours = parse_entitlement(value, (NAMESPACE,))
    assert ours is not None
    assert (ours.group, ours.role) == ("a%3Arole%3Dadmin", None)
