"""Capabilities are read by the letter, give nothing without an action, and never meet a group."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.entitlements import (
    Ignored,
    allows,
    parse_capability,
    parse_entitlement,
    parse_entitlements,
)
from beamhub_core.identity import Capability
from core.entitlement_fuzz import NAMESPACES, WORDS, check  # tests' folder
from core.entitlement_values import NAMESPACE, authority, component, hostile_json, res, urn, word

name = component.filter(lambda text: text != "act")
action = component.filter(lambda text: "," not in text)


@given(
    st.lists(name, min_size=1, max_size=4), st.none() | st.lists(action, min_size=1, max_size=4), authority
)
def test_what_a_community_writes_is_what_is_read(
    path: list[str], actions: list[str] | None, source: str
) -> None:
    assert parse_capability(res(path, actions, source), (NAMESPACE,)) == Capability(
        namespace=NAMESPACE,
        resource=path[0],
        children=tuple(path[1:]),
        actions=tuple(sorted(set(actions or []))),
        authority=source,
    )


@given(st.text() | st.text("urn:geant.xmplos=%#?+ act,\n", max_size=60))
def test_no_text_raises_and_none_is_both_group_and_capability(text: str) -> None:
    value = f"{NAMESPACE}:{text}"
    assert parse_capability(text, (NAMESPACE,)) is None or parse_entitlement(text, (NAMESPACE,)) is None
    assert parse_capability(value, (NAMESPACE,)) is None or parse_entitlement(value, (NAMESPACE,)) is None


@given(
    st.sampled_from(["", *(f"{space}:{kind}:" for space in NAMESPACES for kind in ("group", "res"))]),
    st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=6),
)
def test_the_laws_of_the_fuzzer_hold_for_any_words_of_the_grammar(start: str, words: list[str]) -> None:
    check(start + "".join(words))


@given(st.lists(name, min_size=1, max_size=3), st.lists(action, min_size=1, max_size=3))
def test_a_resource_and_a_group_of_the_same_name_never_meet(path: list[str], actions: list[str]) -> None:
    parsed = parse_entitlements([res(path, actions), urn(path)], (NAMESPACE,))
    assert [(item.group, *item.subgroups) for item in parsed.entitlements] == [tuple(path)]
    assert [(item.resource, *item.children) for item in parsed.capabilities] == [tuple(path)]
    only = parse_entitlements([res(["group", *path], actions)], (NAMESPACE,))
    assert (only.entitlements, only.ignored) == ((), 0)


@given(hostile_json, st.lists(word, min_size=1, max_size=3, unique=True))
def test_a_bad_value_never_spoils_the_others(bad: object, names: list[str]) -> None:
    good = [res([name], ["use"]) for name in names]
    parsed = parse_entitlements([good[0], bad, *good[1:]], (NAMESPACE,))
    assert {item.resource for item in parsed.capabilities} >= set(names)


@given(
    st.lists(st.sampled_from([res(["a"], ["r"], "x"), res(["a"], ["r"], "y"), res(["b"]), "x"]), max_size=9)
)
def test_the_order_of_the_values_does_not_matter(values: list[str]) -> None:
    assert parse_entitlements(values, (NAMESPACE,)) == parse_entitlements(values[::-1], (NAMESPACE,))


@given(st.lists(name, min_size=1, max_size=3), st.lists(action, min_size=1, max_size=3))
def test_actions_count_for_this_very_resource(path: list[str], actions: list[str]) -> None:
    found = parse_entitlements([res(path, actions)], (NAMESPACE,)).capabilities
    assert all(allows(found, NAMESPACE, path, one) for one in actions)
    assert not allows(found, NAMESPACE, [*path, "child"], actions[0])
    assert not allows(found, NAMESPACE, path[:-1], actions[0])
    assert not allows(found, "urn:geant:other.org", path, actions[0])
    assert not allows(found, NAMESPACE, path, actions[0] + "x") or actions[0] + "x" in actions


@given(st.lists(name, min_size=1, max_size=3), action)
def test_a_capability_without_actions_allows_nothing(path: list[str], wanted: str) -> None:
    found = parse_entitlements([res(path)], (NAMESPACE,))
    assert (len(found.capabilities), found.ignored) == (1, 0)
    assert not allows(found.capabilities, NAMESPACE, path, wanted)


def test_an_encoded_comma_separates_no_actions() -> None:
    found = parse_capability(res(["vm"], ["start%2cstop", "list"]), (NAMESPACE,))
    assert found is not None
    assert found.actions == ("list", "start%2Cstop")


@pytest.mark.parametrize(
    "value",
    [
        f"{NAMESPACE}:res:vm:act:use",
        f"{NAMESPACE}:res:vm:act:use#",
        f"{NAMESPACE}:res:vm:act:use#  ",
        f"{NAMESPACE}:res#x",
        f"{NAMESPACE}:res:#x",
        f"{NAMESPACE}:res::vm#x",
        f"{NAMESPACE}:res:vm:act#x",
        f"{NAMESPACE}:res:vm:act:#x",
        f"{NAMESPACE}:res:vm:act:a,#x",
        f"{NAMESPACE}:res:vm:act:,a#x",
        f"{NAMESPACE}:res:act:use#x",
        f"{NAMESPACE}:res:vm:act:a:act:b#x",
        f"{NAMESPACE}:res:vm:act:a:child#x",
        f"{NAMESPACE}:res:vm:role=admin#x",
        f"{NAMESPACE}:res:v m#x",
        f"{NAMESPACE}:RES:vm:act:a#x",
        f"{NAMESPACE}:sub:res:vm:act:a#x",
        f"{NAMESPACE}:group:vm:res:a:act=b#x",
    ],
)
def test_what_is_no_capability_is_counted_and_means_nothing(value: str) -> None:
    parsed = parse_entitlements([value], (NAMESPACE,))
    assert (parsed.capabilities, parsed.ignored) == ((), 1)


def test_the_authority_takes_no_part() -> None:
    parsed = parse_entitlements([res(["a"], ["r"], "two"), res(["a"], ["r"], "one")], (NAMESPACE,))
    assert [item.authority for item in parsed.capabilities] == ["one"]
    assert parsed.faults == Ignored()
