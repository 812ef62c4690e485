"""`beamhub catalogue` and `beamhub dataset` as a person at a shell uses them, and the words of all verbs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import beamhub_catalogue
from catalogue.catalogue_api_parts import HIDDEN, OPEN, RAW
from catalogue.catalogue_parts import INES, write_master
from catalogue.catalogue_shell_parts import Shell


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


@pytest.mark.parametrize(
    "words",
    [
        ("dataset",),
        ("dataset", "get"),
        ("policy", "explain", RAW, "--as"),
        ("policy", "explain", RAW, "--as", "a", "b", "c"),
        ("policy", "explain", "--as", "ines", RAW),
        ("proposal",),
        ("proposal", "extend", "MA-2", "--reason", "r"),
        ("proposal", "extend", "MA-2", "--months", "12"),
        ("proposal", "extend", "MA-2", "--months", "x", "--reason", "r"),
        ("proposal", "release", "MA-2", "--on", "2027-02-29", "--reason", "r"),
        ("proposal", "consent", "MA-2", "--until", "2027-01-01", "--reason", "r"),
        ("proposal", "extend", "MA-2", "--months", "0", "--reason", "r"),
        ("proposal", "extend", "MA-2", "--months", "12", "--reason", " "),
        ("proposal", "withdraw", "MA-2", "--dataset", "p" * 301, "--reason", "r"),
    ],
)
def test_missing_words_are_a_usage_error(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run(*words)[0] == 2


def test_a_configuration_that_is_none_is_told_by_its_code(shell: Shell) -> None:
    shell.config.write_text("name: [")
    assert shell.run("dataset", "list")[0] == 7


def test_the_list_is_bounded_and_its_pages_do_not_overlap(shell: Shell) -> None:
    seen = []
    for page in ("1", "2", "3", "4"):
        words = ("dataset", "list", "--as", "ines", "--limit", "1", "--page", page)
        code, found = shell.json(*words)
        assert (code, found["total"], found["n_pages"]) == (0, 3, 3)
        seen += [hit["pid"] for hit in found["hits"]]
    assert sorted(seen) == sorted([RAW, OPEN, HIDDEN])
    for limit, page in (("1000000", "1"), ("-5", "0"), ("0", "-1"), ("3", "999999999999")):
        code, found = shell.json("dataset", "list", "--as", "ines", "--limit", limit, "--page", page)
        assert code == 0
        assert 1 <= found["page_size"] <= 100
    code, out, _ = shell.run("dataset", "list", "--as", "ines", "--limit", "1")
    assert out.splitlines()[-1] == "3 dataset(s), page 1 of 3"


def test_the_list_narrows_to_a_proposal_and_to_what_may_be_read(shell: Shell) -> None:
    assert shell.json("dataset", "list", "--proposal", "MA-2")[1]["total"] == 1
    assert shell.json("dataset", "list", "--proposal", "MA-")[1]["total"] == 0
    assert shell.json("dataset", "list", "--proposal", "TO-3")[1]["total"] == 0
    assert [hit["pid"] for hit in shell.json("dataset", "list", "--readable")[1]["hits"]] == [OPEN]


def test_the_words_of_the_verbs_load_no_library() -> None:
    code = """
import sys, beamhub_catalogue, beamhub_catalogue.command
heavy = ("sqlalchemy", "fastapi", "alembic", "h5py", "numpy", "pydantic", "beamhub_catalogue.verbs",
    "beamhub_catalogue.policy_verbs", "beamhub_catalogue.proposal_verbs")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_room_gives_its_service_when_asked_and_nothing_else() -> None:
    from beamhub_catalogue.service import CatalogueService

    assert beamhub_catalogue.CatalogueService is CatalogueService
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = beamhub_catalogue.no_such_name
