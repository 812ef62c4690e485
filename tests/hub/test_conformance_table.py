"""The page of conformance cases and the tests say the same: each row has its test, each test its row."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "login-conformance.md"
FOLDER = Path(__file__).parent
ROW = re.compile(r"^\| (?P<case>[^|]+) \| [^|]+ \| [^|]+ \| `(?P<test>test_\w+\.py[^`]*)` \|$", re.MULTILINE)
HOSTILE = ("test_login_conformance_", "test_login_hostile")


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """Every test of every module that the page names, and of every hostile module, as pytest names it."""
    named = {test.partition("::")[0] for _, test in rows()}
    hostile = {path.name for path in FOLDER.glob("test_*.py") if path.name.startswith(HOSTILE)}
    modules = sorted(name for name in named | hostile if (FOLDER / name).exists())
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
        + [str(FOLDER / name) for name in modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {line.removeprefix("tests/hub/") for line in listed.splitlines() if "::" in line}


def rows() -> list[tuple[str, str]]:
    """Case and test of each row."""
    return [(row["case"], row["test"]) for row in ROW.finditer(PAGE.read_text())]


def test_every_line_of_a_table_is_a_row() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    heads = [line for line in lines if line.startswith(("| Case |", "| --- |"))]
    assert len(lines) - len(heads) == len(rows())


def test_every_row_names_a_test_that_exists(collected: set[str]) -> None:
    modules = {test.partition("::")[0] for test in collected}
    missing = [(case, test) for case, test in rows() if test not in collected and test not in modules]
    assert missing == []


def test_every_hostile_test_has_a_row(collected: set[str]) -> None:
    told = {test for _, test in rows()}
    assert sorted(test for test in collected if test.startswith(HOSTILE) and test not in told) == []


CASES = """
scope-userinfo-claims client-secret-basic kid-absent-single-jwks kid-absent-multiple-jwks
missing-iat missing-sub invalid-aud invalid-iss idtoken-sig-none idtoken-sig-rs256 invalid-sig-rs256
nonce-invalid userinfo-bearer-header userinfo-bearer-body userinfo-invalid-sub
discovery-issuer-mismatch discovery-jwks-uri-keys signing-key-rotation
signing-key-rotation-just-before-signing invalid-issuer invalid-sub invalid-azp alg-none wrong-alg
wrong-aud wrong-iss no-event wrong-event with-nonce missing-aud invalid-sig-hs256 invalid-sig-es256
invalid-athash rp-init-logout
"""


def test_no_case_of_the_suite_is_left_out() -> None:
    assert set(CASES.split()) - {name for name, _ in rows()} == set()
