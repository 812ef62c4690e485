"""What another person's pods get of a cluster that is not theirs: tried from pods beside it."""

from __future__ import annotations

import json

from beamhub_spawners.dask_pod_render import WORKER_PORT
from beamhub_spawners.dask_render import API_PORT, SCHEDULER_PORT
from beamhub_spawners.kubernetes_pod import COMPONENT, PREFIX
from helm.cluster_release import Release, kubectl

TRIES = """
import collections, json, socket, ssl, sys
from concurrent.futures import ThreadPoolExecutor
targets, n_tries = json.loads(sys.argv[1])
anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
def dial(target):
    host, port = target.rsplit(":", 1)
    try:
        plain = socket.create_connection((host, int(port)), 2)
    except OSError:
        return target, "shut"
    try:
        with plain, anyone.wrap_socket(plain) as said:
            # With TLS 1.3 a server looks at our certificate, of which we have none, after our first word.
            said.sendall(bytes(64))
            return target, "answered" if said.recv(1) else "refused"
    except OSError:
        return target, "refused"
with ThreadPoolExecutor(100) as pool:
    found = collections.Counter(pool.map(dial, targets * n_tries))
print(json.dumps([[target, said, n] for (target, said), n in found.items()]))
"""


def tried(release: Release, pod: str, targets: list[str], n_tries: int) -> dict[str, dict[str, int]]:
    """How often each target was shut, refused us, or answered, to so many tries inside a pod."""
    words = ["exec", "-n", release.sessions, pod, "--", "python", "-P", "-c", TRIES]
    found: dict[str, dict[str, int]] = {target: {} for target in targets}
    for target, said, n in json.loads(kubectl(*words, json.dumps([targets, n_tries]))):
        found[target][said] = n
    return found


def check_walls(release: Release, plan_id: str, probes: tuple[str, str], n_tries: int) -> None:
    """Nobody but its own parts and the gateway speaks with a cluster.

    Parameters
    ----------
    probes:
        A pod like another person's session, and one with the labels of another person's worker.
    """
    session, worker = probes
    ports = {"scheduler": (SCHEDULER_PORT, API_PORT), "worker": (WORKER_PORT,)}
    targets = [
        f"{pod['status']['podIP']}:{port}"
        for pod in release.pods(release.sessions)
        if pod["metadata"].get("labels", {}).get(f"{PREFIX}plan-id") == plan_id
        for port in ports.get(pod["metadata"]["labels"][COMPONENT], ())
    ]
    assert len(targets) >= 3, targets
    of_session = tried(release, session, targets, n_tries)
    assert of_session == {target: {"shut": n_tries} for target in targets}
    of_worker = tried(release, worker, targets, n_tries)
    assert not [said for said in of_worker.values() if "answered" in said], of_worker
