"""What a notebook has of a gateway's cluster: its card, its limits, its dashboards, and its end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from beamhub_core.cluster_record import read_records, records_folder
from beamhub_core.session import SessionPlan
from beamhub_reduction.cluster import connect
from beamhub_reduction.cluster_client import SessionClient
from beamhub_reduction.errors import BadParameter, ClusterRefused
from beamhub_spawners.session_view import session_info
from contracts.gateway_parts import GatewayPart, local_gateway_facility, parts_of, running_gateway
from contracts.web_stand_in import StandIn

GONE_S = 60.0


def enter_session(
    gateway: GatewayPart, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[SessionPlan, Path]:
    """Have this process be a notebook of a new session; its plan, and where its server's records lie."""
    plan, token = gateway.session()
    info = session_info(plan, enforced={})
    file = folder / "session.json"
    file.write_text(info.model_dump_json())
    for name, value in {
        "BEAMHUB_SESSION_FILE": str(file),
        "BEAMHUB_GATEWAY_URL": gateway.url,
        "JUPYTERHUB_API_TOKEN": token,
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERHUB_SERVICE_PREFIX": "/user/ines/",
    }.items():
        monkeypatch.setenv(name, value)
    records = records_folder({"JUPYTER_RUNTIME_DIR": str(folder / "runtime")})
    assert records is not None
    return plan, records


@pytest.mark.docker  # needs none, but twenty seconds: it runs with the slow ones
def test_a_notebook_sees_sizes_and_ends_its_cluster_also_when_the_gateway_is_away(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_gateway(tmp_path, local_gateway_facility(tmp_path, stand_in), stand_in) as gateway:
        plan, records = enter_session(gateway, tmp_path, monkeypatch)
        with connect(workers=1) as client:
            _has_numbers(client)
            (record,) = read_records(records)
            assert record.id == client.facts.id
            for workers in (0, 3):
                with pytest.raises(BadParameter, match="from 1 to 2"):
                    client.scale(workers)
            client.scale(2)
            client.wait_for_workers(2, timeout=GONE_S)
            with pytest.raises(ClusterRefused, match=r"may have 2 workers together; 2 are in use"):
                connect(workers=1)
        assert read_records(records) == ()
        _until_gone(gateway, plan)

        client = connect(workers=2)
        gateway.kill()
        client.close()
        assert client.card().state == "closed"
        gateway.start()
        _until_gone(gateway, plan)


def _has_numbers(client: SessionClient) -> None:
    text = client.card().text()
    assert "Cluster beside this session: size 1 worker, 1 core; memory" in text
    assert "core hours" in text
    assert "scales to 2 workers at most" in text


def _until_gone(gateway: GatewayPart, plan: SessionPlan) -> None:
    until = time.monotonic() + GONE_S
    while parts_of(gateway, plan.id):
        assert time.monotonic() < until, gateway.log()[-3000:]
        time.sleep(0.1)
