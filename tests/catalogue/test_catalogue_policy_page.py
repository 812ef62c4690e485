"""The page on the data policy is true: its example is valid, its messages and answers are the real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from beamhub_catalogue.people import store_principal
from beamhub_core.command import main
from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity import FacilityRole
from beamhub_core.policy_document import EmbargoClass, PolicyDocument, RoleRules
from beamhub_core.policy_file import read_policy
from beamhub_core.policy_rules import MAX_CASES, MAX_PROBLEMS, PolicyRule
from catalogue.catalogue_parts import ISSUER, Facility, person

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/policy.md").read_text(encoding="utf-8")
ROLES: dict[str, FacilityRole] = {"sam": "instrument_scientist", "gil": "guest", "rob": "service"}


def table_under(*head: str) -> Iterator[list[str]]:
    """The rows of the table with this head."""
    rows = PAGE.partition("| " + " | ".join(head) + " |\n")[2].splitlines()
    assert rows
    for row in rows[1:]:
        if not row.startswith("|"):
            return
        yield [cell.strip() for cell in row.strip("|").split("|")]


def example() -> str:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


ANSWERS = list(table_under("Proposal", "Who", "At", "Decision", "Rule"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a facility with the page's policy, proposals and people."""
    facility = Facility(tmp_path_factory.mktemp("page"))
    facility.prepare()
    (facility.folder / "policy.yaml").write_text(example(), encoding="utf-8")
    proposals = list(table_under("Proposal", "Class", "Instrument", "Start", "End"))
    facility.write_office(
        tuple(",".join([row[0], "A title", *row[1:]]) for row in proposals),
        tuple(f"{row[0]},{ISSUER},ines,,,Ines,pi,," for row in proposals),
    )
    service = facility.service()
    with service.database.writing() as session:
        for name in ("ines", *ROLES):
            who = person(name, role=ROLES.get(name), checked_at=datetime.now(UTC))
            store_principal(session, who, service.config.login, who.checked_at)
    service.stop()
    config = facility.folder / "facility.yaml"
    config.write_text(json.dumps(facility.config().model_dump(mode="json")))
    return config


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: "-".join(row[:3]))
def test_the_page_tells_what_explain_answers(
    asked: Path, row: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    proposal, who, at, decision, rule = row
    reader = [] if who == "anonymous" else ["--as", who]
    words = ["policy", "explain", proposal, *reader, "--at", at, "--json", "--config", str(asked)]
    code = main(words)
    told = json.loads(capsys.readouterr().out)
    assert (told["decision"], told["rule"]) == (decision, rule)
    assert code == {"read": 0, "metadata": 4, "hidden": 3}[decision]


def test_a_guest_looks_at_open_data_but_opens_no_session(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["policy", "explain", "TR-1", "--as", "gil", "--json", "--config", str(asked)])
    told = json.loads(capsys.readouterr().out)
    assert (told["decision"], told["may_mount"]) == ("read", False)


def test_the_example_is_valid_and_shown_as_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(example(), encoding="utf-8")
    assert main(["policy", "check", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "valid: version 2026-1, label 2026-1@" in shown
    assert "academic since 2024   bl01, bl02   academic          all            from 2024-01-01" in shown
    assert "industrial     never opens  none" in shown
    assert max(len(line) for line in shown.splitlines() if "valid:" not in line) < 200


def late(text: str) -> str:
    return text.replace("first_day: 2024-01-01\n    embargo_class: academic\n", "first_day: 2024-01-02\n"
        "    embargo_class: academic\n")  # fmt: skip


@pytest.mark.parametrize(
    "harm",
    [
        late,
        lambda text: text.replace("    instruments: [bl01, bl02]\n", ""),
        lambda text: text.replace("    instruments: [bl09]\n", "    instruments: [bl9]\n"),
    ],
)
def test_the_messages_of_the_page_are_the_real_ones(tmp_path: Path, harm: Callable[[str], str]) -> None:
    harmed = harm(example())
    assert harmed != example()
    path = tmp_path / "policy.yaml"
    path.write_text(harmed, encoding="utf-8")
    with pytest.raises(ConfigInvalid) as caught:
        read_policy(path)
    (problem,) = caught.value.problems
    message, _, line = problem.rpartition(", line ")
    assert f"```text\n{message}\n```" in PAGE
    told = harmed.splitlines()[int(line) - 1]
    assert told.lstrip(" -").startswith(("rules:", "name: pathogens", "instruments: [bl9]"))


@pytest.mark.parametrize(
    ("model", "section"),
    [
        (PolicyDocument, "## The keys"),
        (EmbargoClass, "An embargo class"),
        (PolicyRule, "A rule, `rules[]`"),
        (RoleRules, "An embargo class"),
    ],
)
def test_every_key_stands_on_the_page_with_its_default(model: Any, section: str) -> None:
    text = PAGE.partition(section)[2]
    before = "roles." if model is RoleRules else ""
    for name, field in model.model_fields.items():
        if name == "roles":
            continue
        (row,) = re.findall(rf"^\|[^|\n]*`{before}{name}`[^|\n]*\|([^|\n]*)\|", text, re.MULTILINE)[:1]
        default = row.strip()
        if field.is_required():
            assert default == "required"
        elif isinstance(field.default, str):
            assert default == f"`{field.default}`"
        elif field.default is None:
            assert default in ("none", "any", "all")
        else:
            assert yaml.safe_load(default.strip("`")) == list(field.default)


def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    assert f"At most {MAX_PROBLEMS} are told at once" in PAGE
    assert f"more than {MAX_CASES:,} cases" in PAGE
