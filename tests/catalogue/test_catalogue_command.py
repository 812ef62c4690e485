"""The verbs `beamhub catalogue`, `dataset` and `policy`, as a person at a shell uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import beamhub_catalogue
from beamhub_catalogue.models import MemberRow, SourceRow
from beamhub_catalogue.people import store_principal
from beamhub_core.command import main
from beamhub_core.identity import Principal
from catalogue.catalogue_api_parts import HIDDEN, OPEN, RAW, copy_of, prepare_with_data
from catalogue.catalogue_parts import CLASSES, COLIN, INES, ISSUER, MEMBERS, Facility, person, write_master

AFTER = "2028-10-10T00:00:00+02:00"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_with_data(tmp_path_factory.mktemp("prepared"))


class Shell:
    """A facility and the command, run in this process."""

    def __init__(self, facility: Facility, capsys: pytest.CaptureFixture[str]) -> None:
        self.facility, self._capsys = facility, capsys
        self.config = facility.folder / "facility.yaml"
        self.config.write_text(json.dumps(facility.config().model_dump(mode="json")))

    def run(self, *words: str, config: bool = True) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        more = ["--config", str(self.config)] if config else []
        try:
            code = main([*words, *more])
        except SystemExit as usage:
            code = int(usage.code or 0)
        seen = self._capsys.readouterr()
        return code, seen.out, seen.err

    def json(self, *words: str, config: bool = True) -> tuple[int, dict[str, Any]]:
        """Exit code and the one JSON object on standard output."""
        code, out, _ = self.run(*words, "--json", config=config)
        found: dict[str, Any] = json.loads(out)
        return code, found

    def login(self, *people: Principal) -> None:
        """What web knows of people."""
        service = self.facility.service()
        with service.database.writing() as session:
            for who in people:
                store_principal(session, who, service.config.login, who.checked_at)
        service.stop()


@pytest.fixture
def shell(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(copy_of(prepared, tmp_path / "stocked"), capsys)


def test_harvest_says_what_it_found_and_what_stays_set_aside(shell: Shell) -> None:
    write_master(shell.facility.pool / "OP-1/raw/scan2/scan2.h5", experiment_identifier="OP-1")
    (shell.facility.pool / "OP-1/raw/bad.h5").write_text("no HDF5 at all")
    code, first = shell.json("catalogue", "harvest", "--pool", "pool", "--path", "OP-1/raw")
    assert (code, first["harvested"], first["datasets"]) == (0, 2, 2)  # a copy's inodes are new
    assert [(p["source"], p["file"]) for p in first["problems"]] == [("harvest:pool", "OP-1/raw/bad.h5")]
    shell.run("catalogue", "harvest")
    code, out, _ = shell.run("catalogue", "harvest")
    assert code == 0
    summary, problem, *rest = out.splitlines()
    assert summary == "0 harvested, 5 unchanged, 4 dataset(s), 1 problem(s)"
    assert problem.startswith("OP-1/raw/bad.h5: ")
    assert rest == []


def test_harvest_of_an_unknown_pool_is_a_usage_error(shell: Shell) -> None:
    code, out, err = shell.run("catalogue", "harvest", "--pool", "other")
    assert (code, out) == (2, "")
    assert "other" in err


def test_the_list_is_what_the_reader_may_know_of(shell: Shell) -> None:
    shell.login(INES)
    for words, pids in (
        (("dataset", "list"), {RAW, OPEN}),
        (("dataset", "list", "--as", "ines"), {RAW, OPEN, HIDDEN}),
    ):
        code, page = shell.json(*words)
        assert (code, {hit["pid"] for hit in page["hits"]}) == (0, pids)
    assert shell.json("dataset", "list", "MA-2")[1]["total"] == 1
    code, out, _ = shell.run("dataset", "list", "no-such-word")
    assert (code, out) == (0, "0 dataset(s)\n")


def test_a_dataset_is_shown_as_the_reader_sees_it(shell: Shell) -> None:
    shell.login(INES)
    code, view = shell.json("dataset", "get", RAW)
    assert (code, view["full"], view["files"]) == (0, False, [])
    code, view = shell.json("dataset", "get", RAW, "--as", "ines")
    assert (code, view["full"], view["files"][0]["name"]) == (0, True, "scan1.h5")


def test_a_hidden_dataset_is_as_unknown_as_one_that_never_was(shell: Shell) -> None:
    told = []
    for pid in (HIDDEN, "test:TO-3:none"):
        code, out, err = shell.run("dataset", "get", pid)
        assert (code, out) == (3, "")
        told.append(err.split("[")[0])
    assert told[0] == told[1]
    code, answer = shell.json("dataset", "get", HIDDEN)
    assert (code, answer["ok"], answer["error"]) == (3, False, "Refused")


def test_a_person_who_never_logged_in_is_not_found(shell: Shell) -> None:
    for words in (("dataset", "list", "--as", "nobody"), ("dataset", "get", OPEN, "--as", "nobody")):
        code, _, err = shell.run(*words)
        assert code == 3
        assert "nobody" in err


def test_a_title_writes_nothing_to_the_terminal_but_text(shell: Shell) -> None:
    write_master(
        shell.facility.pool / "OP-1/raw/esc/esc.h5", experiment_identifier="OP-1", title="red\x1b[31m\x07"
    )
    shell.run("catalogue", "harvest")
    for words in (("dataset", "list", "red"), ("dataset", "get", "test:OP-1:esc")):
        code, out, _ = shell.run(*words)
        assert code == 0
        assert not {"\x1b", "\x07"} & set(out)


def test_a_policy_is_checked_and_all_its_problems_are_told(shell: Shell) -> None:
    file = shell.facility.folder / "policy.yaml"
    code, facts = shell.json("policy", "check", str(file), config=False)
    assert (code, facts) == (0, {"ok": True, "version": "t1", "classes": sorted(CLASSES)})
    assert shell.run("policy", "check", str(file), config=False)[0] == 0
    file.write_text("version: t2\ntimezone: Mars/Olympus\nclasses: {standard: {embargo_months: -1}}\n")
    code, out, err = shell.run("policy", "check", str(file), config=False)
    assert (code, out) == (7, "")
    for words in ("timezone", "embargo_months", "metadata"):
        assert words in err
    assert shell.run("policy", "check", str(file) + ".none", config=False)[0] == 7


def explain(shell: Shell, *words: str) -> tuple[int, str, str | None]:
    code, facts = shell.json("policy", "explain", *words)
    return code, facts["decision"], facts["rule"]


def test_explain_tells_the_decision_by_its_exit_code(shell: Shell) -> None:
    shell.login(COLIN)
    assert explain(shell, OPEN) == (0, "read", "open")
    assert explain(shell, RAW) == (4, "metadata", "embargoed")
    assert explain(shell, HIDDEN) == (3, "hidden", "not_found")
    assert explain(shell, "test:MA-2:none") == (3, "hidden", "not_found")
    assert explain(shell, RAW, "--as", ISSUER, "ines") == (0, "read", "membership")
    assert explain(shell, RAW, "--as", ISSUER, "oscar") == (4, "metadata", "embargoed")
    assert explain(shell, RAW, "--as", "https://other.example", "ines") == (4, "metadata", "embargoed")


def test_explain_answers_for_another_time(shell: Shell) -> None:
    assert explain(shell, RAW, "--at", "2028-10-09T23:59:59+02:00")[0] == 4
    assert explain(shell, RAW, "--at", AFTER) == (0, "read", "open")
    assert explain(shell, RAW, "--at", "2028-10-09T22:00:00Z") == (0, "read", "open")
    assert explain(shell, OPEN, "--at", "2021-03-02T00:00:00Z")[0] == 4
    code, out, _ = shell.run("policy", "explain", RAW, "--at", "2028-01-01T00:00:00Z")
    assert code == 4
    assert "until: 2028-10-10T00:00:00+02:00" in out.splitlines()


def test_explain_knows_when_a_membership_ends(shell: Shell) -> None:
    shell.facility.write_office(members=(MEMBERS[0].removesuffix(",") + ",2027-01-31",))
    who = ("--as", ISSUER, "ines")
    code, facts = shell.json("policy", "explain", RAW, *who, "--at", "2027-01-31T23:59:59+01:00")
    assert (code, facts["until"]) == (0, "2027-01-31T23:00:00+00:00")
    assert explain(shell, RAW, *who, "--at", "2027-02-01T00:00:00+01:00")[0] == 4


@pytest.mark.parametrize(
    "at",
    [
        "yesterday",
        "2028-10-10",
        "2028-10-10T00:00:00",
        "",
        "2028-13-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_a_time_that_is_none_is_a_usage_error(shell: Shell, at: str) -> None:
    code, out, err = shell.run("policy", "explain", RAW, "--at", at)
    assert (code, out) == (2, "")
    assert "zone" in err


@pytest.mark.parametrize(
    "words", [("dataset",), ("dataset", "get"), ("policy", "explain", RAW, "--as", "ines")]
)
def test_missing_words_are_a_usage_error(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run(*words)[0] == 2


def test_a_configuration_that_is_none_is_told_by_its_code(shell: Shell) -> None:
    shell.config.write_text("name: [")
    assert shell.run("dataset", "list")[0] == 7


def test_explaining_a_stranger_leaves_no_person_behind(shell: Shell) -> None:
    explain(shell, RAW, "--as", ISSUER, "ghost")
    service = shell.facility.service()
    try:
        assert service.principal(person("ghost").account) is None
    finally:
        service.stop()


def test_explaining_another_time_stamps_nothing_with_it(shell: Shell) -> None:
    shell.facility.write_office(members=MEMBERS[1:])
    explain(shell, RAW, "--at", "2099-01-01T00:00:00Z")
    service = shell.facility.service()
    try:
        with service.database.reading() as session:
            read = session.scalars(select(SourceRow.read_at)).all()
            removed = session.scalars(select(MemberRow.removed_at)).all()
        assert [when for when in (*read, *removed) if when is not None and when.year == 2099] == []
    finally:
        service.stop()


def test_the_words_of_the_verbs_load_no_library() -> None:
    code = """
import sys, beamhub_catalogue, beamhub_catalogue.command
heavy = ("sqlalchemy", "fastapi", "alembic", "h5py", "numpy", "pydantic", "beamhub_catalogue.verbs")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_room_gives_its_service_when_asked_and_nothing_else() -> None:
    from beamhub_catalogue.service import CatalogueService

    assert beamhub_catalogue.CatalogueService is CatalogueService
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = beamhub_catalogue.no_such_name
