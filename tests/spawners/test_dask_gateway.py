"""The gateway with local parts: the real server, its proxy, real schedulers and workers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientResponseError
from dask_gateway import GatewayClusterError

from contracts.gateway_parts import GatewayPart, local_gateway_facility, parts_of, running_gateway
from contracts.web_stand_in import StandIn, serving_stand_in

DEADLINE_S = 60.0
N_DIALS = 100
STATES = ("starting", "running")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayPart]:
    folder = tmp_path_factory.mktemp("gateway")
    with serving_stand_in() as stand_in:
        fields = local_gateway_facility(folder, stand_in)
        with running_gateway(folder, fields, stand_in) as part:
            yield part


async def until(what: Callable[[], bool | Awaitable[bool]], timeout_s: float = DEADLINE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            now = what()
            if now is True or (not isinstance(now, bool) and await now):
                return
            await asyncio.sleep(0.1)


@pytest.mark.docker  # needs none, but twenty seconds: it runs with the slow ones
def test_a_cluster_computes_beside_its_session_and_ends_with_it_also_when_the_gateway_was_killed(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def work(gateway: GatewayPart) -> tuple[list[int], list[str]]:
        plan, token = gateway.session()
        other_plan, other_token = gateway.session("otto")
        async with gateway.client(token) as client:
            cluster = await client.new_cluster(shutdown_on_close=False, workers=2)
            dask = await cluster.get_client(set_as_default=False)
            await dask.wait_for_workers(2, timeout=DEADLINE_S)
            seen = [await dask.submit(os.getuid, pure=False) for _ in range(2)]
            granted = next(mount for mount in plan.mounts if mount.purpose == "raw")
            listed = await dask.submit(os.listdir, granted.target)
            address = urlsplit(dask.scheduler_info()["address"])
            scheduler = (str(address.hostname), int(address.port or 0))
            own_pair = cluster.security.get_connection_args("client")["ssl_context"]
            assert _opens(scheduler, own_pair, cluster.name)
            await _nobody_else_gets_in(gateway, cluster, scheduler, other_token)
            await dask.close()
            before = parts_of(gateway, plan.id)
            assert len(before) == 3
            gateway.kill()
            assert parts_of(gateway, plan.id) == before
            gateway.start()
            async with (
                client.connect(cluster.name) as found,
                found.get_client(set_as_default=False) as again,
            ):
                assert await again.submit(sum, [1, 2]) == 3
            gateway.kill()
            gateway.end_session(plan)
            gateway.start()
            await until(lambda: not parts_of(gateway))
            with pytest.raises(ClientResponseError, match="Forbidden"):
                await client.list_clusters()
            await cluster.close()
        gateway.end_session(other_plan)
        return seen, listed

    with running_gateway(tmp_path, local_gateway_facility(tmp_path, stand_in), stand_in) as own:
        seen, listed = asyncio.run(work(own))
    assert seen == [os.getuid()] * 2
    assert listed in (["scan.h5"], ["frames.h5"])


async def _nobody_else_gets_in(
    gateway: GatewayPart, cluster: Any, scheduler: tuple[str, int], other_token: str
) -> None:
    """Another session sees nothing of the cluster, and its own certificate opens no door of it."""
    async with gateway.client(other_token) as client:
        assert await client.list_clusters() == []
        for ask in (client.get_cluster, client.stop_cluster):
            with pytest.raises(ClientResponseError, match="Forbidden"):
                await ask(cluster.name)
        async with await client.new_cluster() as theirs:
            proxy = (gateway.fields["gateway"]["listen_host"], gateway.fields["gateway"]["listen_port"])
            own_pair = theirs.security.get_connection_args("client")["ssl_context"]
            tries = [(address, own_pair) for address in (proxy, scheduler)] * (N_DIALS // 4)
            tries += [(address, ssl.create_default_context()) for address in (proxy, scheduler)] * (
                N_DIALS // 4
            )
            opened = [_opens(address, context, cluster.name) for address, context in tries]
    assert opened == [False] * N_DIALS


def _opens(address: tuple[str, int], context: ssl.SSLContext, cluster: str) -> bool:
    """Whether a door opens for a certificate, by one who does not care whose door it is."""
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address, 5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=f"daskgateway-{cluster}") as stream:
                return bool(stream.recv(1))  # a scheduler greets who may come in
        except OSError:  # ssl.SSLError, too
            return False


def test_fifty_at_once_get_as_many_clusters_as_the_session_may_have(gateway: GatewayPart) -> None:
    async def ask(client: Any) -> str:
        try:
            await client.submit()
        except ValueError as refused:
            return str(refused)
        return "made"

    async def work() -> Counter[str]:
        plan, token = gateway.session()
        async with gateway.client(token) as client:
            answers = await asyncio.gather(*(ask(client) for _ in range(50)))
        gateway.end_session(plan)
        await until(lambda: not parts_of(gateway))
        return Counter(answers)

    answers = asyncio.run(work())
    refusal = (
        "This session may have 2 clusters together; 2 are in use and 1 more were asked for. Ask for fewer, "
        "or close another cluster or session."
    )
    assert answers == {"made": 2, refusal: 48}


def test_a_wish_beyond_the_limit_gets_the_numbers_and_adapt_is_bounded(gateway: GatewayPart) -> None:
    async def work() -> None:
        plan, token = gateway.session()
        async with gateway.client(token) as client, await client.new_cluster() as cluster:
            with pytest.raises(GatewayClusterError, match="may have 2 workers together; 0 are in use"):
                await cluster.scale(3)
            with pytest.raises(GatewayClusterError, match="may have 2 workers together"):
                await cluster.adapt(minimum=0, maximum=9)
            await cluster.adapt()
            async with cluster.get_client(set_as_default=False) as dask:
                futures = dask.map(time.sleep, [0.3] * 40, pure=False)
                n_most, told = 0, {}
                while not all(future.done() for future in futures):
                    n_most = max(n_most, len(parts_of(gateway)) - 1)
                    told = told or (gateway.metrics() if n_most == 2 else {})
                    await asyncio.sleep(0.1)
                assert n_most == 2
        gateway.end_session(plan)
        assert told['beamhub_gateway_parts{role="scheduler",state="running"}'] == 1
        assert sum(told[f'beamhub_gateway_cores{{role="worker",state="{one}"}}'] for one in STATES) == 2
        assert told['beamhub_gateway_start_seconds_count{role="scheduler"}'] >= 1
        assert told['beamhub_gateway_refusals_total{what="workers",whose="session"}'] >= 2
        assert told["beamhub_gateway_last_look_timestamp_seconds"] > time.time() - DEADLINE_S
        await until(lambda: not parts_of(gateway))

    asyncio.run(work())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("image", "debian"),
        ("environment", {"LD_PRELOAD": "/x"}),
        ("mounts", ["/"]),
        ("uid", 0),
        ("scheduler_cmd", "sh"),
        ("plan_id", "0" * 32),
    ],
)
def test_only_size_and_grace_are_the_users_choice(gateway: GatewayPart, option: str, value: Any) -> None:
    async def work() -> None:
        plan, token = gateway.session()
        async with gateway.client(token) as client:
            with pytest.raises(ValueError, match=f"takes no option '{option}': image, mounts, identity"):
                await client.submit(**{option: value})
        gateway.end_session(plan)

    asyncio.run(work())


def test_sessions_do_not_get_the_metrics_where_they_get_clusters(gateway: GatewayPart) -> None:
    async def status(path: str, token: str) -> int:
        async with gateway.client(token) as client:
            await client._request("GET", f"{gateway.url}/api/version")
            return int((await client._session.get(f"{gateway.url}{path}")).status)

    plan, token = gateway.session()
    assert [asyncio.run(status(path, token)) for path in ("/metrics", "/api/metrics")] == [404, 404]
    gateway.end_session(plan)


def test_only_tokens_of_running_sessions_open_the_gateway(gateway: GatewayPart) -> None:
    async def status(token: str) -> int:
        async with gateway.client(token) as client:
            try:
                await client.list_clusters()
            except ClientResponseError as refused:
                return refused.status
        return 200

    async def work() -> None:
        plan, token = gateway.session()
        assert await status(token) == 200
        service_token = (gateway.folder / "secrets/web-client").read_text()
        for wrong in (service_token, token[:-1] + "g", token.upper() + "x", "x" * 8, "short"):
            assert await status(wrong) in (401, 403)
        gateway.end_session(plan)
        await until(lambda: _is(403, status(token)), timeout_s=5)

    asyncio.run(work())


async def _is(wanted: int, answer: Awaitable[int]) -> bool:
    return await answer == wanted


def test_a_scheduler_that_says_it_is_elsewhere_ends_with_its_cluster(gateway: GatewayPart) -> None:
    async def work() -> None:
        plan, token = gateway.session()
        async with gateway.client(token) as client:
            name = await client.submit()
            await until(lambda: bool(parts_of(gateway)))
            secret = (parts_of(gateway)[0] / "token").read_text()
            assert (
                await _beat(gateway, client, (name, secret), api_address="http://169.254.169.254:80") == 200
            )
            await until(lambda: not parts_of(gateway))
        gateway.end_session(plan)

    asyncio.run(work())


def test_a_scheduler_that_has_not_heard_of_its_first_workers_sends_none_away(gateway: GatewayPart) -> None:
    """A worker that joins early would be retired: a scheduler does so when its heartbeat was taken well."""

    async def work() -> tuple[int, int]:
        plan, token = gateway.session()
        async with gateway.client(token) as client:
            name = await client.submit(workers=1)
            await until(lambda: bool(parts_of(gateway)))
            own = name, (parts_of(gateway)[0] / "token").read_text()
            early = await _beat(gateway, client, own, closing_workers=["0" * 32])
            informed = await _beat(gateway, client, own, count=1, closing_workers=["0" * 32])
        gateway.end_session(plan)
        await until(lambda: not parts_of(gateway))
        return early, informed

    assert asyncio.run(work()) == (409, 200)


async def _beat(gateway: GatewayPart, client: Any, own: tuple[str, str], **changes: Any) -> int:
    """What the gateway answers to a heartbeat of a cluster, which has a name and a token."""
    beat = {
        "scheduler_address": "tls://127.0.0.1:1",
        "api_address": "http://127.0.0.1:1",
        "dashboard_address": "",
        "count": 0,
        **{key: [] for key in ("active_workers", "closing_workers", "closed_workers")},
        **changes,
    }
    await client._request("GET", f"{gateway.url}/api/version")  # opens the client's HTTP session
    answer = await client._session.post(
        f"{gateway.url}/api/v1/clusters/{own[0]}/heartbeat",
        json=beat,
        headers={"Authorization": f"token {own[1]}"},
    )
    return int(answer.status)


def test_no_secret_stands_in_an_environment_a_command_line_or_the_log(gateway: GatewayPart) -> None:
    async def work() -> None:
        plan, token = gateway.session()
        async with gateway.client(token) as client:
            name = await client.submit()
            await until(lambda: bool(parts_of(gateway)))
            [folder] = parts_of(gateway)
            await until(lambda: (folder / "process.json").exists())
            secret = (folder / "token").read_text()
            key = (folder / "dask.pem").read_text().splitlines()[1]
            assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()} == {0o600}
            for entry in ("environ", "cmdline"):
                pid = _pid(folder)
                seen = (pid / entry).read_text()
                assert name in seen or entry == "cmdline"
                assert not any(one in seen for one in (secret, key, token))
            told = "\n".join(gateway.metrics())
            await client.stop_cluster(name)
            await until(lambda: not parts_of(gateway))
            assert not any(one in gateway.log() for one in (secret, key, token))
            assert not any(one in told for one in (name, plan.id, plan.account, secret))
        gateway.end_session(plan)

    asyncio.run(work())


def _pid(folder: Path) -> Path:
    return Path("/proc") / str(json.loads((folder / "process.json").read_text())["pid"])
