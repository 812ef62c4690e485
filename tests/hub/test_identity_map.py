"""The identity map before any of it counts: checks of numbers, a table that changes, the name service."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.identity import Principal
from beamhub_core.identity_table import MAX_ID, NOBODY, MappedIdentity
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.identity_map import IdentityMapUnavailable
from beamhub_hub.identity_map_nss import NssSource
from beamhub_hub.lookup_threads import LookupThreads
from hub.identity_map_parts import OTHER, UNMAPPED, csv_map, find, nss_map, person, row, write_table

GIVEN = MappedIdentity(account="iferreira", uid=12001, gid=20000, gids=(20001,))


class Told:
    """A source that gives one answer: what a map makes of an answer does not depend on its kind."""

    limit_s = 5.0

    def __init__(self, answer: MappedIdentity | None) -> None:
        self._answer = answer

    def find(self, principal: Principal) -> MappedIdentity | None:
        """The answer."""
        return self._answer


class TestChecks:
    """What every kind's answer goes through."""

    @given(
        uid=st.integers(0, MAX_ID)
        | st.integers(UNMAPPED - 3, UNMAPPED + 3)
        | st.sampled_from(sorted(NOBODY)),
        gid=st.integers(0, MAX_ID) | st.integers(0, 2000),
        gids=st.lists(st.integers(0, 3000) | st.integers(0, MAX_ID), max_size=8),
    )
    def test_numbers_that_are_given_are_a_persons(self, uid: int, gid: int, gids: list[int]) -> None:
        told = MappedIdentity(account="x", uid=uid, gid=gid, gids=tuple(gids))
        found = find(nss_map(Told(told)), person())
        fit = [
            1000 <= one <= MAX_ID and one not in NOBODY and not UNMAPPED <= one < UNMAPPED + 10**6
            for one in (uid, gid, *gids)
        ]
        assert (found is not None) == all(fit[:2])
        if found is not None:
            assert (found.uid, found.gid) == (uid, gid)
            assert set(found.gids) == {one for one, is_fit in zip(gids, fit[2:], strict=True) if is_fit}

    def test_the_smallest_numbers_are_the_configurations(self) -> None:
        told = MappedIdentity(account="x", uid=600, gid=100)
        assert find(nss_map(Told(told)), person()) is None
        assert find(nss_map(Told(told), min_uid=500, min_gid=100), person()) == told

    def test_who_must_be_in_the_map_does_not_log_in_without_or_with_an_unfit_entry(self) -> None:
        for answer in (None, MappedIdentity(account="root", uid=0, gid=0)):
            with pytest.raises(LoginDenied) as caught:
                find(nss_map(Told(answer), is_required=True), person())
            assert caught.value.code == "not_in_map"
            assert "user office" in caught.value.advice
            assert find(nss_map(Told(answer)), person()) is None

    def test_the_map_wins_over_claims(self) -> None:
        claimed = person(
            facility_account="other", uid=5000, gid=5000, gids=(5001,), home_organisation="claims"
        )
        identity_map = nss_map(Told(None))
        made = identity_map.apply(claimed, GIVEN)
        assert (made.facility_account, made.uid, made.gid, made.gids) == ("iferreira", 12001, 20000, (20001,))
        assert (made.home_organisation, made.display_name) == ("claims", "Name of claims")
        named = GIVEN.model_copy(update={"home_organisation": "map", "display_name": "Name of the map"})
        made = identity_map.apply(claimed, named)
        assert (made.home_organisation, made.display_name) == ("map", "Name of the map")
        assert Principal.model_validate(made.model_dump()) == made

    def test_an_account_without_numbers_takes_those_of_claims_away(self) -> None:
        made = nss_map(Told(None)).apply(person(uid=5000, gid=5000), MappedIdentity(account="x"))
        assert (made.facility_account, made.uid, made.gid) == ("x", None, None)

    @pytest.mark.parametrize(
        ("uid", "gid", "stays"), [(5000, 5000, True), (5, 5000, False), (5000, 5, False)]
    )
    def test_numbers_of_claims_pass_the_same_checks(self, uid: int, gid: int, stays: bool) -> None:
        made = nss_map(Told(None)).apply(person(uid=uid, gid=gid, gids=(10, 5001)), None)
        expected = (uid, gid, (5001,)) if stays else (None, None, ())
        assert (made.uid, made.gid, made.gids) == expected


class TestTable:
    """Kind `csv`."""

    def test_a_changed_table_counts_from_the_next_login_on(self, tmp_path: Path) -> None:
        path = write_table(tmp_path / "people.csv", row())
        identity_map = csv_map(path)
        assert find(identity_map, person()) == MappedIdentity(account="iferreira", uid=12001, gid=20000)
        write_table(path, row(uid="12002"))
        found = find(identity_map, person())
        assert found is not None
        assert found.uid == 12002
        new = write_table(tmp_path / "new.csv", row(uid="12003"))
        os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        new.rename(path)
        found = find(identity_map, person())
        assert found is not None
        assert found.uid == 12003
        write_table(path)
        assert find(identity_map, person()) is None

    def test_an_unchanged_table_is_not_read_again(self, tmp_path: Path) -> None:
        identity_map = csv_map(write_table(tmp_path / "people.csv", row(uid="", gid="")))
        first = find(identity_map, person())
        assert first is not None
        assert find(identity_map, person()) is first

    @pytest.mark.parametrize("is_required", [False, True])
    def test_a_broken_table_answers_for_nobody_and_the_log_names_its_lines(
        self, tmp_path: Path, is_required: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = write_table(tmp_path / "people.csv", row(), row("oscar", "oscar"))
        identity_map = csv_map(path, is_required=is_required)
        with pytest.raises(IdentityMapUnavailable) as caught:
            find(identity_map, person())
        assert isinstance(caught.value, ProviderUnavailable)
        assert "line 3: the same uid as in line 2" in caplog.text
        assert caught.value.reference in str(caught.value)
        assert "line" not in str(caught.value)
        write_table(path, row())
        assert find(identity_map, person()) is not None
        path.unlink()
        with pytest.raises(IdentityMapUnavailable):
            find(identity_map, person())

    @pytest.mark.parametrize("subject", ["Ines", "INES", "ines2", "ine"])
    def test_another_subject_or_issuer_is_another_person(self, tmp_path: Path, subject: str) -> None:
        path = write_table(tmp_path / "people.csv", row(), row("oscar", "oscar", "12002", issuer=OTHER))
        assert find(csv_map(path), person(subject)) is None
        assert find(csv_map(path), person("oscar")) is None

    def test_the_own_identity_counts_before_linked_ones_which_must_agree(self, tmp_path: Path) -> None:
        path = write_table(
            tmp_path / "people.csv",
            row(),
            row("ines-2", issuer=OTHER),
            row("oscar", "oscar", "12002", issuer=OTHER),
        )
        own = find(csv_map(path), person("ines", (OTHER, "oscar")))
        linked = find(csv_map(path), person("new", (OTHER, "ines-2"), (OTHER, "nobody")))
        assert own is not None
        assert own == linked
        with pytest.raises(LoginDenied) as caught:
            find(csv_map(path), person("new", (OTHER, "ines-2"), (OTHER, "oscar")))
        assert caught.value.code == "map_ambiguous"


class TestNameService:
    """Kind `nss`, on this machine's accounts."""

    @pytest.fixture
    def account(self) -> pwd.struct_passwd:
        """An account whose name and number lead to each other."""
        return pwd.getpwuid(0)

    def test_an_account_of_the_machine_is_found_by_the_name_of_a_claim(
        self, account: pwd.struct_passwd
    ) -> None:
        found = NssSource(limit_s=5).find(person(facility_account=account.pw_name))
        groups = {g.gr_gid for g in grp.getgrall() if account.pw_name in g.gr_mem} - {account.pw_gid}
        assert found is not None
        assert (found.account, found.uid, found.gid) == (account.pw_name, account.pw_uid, account.pw_gid)
        assert groups <= set(found.gids)

    def test_the_systems_accounts_are_nobodys(self, account: pwd.struct_passwd) -> None:
        assert find(nss_map(), person(facility_account=account.pw_name)) is None

    @pytest.mark.parametrize("name", [None, "no-such-account-here", "-", "..", "."])
    def test_an_unknown_name_or_none_is_not_found(self, name: str | None) -> None:
        assert find(nss_map(), person(facility_account=name)) is None


class Hanging:
    """A source that does not return before it is released, as a name service whose servers are away."""

    limit_s = 0.05

    def __init__(self) -> None:
        self.released = threading.Event()
        self.n_asked = 0

    def find(self, principal: Principal) -> MappedIdentity | None:
        """Nothing, late."""
        self.n_asked += 1
        self.released.wait(30)
        return GIVEN


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.released.set()


class TestTime:
    """A lookup that hangs holds up nobody but itself."""

    def test_a_lookup_that_hangs_is_a_map_that_cannot_be_asked(self, hanging: Hanging) -> None:
        with pytest.raises(IdentityMapUnavailable, match="no answer in time"):
            find(nss_map(hanging), person())

    def test_no_more_than_some_lookups_hang_and_the_loop_goes_on(self, hanging: Hanging) -> None:
        identity_map = nss_map(hanging)

        async def many() -> list[BaseException | MappedIdentity | None]:
            asked = [identity_map.find(person(f"p{i}")) for i in range(40)]
            return await asyncio.gather(*asked, return_exceptions=True)

        answers = asyncio.run(many())
        assert all(isinstance(answer, IdentityMapUnavailable) for answer in answers)
        assert hanging.n_asked == 8

    def test_places_are_given_back(self) -> None:
        async def ask() -> list[int]:
            threads = LookupThreads(2)
            release = threading.Event()
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await threads.run(0.05, release.wait, 30)
            release.set()
            deadline = time.monotonic() + 10
            return await asyncio.gather(
                *(threads.run(deadline - time.monotonic(), int, str(i)) for i in range(20))
            )

        assert asyncio.run(ask()) == list(range(20))

    def test_what_a_lookup_raises_reaches_the_one_who_waits(self) -> None:
        async def ask() -> int:
            return await LookupThreads().run(5, int, "no number")

        with pytest.raises(ValueError, match="no number"):
            asyncio.run(ask())
