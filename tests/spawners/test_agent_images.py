"""What an agent does beside its requests: images, certificates, its configuration."""

from __future__ import annotations

import argparse
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from beamhub_core.clock import utc_now
from beamhub_core.config.agent import read_agent_config
from beamhub_core.errors import ConfigInvalid
from beamhub_spawners.agent_certificates import CertificatesInTheWay, make_certificates, run_make_certificates
from beamhub_spawners.agent_command import add
from beamhub_spawners.agent_engine import Engine
from beamhub_spawners.agent_images import ImageKeeper, image_and_tag
from contracts.agent_parts import agent_fields
from contracts.recording_engine import RecordingEngine, recording_engine

DIGEST = "sha256:" + "a" * 64
BASE = f"registry:5000/base@{DIGEST}"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (BASE, ("registry:5000/base", DIGEST)),
        ("registry:5000/base", ("registry:5000/base", "latest")),
        ("registry:5000/base:dev", ("registry:5000/base", "dev")),
        ("base:dev", ("base", "dev")),
        ("base", ("base", "latest")),
    ],
)
def test_an_image_is_pulled_by_name_and_tag_or_digest(reference: str, expected: tuple[str, str]) -> None:
    assert image_and_tag(reference) == expected


def look(engine: RecordingEngine, folder: Path, run: Any, *images: str, may_pull: bool = True) -> ImageKeeper:
    """A keeper after one look at its images."""
    told: list[Any] = []

    async def work() -> ImageKeeper:
        real = Engine(folder / "engine.sock", 5, 5)
        keeper = ImageKeeper(real, images, may_pull, 60, told.append)
        try:
            await keeper.look()
        finally:
            await real.close()
        return keeper

    keeper: ImageKeeper = run(work())
    assert sum(told[-1].values()) == len(images)
    return keeper


def test_what_is_present_is_not_pulled_and_what_is_missing_is(tmp_path: Path, run: Any) -> None:
    with recording_engine(tmp_path / "engine.sock") as engine:
        engine.answers["GET", "/images/here:dev/json"] = 200, {"Id": DIGEST, "RepoDigests": []}
        engine.answers["POST", "/images/create"] = 200, {"id": "layer", "status": "Pull complete"}
        keeper = look(engine, tmp_path, run, "here:dev", BASE, DIGEST)
        pulls = [one.path for one in engine.changes()]
    assert keeper.progress["here:dev"].state == "present"
    assert keeper.progress[DIGEST].state == "missing"
    assert keeper.progress[BASE].state == "failed"
    assert keeper.progress[BASE].detail == "was pulled, and is still not here"
    assert len(pulls) == 1
    assert "fromImage=registry%3A5000%2Fbase" in pulls[0]


def test_a_pull_that_fails_says_why(tmp_path: Path, run: Any) -> None:
    with recording_engine(tmp_path / "engine.sock") as engine:
        engine.answers["POST", "/images/create"] = 200, {"error": "manifest unknown"}
        keeper = look(engine, tmp_path, run, BASE)
    assert (keeper.progress[BASE].state, keeper.progress[BASE].detail) == ("failed", "manifest unknown")


def test_an_image_with_another_digest_under_its_name_is_a_fault(tmp_path: Path, run: Any) -> None:
    with recording_engine(tmp_path / "engine.sock") as engine:
        other = {"Id": "sha256:" + "b" * 64, "RepoDigests": []}
        engine.answers["GET", f"/images/{BASE}/json"] = 200, other
        keeper = look(engine, tmp_path, run, BASE, may_pull=False)
        assert engine.changes() == []
    assert keeper.progress[BASE].state == "failed"


def test_without_an_engine_images_are_failed_and_nothing_raises(tmp_path: Path, run: Any) -> None:
    with recording_engine(tmp_path / "engine.sock") as engine:
        pass
    assert look(engine, tmp_path, run, BASE).progress[BASE].state == "failed"


def test_certificates_are_the_owners_only_and_serve_one_purpose(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "tls"
    arguments = build_parser_arguments(folder)
    assert run_make_certificates(arguments) == 0
    assert str(folder / "hub.pem") in capsys.readouterr().out
    assert folder.stat().st_mode & 0o077 == 0
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    agent = x509.load_pem_x509_certificate((folder / "agent-10.0.0.7.pem").read_bytes())
    names = agent.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    with pytest.raises(CertificatesInTheWay, match=r"agent-10\.0\.0\.7"):
        make_certificates(folder, ("10.0.0.7",), now=utc_now())
    added = make_certificates(folder, ("node2.example.org",), now=utc_now())
    assert {file.name for file in added} == {"agent-node2.example.org.pem", "agent-node2.example.org-key.pem"}


def build_parser_arguments(folder: Path) -> Any:
    """What the verb's own parser makes of a command line."""
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    return parser.parse_args(["agent", "make-certificates", str(folder), "--host", "10.0.0.7"])


def test_a_broken_configuration_names_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    fields = agent_fields(tmp_path, place="hall-a", socket_file=tmp_path / "engine.sock")
    file.write_text(yaml.safe_dump(fields))
    assert read_agent_config(file).place == "hall-a"
    fields |= {"plaice": 1, "web_token_file": "not-a-path"}
    fields["listen"].pop("accepted_subjects")
    file.write_text(yaml.safe_dump(fields))
    with pytest.raises(ConfigInvalid) as invalid:
        read_agent_config(file)
    said = "\n".join(invalid.value.problems)
    assert all(word in said for word in ("plaice", "accepted_subjects", "web_token_file"))
    for text in ("[", "- a", "x" * 200_000):
        file.write_text(text)
        with pytest.raises(ConfigInvalid):
            read_agent_config(file)
