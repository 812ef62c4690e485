"""Read from standard input what `make journey` printed; fail unless it is one object in which all holds."""

from __future__ import annotations

import json
import sys
from typing import Any

CLUSTER_END_S = 60
STOPS = ["portal", "login", "grants", "placement", "plan", "spawn", "template", "reduction", "catalogue"]


def problems(result: Any) -> list[str]:
    """What does not hold in the journey's result, in words; nothing when all does."""
    if not isinstance(result, dict):
        return ["the output is no JSON object"]
    found = []
    if result.get("ok") is not True:
        found.append(f"ok is {result.get('ok')!r}")
    if not isinstance(result.get("wall_seconds"), int | float):
        found.append("wall_seconds is no number")
    stops = result.get("stops") or []
    if [stop.get("name") for stop in stops] != STOPS:
        found.append(f"the stops are {[stop.get('name') for stop in stops]}")
    found += [f"stop {stop.get('name')} has no evidence" for stop in stops if not stop.get("evidence")]
    if not result.get("refusals"):
        found.append("no refusal was tried")
    gateway = result.get("gateway")
    if gateway is not None:  # the embedded platform has none
        if "worker" not in gateway.get("cluster_parts", ()):
            found.append("the gateway's cluster had no worker")
        if not 0 <= gateway.get("gone_after_seconds", -1) <= CLUSTER_END_S:
            found.append(f"the gateway's cluster was gone after {gateway.get('gone_after_seconds')} s")
    enforced = result.get("enforced")
    if not isinstance(enforced, dict) or not enforced:
        return [*found, "nothing says what is enforced"]
    found += [
        f"{name} is not enforced" for name, said in enforced.items() if said.get("enforced") is not True
    ]
    return found


def main() -> int:
    """Exit code 0 when all holds, 1 with one line for each problem otherwise."""
    try:
        result = json.load(sys.stdin)
    except ValueError as error:
        sys.stderr.write(f"journey: the output is not one JSON value: {error}\n")
        return 1
    found = problems(result)
    for problem in found:
        sys.stderr.write(f"journey: {problem}\n")
    if not found:
        sys.stderr.write(f"journey: {len(STOPS)} stops in {result['wall_seconds']} s, all holds\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
