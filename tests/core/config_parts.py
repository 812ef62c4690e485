"""Configurations to break, and what is said of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config import read_config
from beamhub_core.errors import ConfigInvalid
from facility_file import FacilityFile

Make = Callable[..., FacilityFile]


def problems_of(path: Path) -> tuple[str, ...]:
    """All that is said of an invalid file."""
    with pytest.raises(ConfigInvalid) as caught:
        read_config(path)
    assert caught.value.exit_code == 7
    assert str(path) in str(caught.value)
    assert caught.value.problems
    return caught.value.problems


def at(data: Any, path: tuple[str | int, ...]) -> Any:
    """What stands at a place of a configuration: a section, or the last step's list or mapping."""
    for step in path:
        data = data[step]
    return data


TLS = {name: f"/etc/beamhub/{name}.pem" for name in ("ca_file", "cert_file", "key_file")}
PLACES_OF_BACKENDS: dict[str, dict[str, Any]] = {
    "docker": {
        "url": "https://node1.example.org:8443",
        "tls": TLS,
        "network_block": "10.77.0.0/16",
        "peers": [{"container": "beamhub-proxy", "alias": "proxy"}],
    },
    "kubernetes": {
        "namespace": "sessions",
        "volumes": {"pool": {"claim": "pool-a"}},
        "homes": {"claim": "homes"},
        "unmapped_homes": {"claim": "unmapped"},
        "scratch": {"claim": "scratch"},
        "keeper_url": "https://keeper.example.org:8443",
        "keeper_tls": TLS,
        "tolerations": [{"key": "beamline"}],
    },
}


def everything(file: FacilityFile, backend: str = "docker") -> dict[str, Any]:
    """A configuration in which every section stands that one with places of a backend can have."""
    data = file.copy()
    data["catalogue"] |= {"harvest_roots": [{"pool": "pool"}], "audit": {"security_log_months": 24}}
    data["sessions"] |= {
        "limits": {"people": [{"role": "everyone", "max_gpus": 0}]},
        "queue": {"max_waiting": 10},
        "idle": {"warning_min": 10},
        "pre_start": {"unused_min": 20},
    }
    data["catalogue"]["publication"] = {
        "admin_email": "data@example.org",
        "publisher_ror": "https://ror.org/02550n020",
        "oai": {"namespace": "example.org"},
        "doi": {"prefix": "10.12345", "user": "BL.TEST", "password_file": str(file.folder / "datacite")},
    }
    data["gateway"] = {
        "session_url": "http://127.0.0.1:8786",
        "web_token_file": str(file.folder / "gateway-web"),
        "database_url": "sqlite:////srv/gateway.sqlite",
        "keys_file": str(file.folder / "gateway-keys"),
        "state_folder": str(file.folder / "gateway"),
        "limits": {
            "person": {"max_workers": 8},
            "proposal": {"max_cpu": 64},
            "groups": [{"name": "staff", "gid": 100}],
        },
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
    other = {"url": "https://other.example.org", "token_file": str(file.folder / "other")}
    data["catalogue"]["sources"] = [
        {"name": "scicat", "kind": "scicat", **other},
        {"name": "icat", "kind": "icat", "url": other["url"], "username": "reader"}
        | {"password_file": other["token_file"]},
        {"name": "mymdc", "kind": "mymdc", "proposals": ["700000"], **other},
        {"name": "hub", "kind": "beamhub", **other},
    ]
    data["sessions"]["places"][0] |= {"backend": backend, backend: copy.deepcopy(PLACES_OF_BACKENDS[backend])}
    data["sessions"] |= {"homes": {"quota_gib": 5}, "scratch": {"folder": str(file.folder / "scratch")}}
    data["sessions"]["templates"] = [{"name": "t", "title": "T", "technique": "x", "file": "a/b.ipynb"}]
    return data
