"""The chart rendered by helm, as Python objects."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "helm" / "beamhub"
TRIAL = ("--values", str(CHART / "trial-values.yaml"))
Object = dict[str, Any]


def find_helm() -> str:
    """The helm binary: BEAMHUB_HELM, or the one on the path; skips the test without one."""
    found = os.environ.get("BEAMHUB_HELM") or shutil.which("helm")
    if not found:
        pytest.skip("helm is missing (BEAMHUB_HELM or PATH)")
    return found


def render(helm: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What `helm template` says of a release called beamhub in a namespace called beamhub."""
    command = [helm, "template", "beamhub", str(CHART), "--namespace", "beamhub", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(helm: str, *options: str) -> list[Object]:
    """Every object of a release."""
    done = render(helm, *options)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of_kind(objects: list[Object], kind: str, namespace: str | None = None) -> dict[str, Object]:
    """The objects of a kind by name: those in a namespace, or those of the release's own."""
    return {
        found["metadata"]["name"]: found
        for found in objects
        if found["kind"] == kind and found["metadata"].get("namespace") == namespace
    }


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """What runs pods, by name, with the pod's spec."""
    for kind in ("Deployment", "StatefulSet", "Job"):
        for name, found in of_kind(objects, kind).items():
            yield name, found["spec"]["template"]["spec"]


def component_of(peer: Object) -> set[str]:
    """The components of this release that a peer of a network policy names."""
    expressions = peer.get("podSelector", {}).get("matchExpressions", [])
    return {value for one in expressions for value in one["values"]}
