"""Entitlements become groups by the letter, or not at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.entitlements import (
    MAX_VALUES,
    Ignored,
    display_text,
    parse_entitlement,
    parse_entitlements,
    satisfies,
)
from beamhub_core.identity import Entitlement
from core.entitlement_values import EGI, NAMESPACE, component, hostile_json, plain, urn  # tests' folder


@given(
    st.lists(component, min_size=1, max_size=4),
    st.none() | component,
    st.none() | st.text(st.characters(categories=["L", "N"]), max_size=9),
)
def test_what_a_community_writes_is_what_is_read(
    groups: list[str], role: str | None, authority: str | None
) -> None:
    found = parse_entitlement(urn(groups, role, authority), (EGI, NAMESPACE))
    assert found == Entitlement(
        namespace=NAMESPACE,
        group=groups[0],
        subgroups=tuple(groups[1:]),
        role=role,
        authority=authority or None,
    )


@given(st.text() | st.text("urn:geant.xmplog=%#?+ A\n\t", max_size=60))
def test_no_text_raises(text: str) -> None:
    found = parse_entitlement(text, (NAMESPACE,))
    assert found is None or found.namespace == NAMESPACE


@given(hostile_json)
def test_no_json_value_raises(value: object) -> None:
    parsed = parse_entitlements(value, (NAMESPACE,))
    assert parsed.ignored >= 0


@given(hostile_json, st.lists(plain, min_size=1, max_size=3, unique=True))
def test_a_bad_value_never_spoils_the_others(bad: object, groups: list[str]) -> None:
    good = [urn([group]) for group in groups]
    parsed = parse_entitlements([good[0], bad, *good[1:]], (NAMESPACE,))
    assert {item.group for item in parsed.entitlements} >= set(groups)


@given(st.lists(st.sampled_from([urn(["a"]), urn(["b"], "pi"), "urn:other:x:group:a", "x", ""]), max_size=30))
def test_every_value_is_read_repeated_or_counted(values: list[str]) -> None:
    parsed = parse_entitlements(values, (NAMESPACE,))
    known = [value for value in values if value.startswith(NAMESPACE)]
    assert parsed.ignored == len(values) - len(known)
    assert len(parsed.entitlements) == len(set(known))


@given(st.lists(plain, min_size=1, max_size=3), plain)
def test_a_longer_namespace_never_satisfies_a_shorter_one(groups: list[str], extra: str) -> None:
    value = ":".join([NAMESPACE, extra, "group", *groups])
    found = parse_entitlement(value, (NAMESPACE,))
    assert extra == "group" or found is None


@given(st.lists(plain, min_size=1, max_size=3), st.none() | plain)
def test_authority_and_letter_case_of_the_urn_take_no_part(groups: list[str], role: str | None) -> None:
    value = urn(groups, role, "one.example")
    other = value.replace("urn:geant", "URN:GEANT").replace("one.example", "two.example")
    assert len(parse_entitlements([value, other], (NAMESPACE,)).entitlements) == 1


@pytest.mark.parametrize(
    ("value", "group", "role"),
    [
        # The value is split before it is decoded: no role comes out of a group's name.
        ("urn:geant:example.org:group:a%3Arole%3Dadmin", "a%3Arole%3Dadmin", None),
        ("urn:geant:example.org:group:a%3arole%3dadmin", "a%3Arole%3Dadmin", None),
        ("urn:geant:example.org:group:proposals?=x#y", "proposals", None),
        ("urn:geant:example.org:group:a?+resolve?=q#Perun Identity - Maintenance", "a", None),
        ("urn:geant:example.org:group:group:role=group", "group", "group"),
    ],
)
def test_a_value_means_what_it_says(value: str, group: str, role: str | None) -> None:
    found = parse_entitlement(value, (NAMESPACE,))
    assert found is not None
    assert (found.group, found.role) == (group, role)


@pytest.mark.parametrize(
    "value",
    [
        "urn:geant:example.org",
        "urn:geant:example.org:group",
        "urn:geant:example.org:group:",
        "urn:geant:example.org:group::a",
        "urn:geant:example.org:group:role=pi",
        "urn:geant:example.org:group:a:role=",
        "urn:geant:example.org:group:a:role=x:b",
        "urn:geant:example.org:group:a:role=x:role=y",
        "urn:geant:example.org:group:a=b",
        "urn:geant:example.org:group:a b",
        "urn:geant:example.org:group:ä",
        "urn:geant:example.org:group:a\n",
        "urn:geant:example.org:group:a%zz",
        "urn:geant:example.org:group:a%",
        "urn:geant:example.org:group:a?x",
        "urn:geant:example.org:Group:a",
        "urn:geant:EXAMPLE.org:group:a",
        "urn:geant:example.org:group:a#" + "x" * 2000,
        " urn:geant:example.org:group:a",
        "urn:geant:example.org:evil:group:a",
        "urn:geant:example.org:res:group:a",
        "urn:geant:example.orgx:group:a",
        "urn:geant:myacademicid.org:ewp:geant.org:ewp:admin",
        "urn:mace:egi.eu:aai.egi.eu:member@fedcloud.egi.eu",
        "urn:mace:dir:entitlement:common-lib-terms",
        "http://bwidm.de/entitlement/bwLSDF-SyncShare",
        "",
    ],
)
def test_what_is_not_a_membership_of_ours_is_counted_and_means_nothing(value: str) -> None:
    parsed = parse_entitlements([value], (NAMESPACE,))
    assert (parsed.entitlements, parsed.ignored) == ((), 1)


def test_a_second_group_word_is_a_subgroup_and_no_longer_namespace() -> None:
    found = parse_entitlement("urn:geant:example.org:group:evil:group:admins", (NAMESPACE,))
    assert found is not None
    assert (found.group, found.subgroups) == ("evil", ("group", "admins"))


@pytest.mark.parametrize(
    ("value", "namespace", "group"),
    [
        (
            "urn:geant:cesnet.cz:group:einfra#Perun Identity and Management System - Maintenance",
            "urn:geant:cesnet.cz",
            "einfra",
        ),
        ("urn:mace:egi.eu:group:vo.example.eu:role=member#aai.egi.eu", EGI, "vo.example.eu"),
        (
            "urn:geant:lifescienceid.org:group:lifescience-test:members#perun.lifescienceid.org",
            "urn:geant:lifescienceid.org",
            "lifescience-test",
        ),
    ],
)
def test_values_of_real_operators_are_read(value: str, namespace: str, group: str) -> None:
    found = parse_entitlement(value, (namespace,))
    assert found is not None
    assert found.group == group


@given(st.lists(component, min_size=1, max_size=3), st.none() | component, st.data())
def test_percent_encoding_ignores_letter_case_and_nothing_else_of_a_name_does(
    groups: list[str], role: str | None, data: st.DataObject
) -> None:
    value = urn(groups, role)
    other = re.sub("%[0-9A-F]{2}", lambda match: match.group().lower(), value)
    assert parse_entitlement(other, (NAMESPACE,)) == parse_entitlement(value, (NAMESPACE,))
    swapped = [group.swapcase() for group in groups]
    if [re.sub("%..", "", group) for group in swapped] != [re.sub("%..", "", group) for group in groups]:
        assert parse_entitlement(urn(swapped, role), (NAMESPACE,)) != parse_entitlement(value, (NAMESPACE,))


@given(
    st.lists(component, min_size=1, max_size=3),
    st.sampled_from([":", ":role=", "#", "?+", "?=", "="]),
    component,
)
def test_a_separator_that_is_encoded_separates_nothing(groups: list[str], separator: str, rest: str) -> None:
    name = groups[-1] + "".join(f"%{byte:02x}" for byte in separator.encode()) + rest
    found = parse_entitlement(urn([*groups[:-1], name]), (NAMESPACE,))
    assert found is not None
    assert (found.role, found.authority) == (None, None)
    assert len(found.subgroups) == len(groups) - 1


@given(
    st.lists(st.sampled_from([urn(["a"], "pi", "x"), urn(["a"], "pi", "y"), urn(["b"]), "x", 7]), max_size=9)
)
def test_the_order_of_the_values_does_not_matter(values: list[object]) -> None:
    assert parse_entitlements(values, (NAMESPACE,)) == parse_entitlements(values[::-1], (NAMESPACE,))


@given(st.lists(component, min_size=1, max_size=3), st.none() | component)
def test_what_was_read_and_written_again_is_read_the_same(groups: list[str], role: str | None) -> None:
    first = parse_entitlement(urn(groups, role), (NAMESPACE,))
    assert first is not None
    again = urn([first.group, *first.subgroups], first.role)
    assert parse_entitlement(again, (NAMESPACE,)) == first


def test_values_without_a_use_are_counted_by_their_fault() -> None:
    values = [urn(["a"]), None, {}, urn(["a b"]), "x\n", "urn:other:x:group:a", "http://example.org/group:a"]
    assert parse_entitlements(values, (NAMESPACE,)).faults == Ignored(not_text=2, malformed=2, foreign=2)


def test_a_value_that_stands_twice_costs_one_of_the_bound() -> None:
    values = [urn([f"g{i}"]) for i in range(MAX_VALUES)]
    parsed = parse_entitlements(values + values + [urn(["late"])], (NAMESPACE,))
    assert (len(parsed.entitlements), parsed.faults) == (MAX_VALUES, Ignored(surplus=1))


@given(st.lists(component, min_size=1, max_size=3), st.lists(component, max_size=2), st.none() | component)
def test_a_membership_below_a_group_meets_a_demand_for_the_group(
    groups: list[str], below: list[str], role: str | None
) -> None:
    held = parse_entitlement(urn(groups + below, role), (NAMESPACE,))
    wanted = parse_entitlement(urn(groups), (NAMESPACE,))
    assert held is not None
    assert wanted is not None
    assert satisfies(held, wanted)
    assert satisfies(wanted, held) == (not below and role is None)


@pytest.mark.parametrize(
    ("held", "wanted", "does"),
    [
        ("a:role=pi", "a:role=pi", True),
        ("a:b:role=pi", "a:role=pi", False),
        ("a", "a:role=pi", False),
        ("a:role=PI", "a:role=pi", False),
        ("ab", "a", False),
        ("a:b", "b", False),
        ("a%3Ab", "a", False),
    ],
)
def test_a_role_counts_in_its_own_group_only(held: str, wanted: str, does: bool) -> None:
    one, other = (parse_entitlement(f"{NAMESPACE}:group:{text}#x", (NAMESPACE,)) for text in (held, wanted))
    assert one is not None
    assert other is not None
    assert satisfies(one, other) == does


def test_a_single_string_stands_for_a_list_of_one() -> None:
    parsed = parse_entitlements(urn(["a"]), (NAMESPACE,))
    assert [item.group for item in parsed.entitlements] == ["a"]


def test_a_flood_of_values_is_cut_and_counted() -> None:
    parsed = parse_entitlements([urn([f"g{i}"]) for i in range(MAX_VALUES + 5)], (NAMESPACE,))
    assert (len(parsed.entitlements), parsed.ignored) == (MAX_VALUES, 5)


def test_no_namespace_means_no_group() -> None:
    assert parse_entitlements([urn(["a"])], ()).entitlements == ()


def test_names_are_decoded_for_people_only() -> None:
    assert display_text("Ma%C3%9F%3A1") == "Maß:1"
