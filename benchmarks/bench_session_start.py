"""How long a session takes from the request until its server answers HTTP, beside plain DockerSpawner.

One engine, one run, subjects in turn: plain DockerSpawner with stock packages, ours with the same image, ours
with images/base, and a bare JupyterLab of each image without any hub, which is the limit. Then the click on a
session that was prepared, twenty starts at once, and the same start with ten and with ten thousand known
users. Wants root, Docker and images/base.

All hubs run without a proxy, whose route is JupyterHub's own and the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from session_peers import STOCK_IMAGE, HubClient, bare_start, ensure_stock_image, plain_hub
from side_by_side import describe_load, describe_machine, parse_arguments

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the platform of real processes lives there

from sqlalchemy import insert  # noqa: E402

from beamhub_catalogue.models import PrincipalRow, SessionRow  # noqa: E402
from beamhub_core.process_table import read_processes  # noqa: E402
from contracts.docker_parts import BASE_IMAGE, engine_client  # noqa: E402  # the tests' folder
from contracts.docker_platform import DockerPlatform, running_docker_platform  # noqa: E402  # as above
from contracts.real_platform import BEARER  # noqa: E402  # as above
from portal.portal_parts import person  # noqa: E402  # as above
from portal.queue_hub import OPERATOR  # noqa: E402  # as above

# As much processor as plain containers have, which nobody limits.
PROFILE = {"name": "small", "title": "Small", "cpu": os.cpu_count() or 1, "memory_gib": 2}
PLAIN, SAME, OURS = "plain DockerSpawner, stock image", "ours, the same image", "ours, images/base"
BARE_STOCK, BARE_BASE = "bare server, stock image", "bare server, images/base"
ENGINE_PROCESSES = ("dockerd", "containerd", "containerd-shim", "runc", "docker-proxy")
WANTED_OF_PLAIN, WANTED_OVER_BARE_S, WANTED_AT_ONCE, WANTED_REFUSAL_S = 0.6, 1.0, 1.3, 2.0
WANTED_PREPARED_S = 1.0
CLICK = "prepared, click to Lab's page, s"
USER_ID_OF_NEW = 1_000_000


def main() -> int:
    """Measure, print and write; 1 when a start failed."""
    arguments = parse_arguments(
        __doc__, at_once={"type": int, "default": 20}, users={"type": int, "default": 10_000}
    )
    n = {True: 2, False: max(8, arguments.repeats)}[arguments.quick]
    if arguments.quick:
        arguments.at_once, arguments.users = min(arguments.at_once, 3), min(arguments.users, 200)
    with engine_client() as engine:
        ensure_stock_image(
            engine, {name: version(name) for name in ("jupyterhub",)} | {"jupyterlab": lab_version(engine)}
        )
        images = {"base": BASE_IMAGE, "stock": STOCK_IMAGE}
        profiles = {"profiles": [PROFILE], "max_servers_per_person": 2}
        with running_docker_platform(
            engine, images=images, capacity=arguments.at_once, **profiles
        ) as platform:
            with plain_hub(engine, platform.folder / "plain") as (plain, _):
                times = starts_in_turn(engine, platform, plain, n)
            rows = rows_of(times)
            sys.stderr.write(f"{json.dumps(rows)}\n")  # the rest takes minutes
            phases = phases_of(platform)
            found = {
                "starts": rows,
                "phases of ours, images/base, median s": phases,
                CLICK: prepared(platform, n),
                "at once": at_once(platform, arguments.at_once),
                "known users": known_users(platform, arguments.users, max(2, n // 2)),
            }
    return tell(arguments, found, n)


def lab_version(engine: Any) -> str:
    """JupyterLab's version in images/base: the stock image gets the same."""
    code = "from importlib.metadata import version; print(version('jupyterlab'))"
    made = engine.create_container(BASE_IMAGE, ["python", "-c", code])["Id"]
    try:
        engine.start(made)
        engine.wait(made)
        return str(engine.logs(made).decode().strip())
    finally:
        engine.remove_container(made, force=True)


def starts_in_turn(engine: Any, platform: DockerPlatform, plain: HubClient, n: int) -> dict[str, list[float]]:
    """Seconds of every start of each subject; the first round warms up and is not counted."""
    ours = HubClient(platform.api_url, OPERATOR)
    one = person("bench")
    platform.introduce(one)
    plain.add("bench")

    def of_plain() -> float:
        seconds = plain.start("bench")
        plain.stop("bench")
        return seconds

    def of_ours(environment: str) -> float:
        seconds = ours.start(one.account, {"environment": environment})
        ours.stop(one.account)
        return seconds

    subjects: dict[str, Callable[[], float]] = {
        PLAIN: of_plain,
        SAME: lambda: of_ours("stock"),
        OURS: lambda: of_ours("base"),
        BARE_STOCK: lambda: bare_start(engine, STOCK_IMAGE),
        BARE_BASE: lambda: bare_start(engine, BASE_IMAGE),
    }
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for i in range(n + 1):
        for name, start in subjects.items():
            seconds = start()
            if i > 0:
                times[name].append(seconds)
    return times


def phases_of(platform: DockerPlatform) -> dict[str, float]:
    """The median of each phase, as web has it of the starts with images/base."""
    with platform.service.database.reading() as session:
        rows = [row for row in session.query(SessionRow).all() if "seconds" in (row.phases or {})]
        base = [row.phases["seconds"] for row in rows if row.plan["environment"] == "base"][1:]
    seconds: dict[str, list[float]] = {}
    for one in base:
        for name, value in one.items():
            seconds.setdefault(name, []).append(float(value))
    return {name: round(statistics.median(values), 3) for name, values in seconds.items()}


def prepared(platform: DockerPlatform, n: int) -> list[float]:
    """Seconds from the click on a prepared session until Lab's page is there: the hub says where it is, and
    the server, which nobody has asked for a page yet, gives it."""
    client, one = HubClient(platform.api_url, OPERATOR), person("early")
    platform.introduce(one)
    times = []
    for _ in range(n):
        client.start(one.account, {"environment": "base", "prepare": True})
        host = platform.address(one.account)
        began = time.perf_counter()
        path = platform.servers()[f"{one.account}/"]["url"]
        page = httpx.get(f"http://{host}{path}lab", headers=BEARER, timeout=60, follow_redirects=True)
        times.append(round(time.perf_counter() - began, 3))
        if "jupyter-config-data" not in page.text:
            raise SystemExit(f"no Lab: HTTP {page.status_code}")
        client.stop(one.account)
    return sorted(times)


def at_once(platform: DockerPlatform, n: int) -> dict[str, Any]:
    """Many starts at the same moment, against the processor time of one; then one more, which is refused."""
    people = [person(f"crowd{i}") for i in range(n)]
    late = person("late")
    for one in (*people, late):
        platform.introduce(one)
    ours = [HubClient(platform.api_url, OPERATOR) for _ in people]
    used = processor_s(platform)
    ours[0].start(people[0].account, {"environment": "base"})
    processor_of_one = processor_s(platform) - used
    ours[0].stop(people[0].account)
    began = time.perf_counter()
    with ThreadPoolExecutor(n) as threads:
        asked = [
            threads.submit(client.start, one.account, {"environment": "base"})
            for client, one in zip(ours, people, strict=True)
        ]
        failed = sum(one.exception() is not None for one in asked)
    all_ready_s = time.perf_counter() - began
    each = sorted(one.result() for one in asked if one.exception() is None)
    began = time.perf_counter()
    answer = platform.call("POST", f"/users/{late.account}/server", {"user_options": {"environment": "base"}})
    refusal_s = time.perf_counter() - began
    platform.service.queue.leave(late.account, "")
    for client, one in zip(ours, people, strict=True):
        client.stop(one.account)
    limit_s = n * processor_of_one / (os.cpu_count() or 1)
    return {
        "starts": n,
        "failed": failed,
        "processor_s of one": round(processor_of_one, 3),
        "all ready, s": round(all_ready_s, 2),
        "limit, s": round(limit_s, 2),
        "of the limit": round(all_ready_s / limit_s, 3),
        "p50, s": round(percentile(each, 0.5), 2),
        "p95, s": round(percentile(each, 0.95), 2),
        "one too many": {
            "status": answer.status_code,
            "s": round(refusal_s, 3),
            "says": answer.json().get("message", ""),
        },
    }


def processor_s(platform: DockerPlatform) -> float:
    """Processor seconds so far of the engine, the platform's processes and its containers that live."""
    containers = [one["Id"] for one in platform.containers()]
    ticks = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    mine = {os.getpid()}
    found = read_processes()
    for _ in range(8):
        mine |= {one.pid for one in found if one.parent in mine}
    for one in found:
        try:
            stat = Path(f"/proc/{one.pid}/stat").read_text()
            name, _, rest = stat.partition("(")[2].rpartition(")")
        except OSError:
            continue
        is_engine, groups = name.startswith(ENGINE_PROCESSES), _cgroup(one.pid)
        is_part = is_engine or one.pid in mine or any(container in groups for container in containers)
        if is_part and one.pid != os.getpid():
            numbers = rest.split()
            total += sum(map(int, numbers[11:15])) / ticks  # its own and its ended children's
    return total


def _cgroup(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def known_users(platform: DockerPlatform, n_users: int, n: int) -> dict[str, Any]:
    """The same start with few and with many users known to hub and web."""
    one = person("bench")

    def some() -> list[float]:
        client = HubClient(platform.api_url, OPERATOR)
        times = []
        for i in range(n + 1):
            seconds = client.start(one.account, {"environment": "base"})
            client.stop(one.account)
            times += [seconds] if i else []
        return times

    few = some()
    platform.kill_hub()
    add_users(platform, n_users)
    serving_s = platform.start_hub()
    many = some()
    return {
        "users": [n_few(platform, n_users), n_users],
        "p50, s": [round(statistics.median(few), 3), round(statistics.median(many), 3)],
        "ratio": round(statistics.median(many) / statistics.median(few), 3),
        "hub serves again with them after, s": round(serving_s, 2),
    }


def n_few(platform: DockerPlatform, n_users: int) -> int:
    """How many the hub knew before."""
    with closing(sqlite3.connect(platform.folder / "hub-rows.sqlite")) as database:
        return int(database.execute("select count(*) from users").fetchone()[0]) - n_users


def add_users(platform: DockerPlatform, n: int) -> None:
    """Put people into the hub's database, which is stopped, and into web's."""
    people = [person(f"known{i}") for i in range(n)]
    now = datetime.now(UTC)
    with closing(sqlite3.connect(platform.folder / "hub-rows.sqlite")) as database, database:
        [role] = database.execute("select id from roles where name = 'user'").fetchone()
        database.executemany(
            "insert into users (id, name, admin, created, cookie_id) values (?, ?, 0, ?, ?)",
            [
                (USER_ID_OF_NEW + i, one.account, now.replace(tzinfo=None), f"{i:032x}")
                for i, one in enumerate(people)
            ],
        )
        database.executemany(
            "insert into user_role_map (user_id, role_id, managed_by_auth) values (?, ?, 0)",
            [(USER_ID_OF_NEW + i, role) for i in range(n)],
        )
    with platform.service.database.writing() as session:
        rows = [
            {"account": one.account, "body": one.model_dump(mode="json"), "checked_at": now} for one in people
        ]
        session.execute(insert(PrincipalRow), rows)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of them lies, by the nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rows_of(times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One row for each subject: medians, p95, and how it stands to peer and limit."""
    plain = statistics.median(times[PLAIN])
    bare = {PLAIN: BARE_STOCK, SAME: BARE_STOCK, OURS: BARE_BASE}
    rows = []
    for name, seconds in times.items():
        ordered = sorted(seconds)
        row: dict[str, Any] = {
            "name": name,
            "p50_s": round(statistics.median(ordered), 3),
            "p95_s": round(percentile(ordered, 0.95), 3),
            "x plain": round(statistics.median(ordered) / plain, 3),
            "all_s": [round(one, 3) for one in seconds],
        }
        if name in bare:
            row["p95 over a bare server's median, s"] = round(
                row["p95_s"] - statistics.median(times[bare[name]]), 3
            )
        rows.append(row)
    return rows


def tell(arguments: argparse.Namespace, found: dict[str, Any], n: int) -> int:
    """Print the table and write the file."""
    print(f"\nPOST to HTTP-ready, {n} starts each in turn; {describe_machine()}; {describe_load()}")
    for row in found["starts"]:
        over = row.get("p95 over a bare server's median, s")
        text = f"  {row['name']:<36} p50 {row['p50_s']:6.2f} s  p95 {row['p95_s']:6.2f} s"
        text += f"  {row['x plain']:5.2f} x plain"
        print(text + (f"  p95 {over:+.2f} s over a bare server" if over is not None else ""))
    print(f"  phases of ours, images/base: {found['phases of ours, images/base, median s']}")
    print(f"  click on a prepared session until Lab's page: {found[CLICK]} s")
    crowd, users = found["at once"], found["known users"]
    print(
        f"  {crowd['starts']} at once: {crowd['failed']} failed, all ready in {crowd['all ready, s']} s, "
        f"{crowd['of the limit']} x the processor's limit; one too many is refused in "
        f"{crowd['one too many']['s']} s"
    )
    few, many = users["users"]
    print(f"  {few} and {many} known users: {users['p50, s']} s, ratio {users['ratio']}")
    wanted = {
        "ours p50, x plain, at most": WANTED_OF_PLAIN,
        "ours p95 over a bare server, s, at most": WANTED_OVER_BARE_S,
        "at once, of the limit, at most": WANTED_AT_ONCE,
        "refusal, s, at most": WANTED_REFUSAL_S,
        "prepared, s, at most": WANTED_PREPARED_S,
    }
    facts = {
        "machine": describe_machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load before": describe_load(),
        "command": " ".join(["python", "benchmarks/bench_session_start.py", *sys.argv[1:]]),
        "repeats": n,
        "wanted": wanted,
        **found,
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")
    return int(crowd["failed"] > 0 or crowd["one too many"]["status"] != 503)


if __name__ == "__main__":
    sys.exit(main())
