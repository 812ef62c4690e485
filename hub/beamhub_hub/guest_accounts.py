"""The guest accounts that the hub has: how many, and the end of those whose time is over."""

from __future__ import annotations

from typing import Any

from jupyterhub import orm

from beamhub_core.errors import Unavailable
from beamhub_core.identity import GUEST_ISSUER
from beamhub_core.rights import Refused
from beamhub_hub.guest_kind import GUEST_NAME, GuestKind
from beamhub_hub.login_record import IdentityRecord, read_record

GUEST_GROUP = "beamhub-guest"
"""The hub's group of the role `guest`; people of providers with `are_guests` are in it, too."""


async def guest_accounts(app: Any) -> list[tuple[Any, IdentityRecord]]:
    """The accounts that are guests' own, each with its record.

    Parameters
    ----------
    app:
        The running JupyterHub. Its database is the only truth, so a restart changes nothing.
    """
    group = orm.Group.find(app.db, GUEST_GROUP)
    found = []
    for orm_user in list(group.users) if group is not None else []:
        user = app.users[orm_user]
        record = read_record(await user.get_auth_state())
        own = [r for r in record.identities if r.principal.issuer == GUEST_ISSUER] if record else []
        if own:
            found.append((user, own[0]))
    return found


async def count_guests(app: Any) -> int:
    """How many guest accounts there are."""
    return len(await guest_accounts(app))


async def remove_old_guests(app: Any) -> int:
    """Remove the guests whose time is over, or all where none are let in any more; returns how many.

    First web ends the rights, which also has the guest's sessions stopped; an account that still has a
    server stays until the next call finds it without one. Then the account goes with all its tokens.

    Raises
    ------
    Unavailable
        If web does not answer; then nothing is removed, and the next call tries again.
    """
    kind = app.authenticator.kinds.get(GUEST_NAME)
    n_removed = 0
    for user, record in await guest_accounts(app):
        if isinstance(kind, GuestKind) and not kind.is_over(record):
            continue
        n_removed += await _remove(app, user)
    return n_removed


async def _remove(app: Any, user: Any) -> bool:
    name = user.name
    try:
        await app.authenticator.web.remove_principal(name)
    except Unavailable:
        raise
    except Refused as refused:
        app.log.error("web did not end a guest's rights: account=%s code=%s", name, refused.refusal.code)
        return False
    if any(spawner.active for spawner in user.spawners.values()):
        return False
    await user.delete_spawners()
    app.users.delete(user)
    app.log.info("guest removed: account=%s", name)
    return True
