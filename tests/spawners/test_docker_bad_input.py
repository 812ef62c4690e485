"""Names that nearly collide, images that hang, containers that nobody planned, ports that are published."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.identity import account_name
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_render import server_labels
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.session_options import read_options
from beamhub_spawners.sweeper import sweep_once
from contracts.docker_parts import NETWORK_BLOCK, SOCKET, DockerBackend, docker_backend, docker_facility
from contracts.small_image import make_image
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import ISSUER, make_facility, principal
from contracts.web_stand_in import StandIn
from spawners.raw_attempts import start  # the folder of these tests, not the room

SILENT = "import time\ntime.sleep(600)\n"


@given(subject=st.text(min_size=1, max_size=40))
def test_people_whose_names_differ_by_case_or_escape_share_nothing(subject: str) -> None:
    spellings = {
        subject,
        subject.upper(),
        subject.lower(),
        subject.swapcase(),
        quote(subject, safe=""),
        quote(subject, safe="").lower(),
        f"{subject} ",
        f"{subject}/../{subject}",
    }
    accounts = {account_name(ISSUER, one) for one in spellings}
    assert len({one.casefold() for one in accounts}) == len(spellings)  # also where a disk folds case
    labels = {json.dumps(server_labels("demo", one, "")) for one in accounts}
    assert len(labels) == len(spellings)


@pytest.fixture
def backend(
    tmp_path: Path, docker_engine: Any, docker_stand_in: StandIn, small_image: str, run: Any, request: Any
) -> Iterator[DockerBackend]:
    """A facility on the engine's own socket; the parameter changes its place or its sessions."""
    make_facility(tmp_path)
    host = {"url": SOCKET, "unsafe_direct_socket": True, "network_block": NETWORK_BLOCK}
    changes = getattr(request, "param", {})
    if changes.get("publishes"):
        host["publish_address"] = docker_stand_in.url.split("//")[1].split(":")[0]
    fields = docker_facility(tmp_path, docker_stand_in, host, image=changes.get("image", small_image))
    fields["sessions"] |= changes.get("sessions", {})
    with docker_backend(docker_engine, docker_stand_in, fields, run) as made:
        yield made


SILENT_IMAGE = "beamhub-test-silent:dev"
silent = {"image": SILENT_IMAGE, "sessions": {"start_timeout_s": 3}}


@pytest.mark.docker
@pytest.mark.parametrize("backend", [silent], indirect=True)
def test_an_image_that_never_answers_is_given_up_in_time_and_leaves_nothing(
    backend: DockerBackend, run: Any, docker_engine: Any
) -> None:
    make_image(docker_engine, SILENT_IMAGE, command=SILENT)
    try:
        with pytest.raises(StartFailed) as caught:
            start(backend, run)
        assert caught.value.reason == "it did not answer within 3 s"
        assert backend.n_objects() == 0
        assert backend.stand_in.states() == ["failed"]
    finally:
        docker_engine.remove_image(SILENT_IMAGE, force=True)


@pytest.mark.docker
def test_a_container_that_nobody_planned_is_neither_a_server_nor_ended(
    backend: DockerBackend, run: Any, small_image: str
) -> None:
    spawner = backend.spawner()
    spawner.principal, spawner.request = principal(), read_options(OPTIONS)
    labels = {
        f"{LABEL}facility": backend.part.platform.config.short_name,
        f"{LABEL}plan-id": "0" * 32,
        f"{LABEL}account": "u-somebody",
        f"{LABEL}server": "-",
    }
    made = backend.engine.create_container(small_image, labels=labels)["Id"]
    backend.engine.start(made)
    run(spawner.start())
    platform = backend.part.platform
    decision = run(sweep_once(platform.config, platform.web, settle=timedelta(0)))
    assert [found.plan_id for found in decision.orphans] == ["0" * 32]
    # Web may have lost its row: it is spared.
    assert backend.engine.inspect_container(made)["State"]["Running"]
    assert run(spawner.poll()) is None
    run(spawner.stop(now=True))
    assert backend.engine.inspect_container(made)["State"]["Running"]


@contextmanager
def documented_rule(address: str) -> Iterator[None]:
    """The host's firewall as docs/operate/docker-hosts.md has it for engines with a userland proxy."""
    rule = f"INPUT -s {NETWORK_BLOCK} -d {address} -p tcp --syn --dport 32768:60999 -j DROP".split()
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("iptables") is None, reason="needs root and iptables")
@pytest.mark.parametrize("backend", [{"publishes": True}], indirect=True)
def test_with_the_documented_rule_a_published_port_is_the_hubs_and_no_other_sessions(
    backend: DockerBackend, run: Any
) -> None:
    first = start(backend, run)
    second = backend.spawner(server_name="other")
    second.principal, second.request = principal(), read_options(OPTIONS)
    url = run(second.start())
    code = (
        "import urllib.request\n"
        f"try: print(urllib.request.urlopen({url + '/api'!r}, timeout=3).status)\n"
        "except OSError as error: print(type(error).__name__)"
    )
    with documented_rule(str(urlsplit(url).hostname)):
        said = backend.look(first.plan.id, code)
        from_here = httpx.get(f"{url}/api").status_code
    for one in (first, second):
        run(one.stop(now=True))
    assert said in ("URLError", "TimeoutError"), f"a session reached {url} of another: {said}"
    assert from_here == 200
