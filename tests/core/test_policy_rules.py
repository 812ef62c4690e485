"""Rules of a policy: one and only one for every case that there can be, against counting all of them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from beamhub_core.errors import ConfigInvalid
from beamhub_core.policy_document import PolicyDocument
from beamhub_core.policy_file import read_policy
from beamhub_core.policy_rules import MAX_CASES, MAX_PROBLEMS

KEYS = ("instruments", "proposal_classes", "access_routes")
UNHEARD_OF = "unheard-of"
WORDS = ("a", "A", "a1", "a10", "")
"""P1 and P10, two letter cases of one word, and no word at all."""
CENTRE = date(2024, 2, 28)
DAYS = st.sampled_from(
    [date.min, date.min + timedelta(days=1), date.max - timedelta(days=1), date.max]
    + [CENTRE + timedelta(days=i) for i in range(3)]
)
CLASSES = {
    "open": {"embargo_months": 0, "metadata": "public"},
    "standard": {"embargo_months": 36, "metadata": "public"},
}
Case = tuple[str, str, str, date]
_EXAMPLE = re.compile(r"(instrument|proposal class|access route) '([^']*)'")
_DAY = re.compile(r"beginning (on|before) (\d{4}-\d\d-\d\d)")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents with rules over few words and days; about as many are whole as not."""
    found: dict[str, Any] = {"version": "r", "timezone": "UTC", "classes": CLASSES}
    for key in KEYS:
        words = [w for w in WORDS if w or key == "access_routes"]
        if draw(st.booleans()):
            found[key] = draw(st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True))
    n_rules = draw(st.integers(1, 4))
    found["rules"] = [draw(rules(i, found)) for i in range(n_rules)]
    return found


@st.composite
def rules(draw: st.DrawFn, number: int, document: dict[str, Any]) -> dict[str, Any]:
    """One rule that names at most what its document has."""
    rule: dict[str, Any] = {"name": f"r{number}", "embargo_class": draw(st.sampled_from([*CLASSES]))}
    for key in KEYS:
        if draw(st.integers(0, 3)) == 0:
            possible = document.get(key, WORDS)
            rule[key] = draw(st.lists(st.sampled_from(possible), min_size=1, max_size=2))
    first, last = draw(st.none() | DAYS), draw(st.none() | DAYS)
    if first and last and last < first:
        first, last = last, first
    rule |= {"first_day": first} if first else {}
    return rule | ({"last_day": last} if last else {})


@st.composite
def partitions(draw: st.DrawFn) -> dict[str, Any]:
    """Documents whose rules split the days and one list of words: whole unless one of them is taken out."""
    key = draw(st.sampled_from(KEYS))
    words = ["a1", "a10", "A"]
    borders = sorted(draw(st.sets(DAYS.filter(lambda d: d > date.min), max_size=2)))
    found: dict[str, Any] = {"version": "r", "timezone": "UTC", "classes": CLASSES, key: words, "rules": []}
    starts = [None, *borders]
    ends = [*(day - timedelta(days=1) for day in borders), None]
    for named in (words[:1], words[1:]):
        for first, last in zip(starts, ends, strict=True):
            rule: dict[str, Any] = {"name": f"r{len(found['rules'])}", "embargo_class": "open", key: named}
            rule |= {"first_day": first} if first else {}
            found["rules"].append(rule | ({"last_day": last} if last else {}))
    for _ in range(draw(st.integers(0, 1))):
        found["rules"].pop(draw(st.integers(0, len(found["rules"]) - 1)))
    return found


def all_cases(document: dict[str, Any]) -> Iterator[Case]:
    """Every word that there may be, one unheard-of where no list forbids it, and every day at a border."""
    sides: list[list[str]] = []
    for key in KEYS:
        named = [word for rule in document["rules"] for word in rule.get(key, ())]
        sides.append(document.get(key) or [*dict.fromkeys(named), UNHEARD_OF])
    days = {date.min, date.max, CENTRE}
    for rule in document["rules"]:
        for day in (rule.get("first_day"), rule.get("last_day")):
            if day is not None:
                days |= {day}
                days |= {day - timedelta(days=1)} if day > date.min else set()
                days |= {day + timedelta(days=1)} if day < date.max else set()
    yield from product(*sides, sorted(days))  # type: ignore[arg-type]  # three words and a day


def fitting(document: dict[str, Any], case: Case) -> list[str]:
    """The names of the rules that fit a case, by the words of the reference page."""
    found = []
    for rule in document["rules"]:
        words = all(word in rule[key] for key, word in zip(KEYS, case, strict=False) if key in rule)
        begun = "first_day" not in rule or case[3] >= rule["first_day"]
        if words and begun and ("last_day" not in rule or case[3] <= rule["last_day"]):
            found.append(rule["name"])
    return found


def problems_of(document: dict[str, Any]) -> list[str]:
    try:
        PolicyDocument.model_validate(document)
    except ValidationError as error:
        (problem,) = error.errors(include_url=False)
        assert problem["type"] == "rules_disagree"
        return [message for _, message in problem["ctx"]["found"]]
    return []


def case_told(document: dict[str, Any], message: str) -> Case:
    """The case that a message gives as its example, as a case of `all_cases`."""
    shown = message.partition("this case: ")[2]
    told = dict(_EXAMPLE.findall(shown))
    words = [told.get(what) for what in ("instrument", "proposal class", "access route")]
    for i, key in enumerate(KEYS):
        if words[i] is None:  # "any other", or nothing said because no rule names any
            assert key not in document
            words[i] = UNHEARD_OF
    when = _DAY.search(shown)
    day = date.min if when is None else date.fromisoformat(when[2])
    if when is not None and when[1] == "before":
        day -= timedelta(days=1)
    return (*words, day)  # type: ignore[return-value]  # three words and a day


@given(documents() | partitions())
@example({"version": "r", "timezone": "UTC", "classes": CLASSES} | {"rules": [
    {"name": "r0", "embargo_class": "open", "first_day": date.min, "last_day": date.max}]})  # fmt: skip
@example({"version": "r", "timezone": "UTC", "classes": CLASSES} | {"rules": [
    {"name": "r0", "embargo_class": "open", "first_day": date.min},
    {"name": "r1", "embargo_class": "open", "last_day": date(2024, 2, 29)}]})  # fmt: skip
@settings(max_examples=300)
def test_rules_are_accepted_when_exactly_one_fits_every_case(document: dict[str, Any]) -> None:
    counted = {tuple(fitting(document, case)) for case in all_cases(document)}
    problems = problems_of(document)
    assert (problems == []) == all(len(names) == 1 for names in counted)
    assert any("no rule fits" in text for text in problems) == (() in counted)
    assert any("both fit" in text for text in problems) == any(len(names) > 1 for names in counted)


@given(documents() | partitions())
@settings(max_examples=300)
def test_every_problem_names_its_rules_and_a_case_that_shows_it(document: dict[str, Any]) -> None:
    for message in problems_of(document):
        case = case_told(document, message)
        found = fitting(document, case)
        if message.startswith("no rule fits"):
            assert found == []
        else:
            named = re.findall(r"'(r\d)'", message.partition(" both fit")[0])
            assert len(set(named)) == 2
            assert set(named) <= set(found)


@given(documents() | partitions())
@settings(max_examples=300)
def test_a_proposal_stands_under_the_one_rule_that_fits_it(document: dict[str, Any]) -> None:
    if problems_of(document):
        return
    policy = PolicyDocument.model_validate(document)
    by_words: dict[tuple[str, ...], set[str]] = {}
    for case in all_cases(document):
        instrument, proposal_class, access_route, day = case
        words = {"instrument": instrument, "proposal_class": proposal_class, "access_route": access_route}
        chosen = policy.chosen(**words, started=day)
        assert chosen is not None
        assert [chosen[0]] == fitting(document, case)
        by_words.setdefault(case[:3], set()).add(chosen[0])
    for (instrument, proposal_class, access_route), names in by_words.items():
        # One without a first day stands under a rule only where its day could not matter.
        words = {"instrument": instrument, "proposal_class": proposal_class, "access_route": access_route}
        undated = policy.chosen(**words, started=None)
        assert ({undated[0]} if undated else None) == (names if len(names) == 1 else None)


@given(documents() | partitions(), st.sampled_from(KEYS))
def test_a_word_that_is_not_on_its_list_is_governed_by_nothing(document: dict[str, Any], key: str) -> None:
    if problems_of(document):
        return
    policy = PolicyDocument.model_validate(document)
    words = {"instrument": "a", "proposal_class": "a", "access_route": "a"}
    name = {"instruments": "instrument", "proposal_classes": "proposal_class"}.get(key, "access_route")
    found = policy.chosen(**words | {name: UNHEARD_OF}, started=CENTRE)
    if key in document:
        assert found is None


@pytest.mark.parametrize(
    ("day", "rule"),
    [
        (date(2023, 12, 31), "before"),
        (date(2024, 1, 1), "leap"),
        (date(2024, 2, 29), "leap"),
        (date(2024, 3, 1), "after"),
        (date.min, "before"),
        (date.max, "after"),
        (None, None),
    ],
)
def test_the_first_and_the_last_day_of_a_rule_belong_to_it(day: date | None, rule: str | None) -> None:
    policy = PolicyDocument.model_validate(
        {"version": "d", "timezone": "UTC", "classes": CLASSES}
        | {
            "rules": [
                {"name": "before", "last_day": "2023-12-31", "embargo_class": "open"},
                {"name": "leap", "first_day": "2024-01-01", "last_day": "2024-02-29"}
                | {"embargo_class": "standard"},
                {"name": "after", "first_day": "2024-03-01", "embargo_class": "open"},
            ]
        }
    )
    chosen = policy.chosen(instrument="a", proposal_class="c", access_route="", started=day)
    assert (chosen[0] if chosen else None) == rule


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def refused(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        read_policy(path)
    return caught.value.problems


def dated(**more: str) -> dict[str, Any]:
    """A file with two rules that meet on New Year 2024, changed in the second of them."""
    rules = [
        {"name": "old", "last_day": "2023-12-31", "embargo_class": "open"},
        {"name": "new", "first_day": "2024-01-01", "embargo_class": "standard"} | more,
    ]
    return {"version": "d", "timezone": "UTC", "classes": CLASSES, "rules": rules}


def line_of(path: Path, start: str) -> int:
    lines = path.read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.startswith(start))


def test_a_file_without_gap_is_read(tmp_path: Path) -> None:
    assert read_policy(written(tmp_path, dated())).rules is not None


def test_a_file_with_a_gap_is_refused_with_all_its_rules_and_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, dated(first_day="2024-01-02"))
    expected = (
        "rules: no rule fits this case: beginning on 2024-01-01; the rules are 'old', 'new', "
        f"line {line_of(path, 'rules:')}"
    )
    assert refused(path) == (expected,)


def test_a_file_with_two_rules_for_one_case_is_refused_with_both_and_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, dated(first_day="2023-12-31"))
    expected = (
        "rules.1: the rules 'old' and 'new' both fit this case: beginning on 2023-12-31, "
        f"line {line_of(path, '- name: new')}"
    )
    assert refused(path) == (expected,)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"embargo_class": "standrad"}, "no class is called 'standrad' (did you mean 'standard'?)"),
        ({"name": "old"}, "the name 'old' stands twice"),
        ({"first_day": "2023-02-29"}, "rules.1.first_day: "),
        ({"last_day": "2023-01-01"}, "ends on 2023-01-01, before it begins on 2024-01-01"),
        ({"instrument": "a"}, "unknown key (did you mean 'instruments'?)"),
        ({"name": "x" * 61}, "rules.1.name: "),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_with_its_place(
    tmp_path: Path, change: dict[str, str], expected: str
) -> None:
    found = refused(written(tmp_path, dated(**change)))
    assert any(expected in problem for problem in found)
    assert all(problem.startswith("rules.1") for problem in found)


def test_a_misspelt_word_of_a_list_is_told_and_not_as_a_gap(tmp_path: Path) -> None:
    document = dated() | {"proposal_classes": ["standard", "training"]}
    document["rules"][0]["proposal_classes"] = ["trainign"]
    (problem,) = refused(written(tmp_path, document))
    assert "'trainign' is not on the list proposal_classes (did you mean 'training'?)" in problem


def test_p1_and_p10_are_two_words(tmp_path: Path) -> None:
    document = dated() | {"instruments": ["bl1", "bl10"]}
    document["rules"] = [{"name": "one", "instruments": ["bl1"], "embargo_class": "open"}]
    (problem,) = refused(written(tmp_path, document))
    assert "no rule fits this case: instrument 'bl10'; the rules are 'one'" in problem


def many_rules(n_rules: int = 200, n_instruments: int = 500) -> dict[str, Any]:
    """A policy in which the instruments are dealt out to rules that change at a New Year."""
    instruments = [f"bl{i:03}" for i in range(n_instruments)]
    pairs = n_rules // 2
    found = []
    for i in range(pairs):
        mine = {"instruments": instruments[i::pairs]}
        year = 1900 + i
        found += [
            {"name": f"old {i}", "last_day": f"{year - 1}-12-31", "embargo_class": "open"} | mine,
            {"name": f"new {i}", "first_day": f"{year}-01-01", "embargo_class": "standard"} | mine,
        ]
    return {"version": "m", "timezone": "UTC", "classes": CLASSES, "instruments": instruments, "rules": found}


def test_200_rules_over_500_instruments_are_proven_in_about_a_second(tmp_path: Path) -> None:
    path = written(tmp_path, many_rules())
    begin = time.process_time()
    policy = read_policy(path)
    assert time.process_time() - begin < 5  # 0.4 s measured; a loaded machine may take longer
    assert policy.rules is not None
    assert len(policy.rules) == 200


def test_too_many_cases_are_refused_politely(tmp_path: Path) -> None:
    document = many_rules()
    document["proposal_classes"] = words = [f"c{i}" for i in range(50)]
    for i, rule in enumerate(document["rules"]):
        rule["proposal_classes"] = words[: i % 50 + 1]
    begin = time.process_time()
    (problem,) = refused(written(tmp_path, document))
    assert time.process_time() - begin < 5
    assert f"cases apart, more than {MAX_CASES}; join some" in problem


def test_problems_are_many_but_not_without_end(tmp_path: Path) -> None:
    document = dated()
    document["rules"] = [{"name": f"r{i}", "embargo_class": "open", "instruments": [f"b{j}" for j in
        range(40) if i in (j, j + 1)] + ["c"]} for i in range(40)]  # fmt: skip
    assert 2 <= len(refused(written(tmp_path, document))) <= MAX_PROBLEMS
