"""One session's tries to get into another one's cluster, from inside its own container: how many succeed.

    cd tests && python -m spawners.cluster_dials --json ../docs/measurements/clusters-dials.json

Real gateway, agent, engine and containers. The intruder has a session and a cluster of its own, so that it
holds a true token and a true certificate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from beamhub_spawners.dask_render import API_PORT, SCHEDULER_PORT
from beamhub_spawners.docker_network import LABEL
from contracts.docker_gateway import DockerGateway, docker_gateway
from contracts.docker_parts import engine_client
from spawners.soak_facts import soak_facts

VICTIM = """
import json, time
import beamhub_reduction
client = beamhub_reduction.connect(workers=1)
address = next(iter(client.scheduler_info(n_workers=-1)["workers"]))
print(json.dumps({"cluster": client.gateway_cluster.name, "worker": address}), flush=True)
time.sleep(600)
"""
INTRUDER = """
import itertools, json, os, socket, ssl, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
import beamhub_reduction

client = beamhub_reduction.connect(workers=1)
own = client.gateway_cluster.security.get_connection_args("client")["ssl_context"]
token = os.environ["JUPYTERHUB_API_TOKEN"]
target = {target}
nobody = ssl.create_default_context()
for context in (own, nobody):
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

def connects(host, port):
    with socket.create_connection((host, port), 0.5):
        return True

def greets(context):
    with socket.create_connection(target["gateway"], 5) as plain:
        with context.wrap_socket(plain, server_hostname="daskgateway-" + target["cluster"]) as stream:
            return bool(stream.recv(1))

def asks(method, path):
    address = "http://%s:%d" % tuple(target["gateway"])
    words = {{"Authorization": "jupyterhub " + token}}
    request = urllib.request.Request(address + path, method=method, headers=words)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status < 400

path = "/api/v1/clusters/" + target["cluster"]
tries = {{
    **{{"%s:%d" % place: (connects, *place) for place in map(tuple, target["direct"])}},
    "scheduler, own certificate": (greets, own),
    "scheduler, no certificate": (greets, nobody),
    "look": (asks, "GET", path),
    "stop": (asks, "DELETE", path),
    "pair": (asks, "GET", path + "/pair"),
    "scale": (asks, "POST", path + "/scale"),
    "dashboard": (asks, "GET", "/clusters/" + target["cluster"] + "/status"),
}}

def attempt(name):
    try:
        what, *arguments = tries[name]
        return name, what(*arguments)
    except OSError:  # refused, unreachable, HTTP errors and TLS alerts alike
        return name, False

names = list(itertools.islice(itertools.cycle(tries), {n}))
with ThreadPoolExecutor(32) as threads:
    found = list(threads.map(attempt, names))
own_door = False
target["cluster"] = client.gateway_cluster.name
try:
    own_door = greets(own)
except OSError:
    pass
opened = sorted({{name for name, is_open in found if is_open}})
said = {{"tries": len(found), "kinds": len(tries), "opened": opened, "own_door_opens": own_door}}
print(json.dumps(said), flush=True)
"""


def dial(beside: DockerGateway, run: Any, *, n: int) -> dict[str, Any]:
    """What the intruder says: its tries, which of them opened something, and that its own door opens."""
    victim, intruder = beside.start_session(run, "victim"), beside.start_session(run)
    with beside.running(victim.plan.id, VICTIM) as said:
        worker = urlsplit(said["worker"])
        direct = [(worker.hostname, worker.port)]
        for part in beside.parts(victim.plan.id):
            name = part["Names"][0].lstrip("/")
            hosts = [name, *(one["IPAddress"] for one in part["NetworkSettings"]["Networks"].values())]
            if part["Labels"][f"{LABEL}role"] == "scheduler":
                direct += [(host, port) for host in hosts for port in (SCHEDULER_PORT, API_PORT)]
        section = beside.gateway.fields["gateway"]
        target = {
            "cluster": said["cluster"],
            "direct": direct,
            "gateway": (urlsplit(section["session_url"]).hostname, section["listen_port"]),
        }
        with beside.running(intruder.plan.id, INTRUDER.format(target=target, n=n), limit_s=500) as found:
            pass
    for spawner in (intruder, victim):
        run(spawner.stop(now=True))
    run(beside.until_gone())
    return dict(found)


def main() -> int:
    """Run, print and write; 1 when anything opened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        engine_client() as engine,
        asyncio.Runner() as runner,
        docker_gateway(Path(folder), engine, runner.run) as beside,
    ):
        Path(folder).chmod(0o755)
        found = dial(beside, runner.run, n=arguments.tries)
    text = json.dumps(soak_facts("spawners.cluster_dials", found), indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return int(bool(found["opened"]) or not found["own_door_opens"])


if __name__ == "__main__":
    sys.exit(main())
