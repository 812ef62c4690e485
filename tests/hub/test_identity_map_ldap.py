"""The identity map of kind `ldap`, before a real slapd."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_core.identity_table import MAX_GIDS, MappedIdentity
from beamhub_hub.denial import LoginDenied
from beamhub_hub.identity_map import IdentityMapUnavailable
from hub.identity_map_parts import ISSUER, OTHER, find, ldap_map, person
from hub.ldap_server import (
    GROUPS,
    PASSWORD,
    PEOPLE,
    Directory,
    make_certificates,
    running_directory,
    slapd_program,
)

pytestmark = [pytest.mark.ldap, pytest.mark.skipif(slapd_program() is None, reason="no program slapd")]
BOTH = "(&(objectClass=posixAccount)(beamhubIssuer={issuer})(beamhubSubject={subject}))"
TRAPS = (
    "*",
    "ines)(uid=*",
    "ines*",
    "*)(objectClass=*",
    "ines\\2a",
    "ines)(|(uid=*",
    "\\2a",
    "i(n)es",
    "ines&",
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    with running_directory(tmp_path_factory.mktemp("slapd")) as made:
        made.add_person("ines", 12001, o="Example University", displayName="Inês Ferreira")
        made.add_person("oscar", 12002)
        made.add_person("twin", 12003)
        made.add_person("twin2", 12004, beamhubSubject="twin")
        made.add_person("one-uid", 12005)
        made.add_person("same-uid", 12005)
        made.add_person("root-like", 0)
        made.add_person("negative", -1)
        made.add_person("huge", 2**32 + 12001)
        made.add_person("reserved", 200_000_007)
        made.add_person("two-names", 12006, uid=["two-names", "second-name"])
        made.add_person("a(b)*c\\d", 12007, uid="weird", beamhubSubject="a(b)*c\\d")
        made.add_person("issued", 12008, beamhubIssuer=ISSUER)
        made.add_groups({"users": 20000}, "ines", "oscar")
        made.add_groups({"beamline": 20009, "wheel": 10}, "ines")
        yield made


class TestFound:
    """What the directory gives."""

    def test_a_person_is_found_over_tls_with_numbers_groups_and_names(self, directory: Directory) -> None:
        assert find(ldap_map(directory.config()), person("ines")) == MappedIdentity(
            account="ines",
            uid=12001,
            gid=20000,
            gids=(20000, 20009),
            home_organisation="Example University",
            display_name="Inês Ferreira",
        )

    def test_without_a_place_for_groups_only_the_primary_counts(self, directory: Directory) -> None:
        found = find(ldap_map(directory.config(group_base_dn=None)), person("ines"))
        assert found is not None
        assert found.gids == ()

    def test_groups_can_name_members_by_the_name_of_their_entry(self, directory: Directory) -> None:
        for name in ("person ines", "person oscar"):
            directory.add(
                f"cn=team of {name},{GROUPS}",
                ["extensibleObject", "groupOfNames"],
                member=f"cn={name},{PEOPLE}",
                gidNumber="20100" if name.endswith("ines") else "20101",
            )
        config = directory.config(group_filter="(&(objectClass=groupOfNames)(member={dn}))")
        found = find(ldap_map(config), person("ines"))
        assert found is not None
        assert found.gids == (20100,)

    def test_a_stranger_is_not_found(self, directory: Directory) -> None:
        assert find(ldap_map(directory.config()), person("mallory")) is None
        with pytest.raises(LoginDenied) as caught:
            find(ldap_map(directory.config(), is_required=True), person("mallory"))
        assert caught.value.code == "not_in_map"

    def test_a_linked_identity_finds_the_person_too(self, directory: Directory) -> None:
        found = find(ldap_map(directory.config()), person("stranger", (OTHER, "ines"), (OTHER, "nobody")))
        assert found is not None
        assert found.account == "ines"
        with pytest.raises(LoginDenied) as caught:
            find(ldap_map(directory.config()), person("stranger", (OTHER, "ines"), (OTHER, "oscar")))
        assert caught.value.code == "map_ambiguous"

    def test_a_subject_counts_for_its_issuer_alone(self, directory: Directory) -> None:
        directory_map = ldap_map(directory.config(filter=BOTH))
        found = find(directory_map, person("issued"))
        assert found is not None
        assert found.uid == 12008
        assert find(directory_map, person("ines")) is None

    @pytest.mark.parametrize("place", ["orcid", "facility_account"])
    def test_somebody_without_the_value_is_not_looked_for(self, directory: Directory, place: str) -> None:
        config = directory.config(filter=f"(&(objectClass=posixAccount)(uid={{{place}}}))")
        assert find(ldap_map(config), person("ines")) is None
        if place == "facility_account":
            found = find(ldap_map(config), person("x", facility_account="oscar"))
            assert found is not None
            assert found.uid == 12002


class TestRefused:
    """Entries of which nothing is given."""

    def test_two_entries_for_one_person_deny_the_login(
        self, directory: Directory, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(LoginDenied) as caught:
            find(ldap_map(directory.config()), person("twin"))
        assert caught.value.code == "map_ambiguous"
        assert "several entries fit" in caplog.text

    @pytest.mark.parametrize(
        ("subject", "why"),
        [
            ("one-uid", "not one entry's alone"),
            ("root-like", "uid 0 is the system's"),
            ("negative", "no number of a user"),
            ("huge", "no number of a user"),
            ("reserved", "kept for accounts without one"),
            ("two-names", "several values"),
        ],
    )
    def test_an_unfit_entry_gives_nothing_and_the_log_says_why(
        self, directory: Directory, subject: str, why: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert find(ldap_map(directory.config()), person(subject)) is None
        assert why in caplog.text

    @pytest.mark.parametrize("subject", ["INES", "Ines", "ines ", " ines", "\uff49nes"])
    def test_another_subject_that_the_directory_holds_for_the_same_is_another_person(
        self, directory: Directory, subject: str
    ) -> None:
        assert find(ldap_map(directory.config()), person(subject)) is None

    @pytest.mark.parametrize("subject", TRAPS)
    def test_a_subject_with_a_filters_signs_is_a_subject(self, directory: Directory, subject: str) -> None:
        assert find(ldap_map(directory.config()), person(subject)) is None

    def test_signs_of_filters_are_found_as_themselves(self, directory: Directory) -> None:
        found = find(ldap_map(directory.config()), person("a(b)*c\\d"))
        assert found is not None
        assert found.uid == 12007

    def test_more_groups_than_a_person_has_give_nothing(
        self, directory: Directory, caplog: pytest.LogCaptureFixture
    ) -> None:
        directory.add_person("crowd", 12050)
        directory.add_groups({f"crowd{n}": 30000 + n for n in range(MAX_GIDS + 1)}, "crowd")
        assert find(ldap_map(directory.config(timeout_s=60)), person("crowd")) is None
        assert f"more than {MAX_GIDS} groups" in caplog.text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(subject=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30) | st.sampled_from(TRAPS))
def test_no_subject_finds_an_entry_that_does_not_hold_it(directory: Directory, subject: str) -> None:
    try:
        found = find(ldap_map(directory.config(), is_required=False), person(subject))
    except LoginDenied as denied:
        assert (denied.code, subject) == ("map_ambiguous", "twin")
    else:
        assert found is None or subject in ("ines", "oscar", "issued", "crowd", "a(b)*c\\d")


class TestConnection:
    """How the directory is reached, and what happens when it is not."""

    def down(self, config: dict[str, Any]) -> str:
        with pytest.raises(IdentityMapUnavailable) as caught:
            find(ldap_map(config), person("ines"))
        return caught.value.reason

    def test_a_certificate_of_an_unknown_authority_is_refused(
        self, directory: Directory, tmp_path: Path
    ) -> None:
        make_certificates(tmp_path)
        for ca_file in (tmp_path / "ca.pem", None):
            assert self.down(directory.config(ca_file=ca_file)).startswith("TLS: ")

    def test_a_certificate_of_another_name_is_refused(self, directory: Directory) -> None:
        reason = self.down(directory.config(url=f"ldaps://localhost:{directory.tls_port}"))
        assert "Hostname mismatch" in reason

    def test_a_wrong_password_is_no_anonymous_look_and_is_not_shown(
        self, directory: Directory, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        secret = tmp_path / "secret"
        secret.write_text(PASSWORD + "-wrong\n")
        with caplog.at_level(logging.DEBUG):
            reason = self.down(directory.config(bind_password_file=secret))
        assert "bind refused" in reason
        assert PASSWORD not in caplog.text

    @pytest.mark.parametrize("text", ["", "\n", "   \n"])
    def test_an_empty_password_is_never_sent(self, directory: Directory, tmp_path: Path, text: str) -> None:
        secret = tmp_path / "secret"
        secret.write_text(text)
        assert self.down(directory.config(bind_password_file=secret)) == "broken"

    def test_without_a_name_to_bind_with_the_look_is_anonymous(self, directory: Directory) -> None:
        config = directory.config(bind_dn=None, bind_password_file=None)
        # This directory shows nothing to anonymous readers, not even that the base exists.
        assert "LDAP result" in self.down(config)

    def test_a_base_that_does_not_exist_is_a_fault_and_no_stranger(self, directory: Directory) -> None:
        assert self.down(directory.config(base_dn="ou=nowhere,dc=example,dc=org")) == "LDAP result 32"

    def test_without_tls_where_the_configuration_says_so(self, directory: Directory) -> None:
        config = directory.config(
            url=f"ldap://127.0.0.1:{directory.port}", unsafe_allow_plain=True, ca_file=None
        )
        found = find(ldap_map(config), person("ines"))
        assert found is not None
        assert found.uid == 12001

    def test_a_port_where_nothing_listens(self, directory: Directory, free_port: int) -> None:
        self.down(directory.config(url=f"ldaps://127.0.0.1:{free_port}"))

    def test_a_removed_person_is_gone_at_the_next_look(self, directory: Directory) -> None:
        directory.add_person("leaver", 12090)
        directory_map = ldap_map(directory.config())
        assert find(directory_map, person("leaver")) is not None
        directory.remove("leaver")
        assert find(directory_map, person("leaver")) is None
