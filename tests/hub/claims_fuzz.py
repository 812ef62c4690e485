"""Claim sets and ID tokens by the hundred thousand: none admits whom the oracle does not, none does harm.

As a program it writes what it saw: `make soak`. Sets go through `merge_claims` and `principal_from_claims`,
tokens (`token_fuzz.py`) through everything that verifies an ID token.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from beamhub_core.identity import Principal
from beamhub_hub.claims import merge_claims, principal_from_claims
from beamhub_hub.denial import LoginDenied
from beamhub_hub.role_assignments import RoleAssignments
from hub import claims_oracle  # the folder of these tests, not the room
from hub.claims_parts import NOW, provider  # likewise
from hub.token_fuzz import token_case  # likewise

SEED = 20261121
CPU_LIMIT_S = 5.0
"""Processor time of one case. Generous: it finds what grows without a bound, not what is slow."""
RAF = claims_oracle.RAF
NAMESPACE = "urn:geant:example.org"
STRICT = {"entitlement_namespaces": [NAMESPACE], "id_scopes": [], "home_organisations": []} | {
    "required_assurance": [],
    "blocked_subjects": ["left@example.org"],
}
CONFIGS: tuple[dict[str, Any], ...] = (
    STRICT,
    STRICT | {"id_scopes": ["example.org", "aai.example.eu"]},
    STRICT | {"required_assurance": [f"{RAF}/IAP/low", f"{RAF}/ID/unique"]},
    STRICT | {"id_scopes": ["example.org"], "required_assurance": [f"{RAF}/IAP/medium"]},
    STRICT | {"home_organisations": ["example.org"]},
    STRICT | {"required_claims": ["voperson_id", "email"], "id_scopes": ["example.org"]},
    STRICT | {"is_identity_only": True, "entitlement_namespaces": []},
    STRICT | {"are_guests": True},
)
PROVIDERS = [provider(**config) for config in CONFIGS]
ROLES = RoleAssignments({})

SUBJECTS = (
    "a3f9@example.org",
    "5f1c-22",
    "x@Aai.Example.EU",
    "a@b@example.org",
    "ines@evil.org",
    "test@example.org",
)
STRANGE = (
    "",
    " ",
    "\x00",
    "\ud800",
    "\u202ehtims",
    "<script>alert(1)</script>",
    "ä",
    "\u212a",
    "a\nb",
    "%00",
    "'--",
)
SPECIAL = (
    "left@example.org",
    "a@example.org.evil",
    "a@\uff45xample.org",
    "@example.org",
    "TEST@example.org",
    "a@",
)


@dataclass
class Seen:
    """What became of many cases."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def figures(self) -> dict[str, Any]:
        """As they are published."""
        return {
            "cases": self.cases,
            "wrong_admits": len([text for text in self.wrong if text.startswith("admitted")]),
            "other_differences": len([text for text in self.wrong if not text.startswith("admitted")]),
            "slowest_cpu_ms": round(self.slowest_s * 1000, 1),
            "outcomes": dict(self.outcomes.most_common()),
        }


def plausible(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """ID token and userinfo as a community's proxy sends them."""
    sub = rng.choice(SUBJECTS[:4]) if rng.random() < 0.9 else rng.choice(SUBJECTS)
    id_token = {"sub": sub, "iss": "https://aai.example.org", "acr": "https://refeds.org/profile/mfa"}
    userinfo: dict[str, Any] = {"sub": sub, "name": "Ines Ferreira", "email": "ines@example.org"}
    maybe = {
        "voperson_id": rng.choice(SUBJECTS),
        "schac_home_organization": rng.choice(("example.org", "Example.Org", "evil.org")),
        "eduperson_assurance": [f"{RAF}/{rng.choice(ASSURANCES)}" for _ in range(rng.randrange(4))],
        "entitlements": [entitlement(rng) for _ in range(rng.randrange(8))],
        "eduperson_entitlement": [entitlement(rng) for _ in range(rng.randrange(4))],
        "orcid": rng.choice(("0000-0002-1825-0097", "0000-0002-1825-0098")),
        "preferred_username": "ines",
    }
    userinfo |= {name: value for name, value in maybe.items() if rng.random() < 0.75}
    return id_token, userinfo


ASSURANCES = (
    "IAP/low",
    "IAP/medium",
    "IAP/high",
    "ID/unique",
    "profile/cappuccino",
    "profile/espresso",
    "version/2",
)


def entitlement(rng: random.Random) -> str:
    """A value of a community, most of them of our namespace."""
    space = rng.choice(
        (NAMESPACE, NAMESPACE, NAMESPACE, "URN:GEANT:example.org", "urn:mace:egi.eu", NAMESPACE + ":sub")
    )
    kind = rng.choice(("group", "group", "group", "res", "Group"))
    path = [
        rng.choice(("proposals", "staff", "MA-1", "a%3Arole%3Dpi", "é", "a b", "", "x=y")) for _ in range(2)
    ]
    end = rng.choice(("", ":role=pi", ":role=", ":act:read,write", "?=q", "?x", "%2f"))
    return ":".join([space, kind, *path]) + end + rng.choice(("", "#aai.example.org", "#Perun Identity - x"))


def junk(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value, the larger and stranger the better."""
    kind = rng.randrange(12 if depth < 3 else 8)
    if kind < 4:
        return rng.choice((None, True, False, 0, -1, 1e308, float("nan"), float("inf"), 10**400))
    if kind < 7:
        return rng.choice((*STRANGE, *SPECIAL, *SUBJECTS)) * rng.choice((1, 1, 1, 2))
    if kind == 7:
        return rng.choice(("n", "ä", "%", ":", "@")) * 10_000
    if kind == 8:
        return {str(junk(rng, 3))[:20]: junk(rng, depth + 1) for _ in range(rng.randrange(4))}
    if kind == 9:
        value: Any = []
        for _ in range(rng.choice((1, 50, 400))):
            value = [value]
        return value
    return [junk(rng, depth + 1) for _ in range(rng.randrange(5))]


def _flood(rng: random.Random, claims: dict[str, Any]) -> None:
    many = [entitlement(rng) + str(i) for i in range(1_996)] + [None, 7, {}, "x" * 10_000]
    rng.shuffle(many)
    claims["entitlements"] = many
    claims.pop("eduperson_entitlement", None)


def _wrap(rng: random.Random, claims: dict[str, Any]) -> None:
    name = rng.choice(sorted(claims))
    claims[name] = [claims[name]] if rng.random() < 0.7 else {"value": claims[name]}


def _replace(rng: random.Random, claims: dict[str, Any]) -> None:
    claims[rng.choice(sorted(claims))] = junk(rng)


def _remove(rng: random.Random, claims: dict[str, Any]) -> None:
    claims.pop(rng.choice(sorted(claims)), None)


def _add(rng: random.Random, claims: dict[str, Any]) -> None:
    name = rng.choice(
        ("voperson_id", "schac_home_organization", "eduperson_assurance", "roles", "admin", "acr")
    )
    claims[name] = junk(rng)


def _spoil(rng: random.Random, claims: dict[str, Any]) -> None:
    """One strange value among good ones."""
    lists = [name for name, value in sorted(claims.items()) if isinstance(value, list)]
    if lists:
        values = claims[rng.choice(lists)]
        values.insert(rng.randrange(len(values) + 1), junk(rng))


def _edit(rng: random.Random, claims: dict[str, Any]) -> None:
    """Another letter somewhere in a text."""
    name = rng.choice(
        [key for key, value in sorted(claims.items()) if isinstance(value, str) and value] or [""]
    )
    if name:
        place = rng.randrange(len(claims[name]) + 1)
        letter = rng.choice(("@", ":", " ", "\u200b", "X", ".", "\n", "%", "é"))
        claims[name] = claims[name][:place] + letter + claims[name][place + rng.randrange(2) :]


CHANGES: tuple[Callable[[random.Random, dict[str, Any]], None], ...] = (
    _wrap,
    _replace,
    _remove,
    _add,
    _spoil,
    _edit,
)


def claims_case(rng: random.Random) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The number of a configuration, an ID token's claims and a userinfo answer."""
    id_token, userinfo = plausible(rng)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        claims = userinfo if rng.random() < 0.9 or len(id_token) < 2 else id_token
        if claims:
            rng.choice(CHANGES)(rng, claims)
    if rng.random() < 0.005:
        _flood(rng, userinfo)
    if rng.random() < 0.6 and "sub" in id_token:
        userinfo["sub"] = id_token["sub"]
    return rng.randrange(len(CONFIGS)), id_token, userinfo


def judge_claims(number: int, id_token: dict[str, Any], userinfo: dict[str, Any]) -> Principal | str:
    """The person, or the code of the denial; anything else that is raised ends the run."""
    try:
        claims = merge_claims(id_token, userinfo)
        return principal_from_claims(claims, provider=PROVIDERS[number], roles=ROLES, checked_at=NOW)
    except LoginDenied as denied:
        return denied.code


def fault_of(
    found: Principal | str, number: int, id_token: dict[str, Any], userinfo: dict[str, Any]
) -> str | None:
    """How an outcome differs from what the oracle says; None for not at all."""
    config = CONFIGS[number]
    may = claims_oracle.admits(config, id_token, userinfo)
    if isinstance(found, str):
        return f"denied as {found}" if may else None
    if not may:
        return "admitted"
    told = {(":".join((item.group, *item.subgroups)), item.role) for item in found.entitlements}
    if told != claims_oracle.memberships(config, userinfo):
        return "admitted with other groups"
    if found.roles != (("guest",) if config.get("are_guests") else ()):
        return "admitted with another role"
    return None


def fuzz_claims(n_cases: int, seed: int = SEED) -> Seen:
    """Judge so many claim sets."""
    rng, seen = random.Random(seed), Seen()  # noqa: S311  # chance, not secrecy
    for i in range(n_cases):
        case = claims_case(rng)
        begun = time.process_time()
        found = judge_claims(*case)
        spent = time.process_time() - begun
        assert spent <= CPU_LIMIT_S, (seed, i)
        seen.cases, seen.slowest_s = seen.cases + 1, max(seen.slowest_s, spent)
        seen.outcomes[found if isinstance(found, str) else "admitted"] += 1
        fault = fault_of(found, *case)
        if fault is not None:
            seen.wrong.append(f"{fault}: case {i} of seed {seed}")
    return seen


def fuzz_tokens(n_cases: int, seed: int = SEED) -> Seen:
    """Judge so many ID tokens."""
    rng, seen = random.Random(seed), Seen()  # noqa: S311  # chance, not secrecy
    for i in range(n_cases):
        case = token_case(rng)
        begun = time.process_time()
        found = case.judge()
        spent = time.process_time() - begun
        assert spent <= CPU_LIMIT_S, (seed, i)
        seen.cases, seen.slowest_s = seen.cases + 1, max(seen.slowest_s, spent)
        seen.outcomes[found if isinstance(found, str) else "admitted"] += 1
        fault = case.fault_of(found)
        if fault is not None:
            seen.wrong.append(f"{fault}: case {i} of seed {seed}")
    return seen


def main() -> int:
    """Judge many cases, and write the count as JSON; 1 if one of them was judged wrongly."""
    parser = argparse.ArgumentParser(description="Claim sets and ID tokens against their oracles.")
    parser.add_argument("--sets", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    begun = time.monotonic()
    sets, tokens = fuzz_claims(options.sets, options.seed), fuzz_tokens(options.tokens, options.seed)
    figures = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"make soak (sets={options.sets}, tokens={options.tokens}, seed={options.seed})",
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_limit_s": CPU_LIMIT_S,
        "claim_sets": sets.figures(),
        "tokens": tokens.figures(),
    }
    text = json.dumps(figures, indent=1) + "\n"
    if options.json:
        options.json.write_text(text)
    sys.stdout.write(text)
    wrong = sets.wrong + tokens.wrong
    sys.stderr.write("".join(f"{line}\n" for line in wrong[:20]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
