"""`facility.yaml`: every problem at once, with path, line and hint, and never a traceback."""

from __future__ import annotations

import pytest
import yaml

from beamhub_core.config import read_config
from beamhub_core.config.reading import MAX_PROBLEMS, sections
from core.config_parts import PLACES_OF_BACKENDS, Make, at, everything, problems_of
from facility_file import FacilityFile

# One place in the smallest file for each section of the model.
PLACES: dict[str, tuple[str | int, ...]] = {
    "": (),
    "pools[]": ("pools", 0),
    "login": ("login",),
    "login.providers[]": ("login", "providers", 0),
    "login.providers[].claims": ("login", "providers", 0, "claims"),
    "login.guests": ("login", "guests"),
    "login.identity_map": ("login", "identity_map"),
    "login.identity_map.ldap": ("login", "identity_map", "ldap"),
    "login.role_rules[]": ("login", "role_rules", 0),
    "hub": ("hub",),
    "hub.proxy": ("hub", "proxy"),
    "web": ("web",),
    "web.clients[]": ("web", "clients", 0),
    "catalogue": ("catalogue",),
    "catalogue.user_offices[] (kind: csv)": ("catalogue", "user_offices", 0),
    "catalogue.user_offices[] (kind: rest)": ("catalogue", "user_offices", 1),
    "catalogue.harvest_roots[]": ("catalogue", "harvest_roots", 0),
    "catalogue.sources[] (kind: scicat)": ("catalogue", "sources", 0),
    "catalogue.sources[] (kind: icat)": ("catalogue", "sources", 1),
    "catalogue.sources[] (kind: mymdc)": ("catalogue", "sources", 2),
    "catalogue.sources[] (kind: beamhub)": ("catalogue", "sources", 3),
    "catalogue.audit": ("catalogue", "audit"),
    "catalogue.publication": ("catalogue", "publication"),
    "catalogue.publication.oai": ("catalogue", "publication", "oai"),
    "catalogue.publication.doi": ("catalogue", "publication", "doi"),
    "sessions": ("sessions",),
    "sessions.homes": ("sessions", "homes"),
    "sessions.places[]": ("sessions", "places", 0),
    "sessions.places[].docker": ("sessions", "places", 0, "docker"),
    "sessions.places[].docker.tls": ("sessions", "places", 0, "docker", "tls"),
    "sessions.places[].docker.peers[]": ("sessions", "places", 0, "docker", "peers", 0),
    "sessions.places[].kubernetes": ("sessions", "places", 0, "kubernetes"),
    "sessions.places[].kubernetes.volumes": ("sessions", "places", 0, "kubernetes", "volumes", "pool"),
    "sessions.places[].kubernetes.homes": ("sessions", "places", 0, "kubernetes", "homes"),
    "sessions.places[].kubernetes.unmapped_homes": ("sessions", "places", 0, "kubernetes", "unmapped_homes"),
    "sessions.places[].kubernetes.scratch": ("sessions", "places", 0, "kubernetes", "scratch"),
    "sessions.places[].kubernetes.keeper_tls": ("sessions", "places", 0, "kubernetes", "keeper_tls"),
    "sessions.places[].kubernetes.tolerations[]": ("sessions", "places", 0, "kubernetes", "tolerations", 0),
    "sessions.profiles[]": ("sessions", "profiles", 0),
    "sessions.scratch": ("sessions", "scratch"),
    "sessions.environments[]": ("sessions", "environments", 0),
    "sessions.templates[]": ("sessions", "templates", 0),
    "sessions.limits": ("sessions", "limits"),
    "sessions.limits.people[]": ("sessions", "limits", "people", 0),
    "sessions.queue": ("sessions", "queue"),
    "sessions.idle": ("sessions", "idle"),
    "sessions.pre_start": ("sessions", "pre_start"),
    "gateway": ("gateway",),
    "gateway.limits": ("gateway", "limits"),
    "gateway.limits.person": ("gateway", "limits", "person"),
    "gateway.limits.proposal": ("gateway", "limits", "proposal"),
    "gateway.limits.groups[]": ("gateway", "limits", "groups", 0),
}


def test_the_smallest_file_is_valid(facility_config: Make) -> None:
    config = facility_config().read()
    assert config.short_name == "test"
    assert config.timezone == "UTC"


def backend_of(section: str) -> str:
    return "kubernetes" if ".kubernetes" in section else "docker"


@pytest.mark.parametrize("backend", PLACES_OF_BACKENDS)
def test_a_file_with_every_section_is_valid(backend: str, facility_config: Make) -> None:
    file = facility_config()
    assert read_config(file.write(everything(file, backend))).sessions.places[0].backend == backend


def test_every_section_is_tried_below() -> None:
    assert {path for path, _ in sections()} == set(PLACES)


@pytest.mark.parametrize("section", PLACES)
def test_an_unknown_key_of_any_section_names_the_nearest(section: str, facility_config: Make) -> None:
    file = facility_config()
    data = everything(file, backend_of(section))
    model = dict(sections())[section]
    known = next(iter(model.model_fields))
    at(data, PLACES[section])[known + "x"] = 1
    found = problems_of(file.write(data))
    assert len(found) == 1, found
    [problem] = found
    assert f"{known}x: unknown key (did you mean {known!r}?), line " in problem


@pytest.mark.parametrize("section", PLACES)
def test_a_missing_key_of_any_section_is_named(section: str, facility_config: Make) -> None:
    file = facility_config()
    data = everything(file, backend_of(section))
    required = [name for name, info in dict(sections())[section].model_fields.items() if info.is_required()]
    if "(kind: " in section:
        required.remove("kind")  # without it nobody knows which keys there are; see below
    for name in required:
        at(data, PLACES[section]).pop(name)
    found = problems_of(file.write(data)) if required else ()
    assert [name for name in required if not any(f"{name}: is missing" in problem for problem in found)] == []


def test_a_key_of_another_section_is_told_where_it_belongs(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy() | {"reader_timeout_s": 3}
    [problem] = problems_of(file.write(data))
    line = _line(file, "reader_timeout_s")
    assert problem == f"reader_timeout_s: unknown key (it stands under 'catalogue'), line {line}"


def _line(file: FacilityFile, word: str) -> int:
    return next(i for i, text in enumerate(file.path.read_text().splitlines(), 1) if word in text)


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["pools"][0]["roott"] = "/x"
    data["hub"]["listen_port"] = 70000
    data["web"].pop("internal_url")
    data["sessions"]["places"][0]["pools"] = ["pol"]
    data["sessions"]["profiles"] *= 2
    data["catalogue"]["harvest_roots"] = [{"pool": "pool", "path": "../x"}]
    text = yaml.safe_dump(data, sort_keys=False).replace("&id001 ", "") + "name: Twice\n"
    file.path.write_text(text)
    found = problems_of(file.path)
    expected = (
        "name: stands twice",
        "pools[0].roott: unknown key (did you mean 'root'?)",
        "hub.listen_port: input should be less than 65536 (got 70000)",
        "web.internal_url: is missing (Where hub, proxy and sessions reach web)",
        "catalogue.harvest_roots[0].path: '../x' is not a plain path",
        "sessions.profiles[1].name: the name 'small' stands twice",
    )
    for words in expected:
        assert any(problem.startswith(words) for problem in found), (words, found)
    lines = [int(problem.rpartition(", line ")[2]) for problem in found]
    assert lines == sorted(lines)


def test_sections_that_disagree_are_reported_beside_a_broken_one(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["hub"] = 5
    data["sessions"]["places"][0]["pools"] = ["pol"]
    found = problems_of(file.write(data))
    assert any("no pool is called 'pol' (did you mean 'pool'?)" in problem for problem in found)
    assert any(problem.startswith("hub: ") for problem in found)


def test_a_flood_of_problems_is_cut(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy() | {f"unknown{i}": i for i in range(500)}
    found = problems_of(file.write(data))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "... and 400 more"


def test_messages_hold_no_control_character(facility_config: Make) -> None:
    file = facility_config()
    file.path.write_text(file.path.read_text() + '"evil\\e[31m": 1\n"a\\nb": 2\n')
    assert all(problem.isprintable() for problem in problems_of(file.path))
