"""Which supplementary groups a session gets where the protocol carries 16 only. Pure.

The order of groups does not survive: Linux sorts them when they are set (`groups_sort`, kernel/groups.c),
and the NFS client sends the lowest 16 of them (net/sunrpc/auth_unix.c). So what must arrive is made sure by
giving the session no more than arrive.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_SUPPLEMENTARY = 15
"""AUTH_SYS carries 16 (RFC 5531, appendix A), and engines add the primary group to them (moby 20.10.18)."""


@dataclass(frozen=True, slots=True)
class GroupChoice:
    """Supplementary groups that a session keeps, those it goes without, and those of them that it needs."""

    kept: tuple[int, ...]
    dropped: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()


def choose_groups(gid: int, gids: tuple[int, ...], needed: tuple[int, ...]) -> GroupChoice:
    """At most 15 supplementary groups beside the primary one: those of the wanted folders first.

    Parameters
    ----------
    gids:
        The person's groups; nothing is ever added to them.
    needed:
        Groups of the folders to be mounted, the most wanted first. Groups that are not the person's
        count for nothing.
    """
    own = [one for one in dict.fromkeys(gids) if one != gid]
    wanted = [one for one in dict.fromkeys(needed) if one in own]
    ordered = [*wanted, *(one for one in own if one not in wanted)]
    return GroupChoice(
        kept=tuple(ordered[:MAX_SUPPLEMENTARY]),
        dropped=tuple(ordered[MAX_SUPPLEMENTARY:]),
        missing=tuple(wanted[MAX_SUPPLEMENTARY:]),
    )
