"""What a cluster's row of the gateway's database says of its parts, its share and its secrets."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from dask_gateway_server.backends.db_base import JobStatus
from dask_gateway_server.routes import api_handler

from beamhub_spawners.dask_limits import SessionShare
from beamhub_spawners.dask_runner import FoundPart, Secrets


@api_handler(token_authenticated=True)  # type: ignore[untyped-decorator]  # dask-gateway has no types
async def answer_pair(request: web.Request) -> web.Response:
    """A cluster's certificate and key, for its own parts."""
    row = request.app["backend"].db.get_cluster(request.match_info["cluster_name"])
    if row is None or row.target > JobStatus.RUNNING:
        raise web.HTTPNotFound(reason="The cluster has ended.")
    secrets = row_secrets(row)
    return web.json_response({"certificate": secrets.certificate, "key": secrets.key})


def row_secrets(row: Any) -> Secrets:
    """What the cluster's own parts know."""
    return Secrets(row.token, row.tls_cert.decode(), row.tls_key.decode())


def row_share(row: Any) -> SessionShare:
    """What its session's clusters may have together."""
    config = row.config
    return SessionShare(config.max_workers, config.max_threads, config.max_memory_gib)


def row_part(row: Any, name: str) -> FoundPart:
    """One of its parts, as a runner finds it again."""
    return FoundPart(row.config.plan_id, row.name, name, row.config.place, is_running=True, age_s=0.0)
