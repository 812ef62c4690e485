"""Dashboards of a session's clusters: through its own server, from its own clusters, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from beamhub_core.clock import utc_now
from beamhub_core.cluster_record import ClusterRecord, read_records, records_folder, write_record
from beamhub_reduction import connect
from beamhub_reduction.cluster_client import SessionClient
from beamhub_session.clusters import is_page, is_static, is_version
from session.test_session_server import TOKEN, start_server, stop_server

if TYPE_CHECKING:
    from session.conftest import Stage  # the tests' folder, not the room

WORDS = st.text("abcz./-_%@:\\0?#", max_size=60)
NOBODYS = "f" * 32


@given(path=WORDS)
def test_no_path_leaves_the_dashboards(path: str) -> None:
    if is_page(path) or is_static(path):
        assert not any(part in ("", ".", "..") for part in path.split("/"))
        assert not set(path) & set("%:\\?#")
    assert not (is_page(path) and is_static(path))


@pytest.mark.parametrize("path", ["stop", "facts", "ready", "info/logs.html", "counts.json", "status/ws"])
def test_what_a_scheduler_may_do_is_no_page(path: str) -> None:
    assert not is_page(path)
    assert not is_static(path)


@given(query=WORDS)
def test_a_query_is_a_version_or_none(query: str) -> None:
    assert is_version(query) == (not query or re.fullmatch(r"v=[0-9a-f]{1,128}", query) is not None)


def test_a_record_is_its_owners_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    folder = records_folder({"JUPYTER_RUNTIME_DIR": str(tmp_path)})
    assert folder is not None
    assert read_records(folder) == ()
    record = ClusterRecord(
        id="a" * 32,
        kind="threads",
        made_at=utc_now(),
        host="127.0.0.1",
        port=1,
        certificate="c",
        key="secret",
    )
    write_record(folder, record)
    (folder / f"{'b' * 32}.json").write_text(record.model_dump_json())  # under another's name
    (folder / f"{'c' * 32}.json").write_text("{")
    (folder / f"{'d' * 32}.json").symlink_to(folder / f"{'a' * 32}.json")
    assert read_records(folder) == (record,)
    assert (folder / f"{record.id}.json").stat().st_mode & 0o777 == 0o600
    assert "secret" not in repr(record)


@pytest.mark.docker  # needs none, but ten seconds: it runs with the slow ones
def test_the_sessions_server_shows_its_own_clusters_and_stops_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = stage.root.parent / "runtime"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/colin/")
    monkeypatch.delenv("BEAMHUB_SESSION_FILE", raising=False)
    process, url = start_server(stage, {})
    headers = {"Authorization": f"token {TOKEN}"}
    try:
        with (
            connect(2) as cluster,
            httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client,
        ):
            pages = cluster.card().pages
            assert pages == f"/user/colin/beamhub/clusters/{cluster.facts.id}/status"
            _nothing_else_is_served(client, cluster)
            _listed(client, cluster)
            page = client.get(f"beamhub/clusters/{cluster.facts.id}/status")
            assert page.status_code == 200
            assert "Dask" in page.text
            script = re.search(r'src="(static/js/bokeh\.min\.js\?v=[0-9a-f]+)"', page.text)
            assert script is not None, page.text[:2000]
            assert len(client.get(f"beamhub/clusters/{cluster.facts.id}/{script[1]}").content) > 100_000
            asyncio.run(_draws(url, cluster, page.text))
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as stranger:
                assert stranger.get(f"beamhub/clusters/{cluster.facts.id}/status").status_code in (302, 403)
                assert stranger.post(f"beamhub/clusters/{cluster.facts.id}/stop").status_code == 403
            answer = client.post(f"beamhub/clusters/{cluster.facts.id}/stop")
            assert answer.status_code == 303
            for _ in range(100):
                if client.get("beamhub/clusters.json").json()["clusters"][0]["now"] is None:
                    break
            else:
                raise AssertionError("the cluster goes on")
        assert "connect()" in client_text(url)
    finally:
        stop_server(process)


def client_text(url: str) -> str:
    headers = {"Authorization": f"token {TOKEN}"}
    return httpx.get(url + "beamhub/clusters", headers=headers, timeout=60, trust_env=False).text


def _listed(client: httpx.Client, cluster: SessionClient) -> None:
    told = client.get("beamhub/clusters.json")
    (one,) = told.json()["clusters"]
    assert (one["id"], one["now"]["n_workers"]) == (cluster.facts.id, 2)
    listed = client.get("beamhub/clusters").text
    assert cluster.facts.id in listed
    assert "2 workers" in listed
    for text in (told.text, listed):
        assert "PRIVATE KEY" not in text
        assert "CERTIFICATE" not in text


def _nothing_else_is_served(client: httpx.Client, cluster: SessionClient) -> None:
    """No other cluster, path, query or host; and a door that is not the cluster's is not spoken to."""
    own = f"beamhub/clusters/{cluster.facts.id}"
    for path in (
        f"beamhub/clusters/{NOBODYS}/status",
        f"{own}/facts",
        f"{own}/ready",
        f"{own}/status?next=http://localhost",
        f"{own}/statics/%2e%2e/%2e%2e/etc/passwd",
        f"{own}/static/..%2f..%2fetc/passwd",
        f"{own}/http://localhost/status",
        "beamhub/clusters/127.0.0.1:8787/status",
    ):
        assert client.get(path).status_code == 404, path
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        folder = records_folder(os.environ)
        assert folder is not None
        record = read_records(folder)[0]
        lies = record.model_copy(update={"id": NOBODYS, "port": elsewhere.getsockname()[1]})
        write_record(folder, lies)
        elsewhere.settimeout(10)

        async def ask() -> int:
            async with httpx.AsyncClient(base_url=client.base_url, headers=client.headers, timeout=60) as one:
                asking = asyncio.create_task(one.get(f"beamhub/clusters/{NOBODYS}/status"))
                connection, _ = await asyncio.to_thread(elsewhere.accept)
                first = await asyncio.to_thread(connection.recv, 1)
                assert first == b"\x16"  # a TLS handshake, before anything of HTTP; it gets no answer
                connection.close()
                return (await asking).status_code

        assert asyncio.run(ask()) == 404
        (folder / f"{NOBODYS}.json").unlink()


async def _draws(url: str, cluster: SessionClient, page: str) -> None:
    """The websocket of a page answers its browser, and no other origin's."""
    token = re.search(r'"token":"([^"]+)"', page)
    assert token is not None
    address = url.replace("http://", "ws://") + f"beamhub/clusters/{cluster.facts.id}/status/ws"
    ours = HTTPRequest(address, headers={"Authorization": f"token {TOKEN}"})
    stream = await websocket_connect(ours, subprotocols=["bokeh", token[1]])
    assert "ACK" in str(await asyncio.wait_for(stream.read_message(), 30))
    stream.close()
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as browser:
        await browser.get("api/status", params={"token": TOKEN})  # sets the login cookie
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    own = url.partition("/user/")[0]
    stream = await websocket_connect(
        HTTPRequest(address, headers={"Cookie": cookie, "Origin": own}), subprotocols=["bokeh", token[1]]
    )
    stream.close()
    for headers, protocols in (
        ({"Cookie": cookie, "Origin": "http://evil.example"}, ["bokeh", token[1]]),
        ({"Authorization": f"token {TOKEN}"}, []),
        ({}, ["bokeh", token[1]]),
    ):
        with pytest.raises(HTTPClientError, match=r"40[34]"):
            await websocket_connect(HTTPRequest(address, headers=headers), subprotocols=protocols)
