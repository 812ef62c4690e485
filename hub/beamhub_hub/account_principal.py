"""One account, several identities: what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from beamhub_core.identity import FacilityRole, Identity, Principal
from beamhub_hub.login_record import MAX_IDENTITIES, IdentityRecord


def with_identity(
    records: Sequence[IdentityRecord], latest: IdentityRecord, known: Sequence[Identity]
) -> tuple[IdentityRecord, ...]:
    """The records of an account after one identity logged in or was renewed, that one first.

    Only identities in `known` stay: what was unlinked from the account gives nothing any more.
    """
    others = [r for r in records if r.identity != latest.identity and r.identity in known]
    return (latest, *others)[:MAX_IDENTITIES]


def account_principal(
    account: Identity,
    linked: Sequence[Identity],
    records: Sequence[IdentityRecord],
    *,
    now: datetime,
    grace_s: float,
) -> Principal:
    """What an account's identities say together.

    Groups and roles are those of every identity whose provider answered within the time of grace. Name, home
    organisation, ORCID and facility account are those of the account's own identity, where that ever logged
    in. Assurance and authentication context are the latest login's alone: combining them is a proxy's
    matter, which knows how the identities were joined (AARC-G031).

    Parameters
    ----------
    account:
        The identity that the account was made for.
    linked:
        Further identities of the account.
    records:
        What providers said last, the latest login first; at least one.
    """
    latest = records[0].principal
    person = next((r.principal for r in records if r.identity == account), latest)
    counting = [r.principal for r in records if r.is_fresh(now, grace_s)]
    unheard = [r.principal for r in records if not r.is_fresh(now, grace_s)]
    others = tuple(identity for identity in dict.fromkeys(linked) if identity != account)
    return latest.model_copy(
        update={
            "issuer": account.issuer,
            "subject": account.subject,
            "account": account.account,
            "linked": others,
            "display_name": person.display_name,
            "home_organisation": person.home_organisation,
            "orcid": person.orcid,
            "facility_account": person.facility_account,
            "uid": person.uid,
            "gid": person.gid,
            "gids": person.gids,
            "entitlements": tuple(dict.fromkeys(e for p in counting for e in p.entitlements)),
            "capabilities": tuple(dict.fromkeys(c for p in counting for c in p.capabilities)),
            "unheard": tuple(dict.fromkeys(e for p in unheard for e in p.entitlements)),
            "ignored_entitlements": sum(p.ignored_entitlements for p in counting),
            "roles": _roles(counting, [r.principal for r in records]),
        }
    )


def _roles(counting: Sequence[Principal], known: Sequence[Principal]) -> tuple[FacilityRole, ...]:
    """The roles of those that count, sorted; a guest is for whom no institution vouches, also long ago.

    Being a guest takes rights away, so it does not end with a provider's silence.
    """
    roles = {role for p in counting for role in p.roles} - {"guest"}
    if all("guest" in p.roles for p in counting or known):
        roles.add("guest")
    return tuple(sorted(roles))
