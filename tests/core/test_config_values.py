"""Wrong values in `facility.yaml`: each is named with its place, and a secret among them is not repeated."""

from __future__ import annotations

from typing import Any

import pytest

from beamhub_core.config import read_config
from core.config_parts import PLACES_OF_BACKENDS, Make, at, problems_of


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
    kubernetes = PLACES_OF_BACKENDS["kubernetes"]
    data["sessions"]["places"].append(
        {"name": "pods", "backend": "kubernetes", "pools": ["pool"], "kubernetes": kubernetes}
    )
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
