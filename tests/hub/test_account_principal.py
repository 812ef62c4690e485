"""What several identities of one account say together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.identity import Entitlement, FacilityRole, Identity, Principal, account_name
from beamhub_hub.account_principal import account_principal, with_identity
from beamhub_hub.login_record import MAX_IDENTITIES, IdentityRecord

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
GRACE_S = 3600.0
people = [Identity(issuer=f"https://p{i}.example", subject=f"s{i}") for i in range(4)]
roles: list[FacilityRole] = ["admin", "support", "guest", "trainer"]


@st.composite
def record_of(draw: st.DrawFn, identity: Identity) -> IdentityRecord:
    """What a provider said of an identity, up to two hours ago."""
    groups = draw(st.lists(st.sampled_from(["A", "B", "C"]), unique=True))
    entitlements = tuple(Entitlement(namespace=identity.issuer, group=name) for name in groups)
    principal = Principal(
        issuer=identity.issuer,
        subject=identity.subject,
        account=account_name(identity.issuer, identity.subject),
        display_name=identity.subject,
        entitlements=entitlements,
        roles=tuple(sorted(draw(st.lists(st.sampled_from(roles), unique=True)))),
        assurance=tuple(draw(st.lists(st.sampled_from(["low", "high"]), unique=True))),
        acr=draw(st.sampled_from([None, "mfa"])),
        checked_at=NOW - timedelta(seconds=draw(st.integers(0, 7200))),
    )
    return IdentityRecord(provider="aai", principal=principal)


records_of_all = st.permutations(people).flatmap(lambda order: st.tuples(*(record_of(i) for i in order)))


def joined(records: tuple[IdentityRecord, ...]) -> Principal:
    """The account of the first identity, with all others linked."""
    return account_principal(people[0], people[1:], records, now=NOW, grace_s=GRACE_S)


@given(records_of_all, st.integers(1, 4))
def test_an_account_has_the_groups_of_its_fresh_identities_and_no_others(
    records: tuple[IdentityRecord, ...], n: int
) -> None:
    found = joined(records[:n])
    fresh = [r for r in records[:n] if NOW - r.principal.checked_at <= timedelta(seconds=GRACE_S)]
    stale = [r for r in records[:n] if r not in fresh]
    assert set(found.entitlements) == {e for r in fresh for e in r.principal.entitlements}
    assert set(found.unheard) == {e for r in stale for e in r.principal.entitlements}
    is_guest = all("guest" in r.principal.roles for r in fresh or stale)
    wanted = {role for r in fresh for role in r.principal.roles} - {"guest"} | (
        {"guest"} if is_guest else set()
    )
    assert set(found.roles) == wanted


@given(records_of_all, st.integers(1, 4))
def test_an_account_is_the_same_whoever_of_its_identities_logs_in(
    records: tuple[IdentityRecord, ...], n: int
) -> None:
    found = joined(records[:n])
    assert found.identities == tuple(people)
    assert found.account == people[0].account
    names = {r.identity: r.principal.display_name for r in records[:n]}
    assert found.display_name == names.get(people[0], records[0].principal.display_name)


@given(records_of_all)
def test_strength_is_that_of_the_latest_login_alone(records: tuple[IdentityRecord, ...]) -> None:
    found, latest = joined(records), records[0].principal
    assert (found.assurance, found.acr, found.checked_at) == (latest.assurance, latest.acr, latest.checked_at)


@given(records_of_all, st.integers(0, 3), st.sets(st.sampled_from(people)))
def test_only_known_identities_stay_each_once_the_latest_first(
    records: tuple[IdentityRecord, ...], i: int, known: set[Identity]
) -> None:
    latest = records[i]
    found = with_identity(records, latest, tuple(known))
    assert found[0] == latest
    assert len({r.identity for r in found}) == len(found) <= MAX_IDENTITIES
    assert {r.identity for r in found} == ({r.identity for r in records} & known) | {latest.identity}
