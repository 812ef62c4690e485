"""`make journey`: the main job, headless, with the demo's own code. One JSON object on standard output."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from journey import checks, pictures
from journey.cluster_platform import cluster_platform
from journey.compose_platform import compose_platform
from journey.person import Person
from journey.platform import Platform, embedded_platform
from journey.stops import STOPS, Journey, expect, new_experiment
from journey.trespass import GAP


def say(text: str) -> None:
    """Tell the person who waits; standard output is for the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


PLATFORMS: dict[str, Callable[[Path], AbstractContextManager[Platform]]] = {
    "embedded": embedded_platform,
    "compose": compose_platform,
    "cluster": cluster_platform,
}


def walk(root: Path, screenshots: Path | None, kind: str = "embedded") -> dict[str, Any]:
    """Everything, in one platform's life."""
    with PLATFORMS[kind](root) as platform:
        say(f"platform up at {platform.url} after {platform.setup_seconds} s")
        started = time.monotonic()
        journey = Journey(platform, say)
        ines, colin, oscar = (Person(platform.url, name) for name in ("ines", "colin", "oscar"))
        experiment = new_experiment(platform)
        session = journey.walk(ines, experiment)
        expect([stop["name"] for stop in journey.stops] == list(STOPS), "not every stop was made")
        say("outsider, confinement, second technique, death of the hub, end of the embargo ...")
        refusals = checks.check_outsider(journey, oscar) + checks.check_forged_options(journey, oscar)
        outcomes = checks.check_confinement(journey, session)
        enforced = {name: each for name, each in outcomes.items() if not name.startswith(GAP)}
        known_gaps = {name: each for name, each in outcomes.items() if name.startswith(GAP)}
        second = checks.check_second_technique(journey, colin)
        checks.stop_session(colin, second.pop("session"))
        hub_death = checks.check_hub_death(journey, session)
        images = pictures.take(platform, ines, session, screenshots)
        checks.stop_session(ines, session)
        gateway = checks.check_cluster_end(journey, session)
        refusals.append(checks.check_embargo_end(journey, oscar))
        for person in (ines, colin, oscar):
            person.close()
        seconds = round(time.monotonic() - started, 1)
    return {
        "ok": True,
        "wall_seconds": seconds,
        "setup_seconds": platform.setup_seconds,
        "stops": journey.stops,
        "refusals": refusals,
        "enforced": enforced,
        "known_gaps": known_gaps,
        "hub_death": hub_death,
        "second_technique": second,
        "gateway": gateway,
        "screenshots": images,
    }


def main() -> int:
    """Run and print; 0 only when all holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--platform", choices=sorted(PLATFORMS), default="embedded", help="what to go through"
    )
    parser.add_argument("--state-folder", type=Path, default=None, help="keep the platform's files here")
    parser.add_argument(
        "--screenshots", type=Path, default=None, help="folder for screenshots (needs Chromium)"
    )
    parser.add_argument(
        "--allow-unenforced", action="store_true", help="fine also where the kernel has no Landlock"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="beamhub-journey-") as scratch:
        root = (arguments.state_folder or Path(scratch) / "state").resolve()
        try:
            result = walk(root, arguments.screenshots, arguments.platform)
            not_enforced = [name for name, outcome in result["enforced"].items() if not outcome["enforced"]]
            if not_enforced and not arguments.allow_unenforced:
                result = {**result, "ok": False, "error": f"not enforced: {not_enforced}"}
        except Exception as error:  # noqa: BLE001  # the outermost layer: everything becomes the one JSON answer
            say(traceback.format_exc())
            for log in sorted(root.glob("logs/*.log")):
                say(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]))
            result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
