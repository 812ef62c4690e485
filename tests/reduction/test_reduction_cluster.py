"""The cluster in this process: open to nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from beamhub_reduction.cluster import connect

pytestmark = pytest.mark.usefixtures("outside_session")


def listening() -> set[str]:
    """Local addresses (hexadecimal) of this process's listening TCP sockets."""
    inodes = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(str(descriptor.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.add(words[1].split(":")[0])
    return found


def test_nothing_of_the_cluster_is_seen_from_outside_this_machine() -> None:
    before = listening()
    with connect(2) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        assert listening() - before <= {"0100007F"}  # 127.0.0.1


def test_two_clusters_can_run_beside_each_other() -> None:
    with connect(1) as first, connect(1) as second:
        assert first.scheduler_info()["id"] != second.scheduler_info()["id"]
