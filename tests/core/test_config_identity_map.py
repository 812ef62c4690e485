"""`login.identity_map`: what may be said there, and what `beamhub check` finds in the table it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from beamhub_core.check import check_environment
from beamhub_core.config.identity_map import LdapConfig
from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity_table import HEADER
from facility_file import FacilityFile

URL, BASE = "ldaps://ldap.example.org", "ou=people,dc=example,dc=org"


def ldap(**changes: Any) -> LdapConfig:
    return LdapConfig.model_validate({"url": URL, "base_dn": BASE} | changes)


@pytest.mark.parametrize(
    "text",
    [
        "(uid={facility_account})",
        "(&(objectClass=posixAccount)(iss={issuer})(sub={subject}))",
        "(|(orcid={orcid})(sub={subject}))",
    ],
)
def test_a_filter_names_people_by_whole_values(text: str) -> None:
    assert ldap(filter=text).filter == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("uid={subject}", "no LDAP filter"),
        ("(uid={subject})(a=b)", "no LDAP filter"),
        ("(&(uid={subject})", "no LDAP filter"),
        ("(uid={subject}))", "no LDAP filter"),
        ("(mail={subject}@example.org)", "a whole value"),
        ("(uid=*{subject}*)", "a whole value"),
        ("({subject}=x)", "a whole value"),
        ("(uid={name})", "a whole value"),
        ("(uid={subject!r})", "a whole value"),
        ("(objectClass=posixAccount)", "needs one of"),
        ("(iss={issuer})", "needs one of"),
    ],
)
def test_a_filter_that_could_find_anybody_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ldap(filter=text)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "ldap://ldap.example.org"},
        {"url": "ldaps://ldap.example.org/dc=example"},
        {"url": "ldaps://ldap.example.org:99999"},
        {"url": "ldaps://[::1"},
        {"bind_dn": "cn=reader"},
        {"group_filter": "(objectClass=posixGroup)"},
        {"uid_attribute": "uidNumber)(a"},
        {"timeout_s": 0},
    ],
)
def test_what_a_directory_may_not_say(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ldap(**changes)


def with_map(facility: FacilityFile, **fields: Any) -> FacilityFile:
    facility.data["login"]["identity_map"] = fields
    facility.write()
    return facility


def test_with_several_providers_a_subject_needs_its_issuer(
    facility_config: Callable[..., FacilityFile],
) -> None:
    facility = facility_config()
    directory = {"url": URL, "base_dn": BASE, "filter": "(sub={subject})"}
    with_map(facility, kind="ldap", ldap=directory).read()
    [provider] = facility.data["login"]["providers"]
    other = provider | {"name": "other", "issuer": "https://other.example"}
    facility.data["login"]["providers"].append(other)
    facility.write()
    with pytest.raises(ConfigInvalid, match=r"needs \{issuer\}"):
        facility.read()
    with_map(facility, kind="ldap", ldap=directory | {"filter": "(&(iss={issuer})(sub={subject}))"}).read()


def test_check_names_every_bad_line_of_the_table(
    facility_config: Callable[..., FacilityFile], tmp_path: Path
) -> None:
    path = tmp_path / "people.csv"
    facility = with_map(facility_config(), kind="csv", file=str(path))

    def found() -> list[str]:
        findings = check_environment(facility.read(), facility.path)
        return [one.message for one in findings if one.path == "login.identity_map.file"]

    assert found() == [f"{path}: cannot be read: No such file or directory"]
    path.write_text(",".join(HEADER) + "\nhttps://p,a,x x,,,,,\nhttps://p,b,b,1,,,,\n")
    assert [message.partition(": line ")[2][:1] for message in found()] == ["2", "3"]
    path.write_text(",".join(HEADER) + "\nhttps://p,a,a,,,,,\n")
    assert found() == []
