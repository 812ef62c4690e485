"""A new proposal with a new measurement, which nobody could know before: made after the platform started."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from journey.platform import Platform


@dataclass(frozen=True, slots=True)
class Experiment:
    """What the journey added to the facility."""

    proposal: str
    sample: str
    pool: str
    folder: Path
    truth: dict[str, Any]


def _append_row(path: Path, row: dict[str, str]) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or []), list(reader)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows([*rows, row])
    part.replace(path)


def add_experiment(platform: Platform, subject: str, name: str) -> Experiment:
    """A proposal of `subject` in the user office, and a powder scan with random content in its folder."""
    chance = random.SystemRandom()
    proposal = f"MA-{chance.randrange(8000, 9999)}"
    sample = "phase" + "".join(chance.choice("bcdfghklmnprst") for _ in range(6))
    ended = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
    _append_row(
        platform.layout.user_office / "proposals.csv",
        {
            "proposal": proposal,
            "title": f"Unknown cubic phase {sample}",
            "class": "standard",
            "instrument": "bl09",
            "start": ended,
            "end": ended,
        },
    )
    _append_row(
        platform.layout.user_office / "members.csv",
        {"proposal": proposal, "issuer": platform.issuer, "subject": subject, "name": name, "role": "pi"},
    )
    pool = "hall-a"
    folder = platform.layout.facility / pool / proposal
    truth_file = platform.layout.root / f"truth-{proposal}.json"
    command = [sys.executable, "-m", "beamhub_reduction.synthetic", "powder", str(folder.parent)]
    command += [
        "--proposal",
        proposal,
        "--sample",
        sample,
        "--seed",
        str(chance.randrange(2**31)),
        "--truth",
        str(truth_file),
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)
    platform.take_in(folder, subject)
    truth = json.loads(truth_file.read_text())
    return Experiment(proposal, sample, pool, folder, truth[-1] if isinstance(truth, list) else truth)
