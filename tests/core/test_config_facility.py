"""`facility.yaml`: every problem at once, with path, line and hint, and never a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.config.reading import MAX_CONFIG_BYTES, MAX_PROBLEMS, sections
from beamhub_core.errors import ConfigInvalid

if TYPE_CHECKING:
    from conftest import FacilityFile

Make = Callable[..., "FacilityFile"]


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        read_config(path)
    assert caught.value.exit_code == 7
    assert str(path) in str(caught.value)
    assert caught.value.problems
    return caught.value.problems


def at(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


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
    "catalogue.audit": ("catalogue", "audit"),
    "sessions": ("sessions",),
    "sessions.places[]": ("sessions", "places", 0),
    "sessions.places[].docker": ("sessions", "places", 0, "docker"),
    "sessions.profiles[]": ("sessions", "profiles", 0),
    "sessions.environments[]": ("sessions", "environments", 0),
    "sessions.templates[]": ("sessions", "templates", 0),
    "sessions.limits": ("sessions", "limits"),
    "sessions.limits.people[]": ("sessions", "limits", "people", 0),
    "sessions.queue": ("sessions", "queue"),
    "sessions.prestart": ("sessions", "prestart"),
}


def everything(file: FacilityFile) -> dict[str, Any]:
    """A configuration in which every section stands."""
    data = file.copy()
    data["catalogue"] |= {"harvest_roots": [{"pool": "pool"}], "audit": {"security_log_months": 24}}
    data["sessions"] |= {
        "limits": {"people": [{"role": "everyone", "max_gpus": 0}]},
        "queue": {"max_waiting": 10},
        "prestart": {"enabled": False},
    }
    data["login"]["providers"][0] |= {
        "claims": {"orcid": "eduperson_orcid"},
        "entitlement_namespaces": ["urn:geant:example.org"],
    }
    data["login"] |= {
        "guests": {"max_guests": 3},
        "identity_map": {
            "kind": "ldap",
            "ldap": {"url": "ldaps://ldap.example.org", "base_dn": "ou=people,dc=example,dc=org"},
        },
        "role_rules": [
            {"provider": "community", "entitlement": "urn:geant:example.org:group:staff", "role": "support"}
        ],
    }
    data["catalogue"]["user_offices"].append({"name": "far", "kind": "rest", "url": "https://office.example"})
    data["sessions"]["places"][0] |= {"backend": "docker", "docker": {"url": "unix:///var/run/docker.sock"}}
    data["sessions"]["templates"] = [{"name": "t", "title": "T", "technique": "x", "file": "a/b.ipynb"}]
    return data


def test_the_smallest_file_is_valid(facility_config: Make) -> None:
    config = facility_config().read()
    assert config.short_name == "test"
    assert config.timezone == "UTC"


def test_a_file_with_every_section_is_valid(facility_config: Make) -> None:
    file = facility_config()
    assert read_config(file.write(everything(file))).sessions.places[0].backend == "docker"


def test_every_section_is_tried_below() -> None:
    assert {path for path, _ in sections()} == set(PLACES)


@pytest.mark.parametrize("section", PLACES)
def test_an_unknown_key_of_any_section_names_the_nearest(section: str, facility_config: Make) -> None:
    file = facility_config()
    data = everything(file)
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
    data = everything(file)
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
        "web.internal_url: is missing (Where the hub and sessions reach web)",
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


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("name",), 5, "should be a valid string (got 5)"),
        (("short_name",), "No Spaces", "short_name"),
        (("timezone",), "Paris", "not an IANA time zone"),
        (("timezone",), "../../etc/passwd", "not an IANA time zone"),
        (("timezone",), "", "not an IANA time zone"),
        (("pools",), [], "at least 1"),
        (("pools",), {"a": 1}, "pools: input should be"),
        (("pools", 0, "root"), "relative/x", "not an absolute path"),
        (("pools", 0, "root"), "/a/../b", "'..'"),
        (("hub", "listen_port"), "8081", "should be a valid integer"),
        (("hub", "listen_port"), True, "should be a valid integer"),
        (("hub", "listen_port"), 8081.5, "integer"),
        (("hub", "public_url"), "ftp://x", "hub.public_url"),
        (("hub", "public_url"), "http://host:99999", "hub.public_url"),
        (("hub", "public_url"), "http://user:pw@host", "hub.public_url"),
        (("hub", "public_url"), "http://[::1", "hub.public_url"),
        (("sessions", "profiles", 0, "cpu"), ".inf", "cpu"),
        (("sessions", "profiles", 0, "cpu"), True, "cpu"),
        (("sessions", "profiles", 0, "cpu"), 0, "greater than 0"),
        (("sessions", "places", 0, "backend"), "locl", "'local', 'docker' or 'kubernetes'"),
        (("sessions", "places", 0, "backend"), "docker", "needs a 'docker' section"),
        (("sessions", "places", 0, "link_costs"), {"nowhere": 1.0}, "no pool is called 'nowhere'"),
        (("web", "clients", 0, "scopes"), ["everything:write"], "web.clients[0].scopes[0]"),
        (("web", "base_path"), "no/slash", "web.base_path"),
        (("login", "providers"), None, "login.providers"),
        (("catalogue", "harvest_roots"), [{"pool": "poool"}], "(did you mean 'pool'?)"),
        (
            ("catalogue", "user_offices", 0, "kind"),
            "icat",
            "user_offices[0].kind: input should be 'csv' or 'rest'",
        ),
        (("catalogue", "user_offices", 0, "kind"), "rest", "user_offices[0].url: is missing"),
        (("catalogue", "user_offices", 0, "kind"), "rest", "user_offices[0].members: unknown key"),
        (("catalogue", "user_offices", 0), {"name": "office"}, "user_offices[0].kind: is missing"),
        (("catalogue", "user_offices", 0), "office.csv", "user_offices[0]: "),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    path: tuple[str | int, ...], value: Any, words: str, facility_config: Make
) -> None:
    file = facility_config()
    data = file.copy()
    at(data, path[:-1])[path[-1]] = value
    assert any(words in problem for problem in problems_of(file.write(data)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "http://office.example"}, "user_offices[0].url: 'http://office.example' is not https"),
        ({"url": "http://10.0.0.7/"}, "is not https"),
        ({"url": "http://127.0.0.1.evil.example"}, "is not https"),
        ({"url": "https://user:pw@office.example"}, "user_offices[0].url: "),
        ({"url": "https://office.example/?key=1"}, "user_offices[0].url: "),
        ({"url": "file:///etc/passwd"}, "user_offices[0].url: "),
        ({"poll_interval_s": 0}, "user_offices[0].poll_interval_s: "),
        ({"timeout_s": 1e9}, "user_offices[0].timeout_s: "),
        ({"token": "x"}, "user_offices[0].token: unknown key (did you mean 'token_file'?)"),
        ({"max_age_s": 9}, "user_offices[0].max_age_s: unknown key"),
    ],
)
def test_a_user_office_over_http_is_private_and_bounded(
    fields: dict[str, Any], words: str, facility_config: Make
) -> None:
    file = facility_config()
    data = file.copy()
    rest = {"name": "office", "kind": "rest", "url": "https://office.example"}
    data["catalogue"]["user_offices"] = [rest | fields]
    [problem] = problems_of(file.write(data))
    assert words in problem


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://localhost:9/x", "http://[::1]:9", "https://o.example/x"]
)
def test_a_user_office_may_answer_without_tls_on_this_machine_only(url: str, facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["catalogue"]["user_offices"] = [{"name": "office", "kind": "rest", "url": url}]
    assert read_config(file.write(data)).catalogue.user_offices[0].kind == "rest"


def test_a_token_of_an_office_in_place_of_its_file_is_not_repeated(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    rest = {"name": "office", "kind": "rest", "url": "https://office.example", "token_file": "hunter2"}
    data["catalogue"]["user_offices"] = [rest]
    text = "\n".join(problems_of(file.write(data)))
    assert "catalogue.user_offices[0].token_file" in text
    assert "hunter2" not in text


def test_pools_do_not_lie_in_each_other(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    root = data["pools"][0]["root"]
    data["pools"].append({"name": "inner", "root": f"{root}/x", "target": "/elsewhere"})
    data["pools"].append({"name": "beside", "root": f"{root}2", "target": "/beside"})
    [problem] = problems_of(file.write(data))
    assert problem.startswith("pools[1].root: ")


def test_one_hub_has_one_backend(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["sessions"]["places"].append({"name": "pods", "backend": "kubernetes", "pools": ["pool"]})
    [problem] = problems_of(file.write(data))
    assert problem.startswith("sessions.places: one hub has one backend")


@pytest.mark.parametrize("key", ["client_secret_file", "scopes"])
def test_a_secret_written_in_place_of_its_path_is_not_repeated(key: str, facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["login"]["providers"][0][key] = "hunter2-is-secret"
    text = "\n".join(problems_of(file.write(data)))
    assert f"login.providers[0].{key}" in text
    assert ("hunter2" in text) == (key == "scopes")


def test_a_password_in_a_database_url_is_not_repeated(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["hub"]["database_url"] = ["postgresql://hub:hunter2@db/hub"]
    assert "hunter2" not in "\n".join(problems_of(file.write(data)))


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no mapping of sections"),
        (b"- a\n", "no mapping of sections"),
        (b"just words", "no mapping of sections"),
        (b"\xff\xfe\x00", "not UTF-8 (byte 0)"),
        (b"a: [", "is not YAML"),
        (b"a: 1\n\tb: 2\n", "is not YAML"),
        (b"#" * (MAX_CONFIG_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    [problem] = problems_of(_bytes(tmp_path / "facility.yaml", content))
    assert words in problem


def test_a_byte_order_mark_does_no_harm(facility_config: Make) -> None:
    file = facility_config()
    _bytes(file.path, b"\xef\xbb\xbf" + file.path.read_bytes())
    assert file.read().name == "Test facility"


def test_a_missing_file_a_folder_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert "No such file" in problems_of(tmp_path / "nothing.yaml")[0]
    assert "not a regular file" in problems_of(tmp_path)[0]
    assert "not a regular file" in problems_of(tmp_path / "pipe")[0]
    assert "cannot be read" in problems_of(tmp_path / "loop")[0]


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


def _leaves(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from _leaves(value, (*path, key))


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_valid_or_invalid_and_never_a_traceback(
    data: st.DataObject, facility_config: Make
) -> None:
    file = facility_config()
    content = everything(file)
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(list(_leaves(content))))
        where = at(content, path[:-1])
        match data.draw(st.sampled_from(["replace", "remove", "rename"])):
            case "replace":
                where[path[-1]] = data.draw(junk)
            case "remove":
                where.pop(path[-1])
            case "rename":
                if isinstance(where, dict):
                    where[data.draw(st.text(max_size=20))] = where.pop(path[-1])
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")
    try:
        assert isinstance(read_config(_bytes(file.path, text)), FacilityConfig)
    except ConfigInvalid as error:
        assert error.problems
        assert all(problem.isprintable() for problem in error.problems)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_torn_file_is_valid_or_invalid_and_never_a_traceback(
    data: st.DataObject, facility_config: Make
) -> None:
    file = facility_config()
    whole = file.path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    torn = whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:]
    try:
        assert isinstance(read_config(_bytes(file.path, torn)), FacilityConfig)
    except ConfigInvalid as error:
        assert error.problems


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://web:hunter2@db/beamhub", "database_password_file"),
        ("postgresql://web@db/beamhub?password=hunter2", "database_password_file"),
        ("postgresql+psycopg2://web@db/hunter2", "is neither sqlite"),
        ("mysql://web@db/hunter2", "is neither sqlite"),
        ("hunter2", "is neither sqlite"),
        ("postgresql://web@db:hunter2/beamhub", "is no URL"),
        ("postgresql://web@db", "names no database"),
    ],
)
def test_a_database_url_of_another_form_is_refused_and_not_repeated(
    facility_config: Make, url: str, words: str
) -> None:
    file = facility_config()
    data = file.copy()
    data["web"]["database_url"] = url
    (problem,) = problems_of(file.write(data))
    assert problem.startswith("web.database_url")
    assert words in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://web@db.example.org:5433/beamhub?sslmode=verify-full",
        "postgresql+psycopg://web@/beamhub?host=/run/postgresql&passfile=/etc/beamhub/pgpass",
    ],
)
def test_a_postgresql_url_without_a_password_is_taken(facility_config: Make, url: str) -> None:
    file = facility_config()
    data = file.copy()
    data["web"]["database_url"] = url
    file.write(data)
    assert file.read().web.database_url == url
