"""A small facility on disk: a pool, a user office, a policy, and NeXus files that h5py writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from sqlalchemy import select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import LostEntitlementRow
from beamhub_core.config import FacilityConfig
from beamhub_core.identity import Entitlement, FacilityRole, Principal, account_name
from beamhub_core.session import SessionPlan
from beamhub_core.techniques import POWDER_DIFFRACTION
from postgresql_server import databases, sqlite_url

ISSUER = "https://provider.example/oidc"
NAMESPACE = "urn:geant:provider.example"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TOKENS = {"hub": "hub-token-0123456789abcdef", "reader": "reader-token-0123456789abcdef"}
CLASSES: dict[str, Any] = {
    "open": {"embargo_months": 0, "metadata": "public", "license": "CC-BY-4.0"},
    "standard": {"embargo_months": 36, "metadata": "public", "license": "CC-BY-4.0"},
    "confidential": {"embargo_months": 36, "metadata": "team"},
}
PROPOSAL_HEADER = "proposal,title,class,instrument,start,end"
MEMBER_HEADER = "proposal,issuer,subject,orcid,facility_account,name,role,from,until"
PROPOSALS = (
    "OP-1,Standards,open,bl09,2021-03-01,2021-03-04",
    "MA-2,Electrodes,standard,bl09,2025-10-06,2025-10-09",
    "TO-3,Steel welds,confidential,tofd,2025-11-03,2025-11-07",
)
MEMBERS = (
    f"MA-2,{ISSUER},ines,,,Ines Ferreira,pi,,",
    f"TO-3,{ISSUER},ines,,,Ines Ferreira,member,,",
    "MA-2,,,0000-0002-1825-0097,,Sam Okafor,local_contact,,",
)


@dataclass
class MovableClock:
    """The present of a test."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


def person(
    subject: str,
    *proposals: str,
    role: FacilityRole | None = None,
    orcid: str | None = None,
    checked_at: datetime = NOW,
) -> Principal:
    """A principal with entitlements for proposals."""
    return Principal(
        issuer=ISSUER,
        subject=subject,
        account=account_name(ISSUER, subject),
        display_name=f"{subject.title()} Example",
        orcid=orcid,
        entitlements=tuple(
            Entitlement(namespace=NAMESPACE, group="proposals", subgroups=(p,), role="member")
            for p in proposals
        ),
        roles=(role,) if role else (),
        checked_at=checked_at,
    )


INES, OSCAR = person("ines"), person("oscar", "XX-1")
COLIN = person("colin", "MA-2", "TO-3")
SAM = person("sam", role="instrument_scientist")


@dataclass
class Facility:
    """A facility in a folder, and the catalogue on it."""

    folder: Path
    clock: MovableClock = field(default_factory=MovableClock)
    wall_clock: MovableClock = field(default_factory=MovableClock)
    changes: dict[str, Any] = field(default_factory=dict)
    on_sqlite: bool = False
    """For tests about SQLite's own files; else --database decides."""

    @property
    def pool(self) -> Path:
        """The root of the one pool."""
        return self.folder / "pool"

    def prepare(self) -> None:
        """Write everything but data files."""
        for name in ("pool", "secrets", "web", "homes"):
            (self.folder / name).mkdir(exist_ok=True)
        for name, token in TOKENS.items():
            (self.folder / "secrets" / name).write_text(token + "\n")
        self.write_policy(CLASSES)
        self.write_office()

    def write_policy(self, classes: dict[str, Any], version: str = "t1") -> None:
        """Replace the policy."""
        self.write_document({"version": version, "timezone": "Europe/Paris", "classes": classes})

    def write_document(self, document: dict[str, Any]) -> None:
        """Replace the policy by a whole document."""
        replace_file(self.folder / "policy.yaml", yaml.safe_dump(document))

    def write_office(
        self, proposals: tuple[str, ...] = PROPOSALS, members: tuple[str, ...] = MEMBERS
    ) -> None:
        """Replace the user office's files."""
        replace_file(self.folder / "proposals.csv", "\n".join([PROPOSAL_HEADER, *proposals, ""]))
        replace_file(self.folder / "members.csv", "\n".join([MEMBER_HEADER, *members, ""]))

    def database_url(self) -> str:
        """Where the catalogue keeps its rows."""
        return sqlite_url(self.folder) if self.on_sqlite else databases.url(self.folder)

    def config(self) -> FacilityConfig:
        """The configuration."""
        secret = self.folder / "secrets" / "hub"
        return FacilityConfig.model_validate(
            {
                "name": "Test facility",
                "short_name": "test",
                "timezone": "Europe/Paris",
                "pools": [{"name": "pool", "root": self.pool, "target": self.pool}],
                "login": {
                    "providers": [
                        {
                            "name": "p",
                            "title": "P",
                            "issuer": ISSUER,
                            "client_id": "c",
                            "client_secret_file": secret,
                            "entitlement_namespaces": [NAMESPACE],
                        }
                    ]
                },
                "hub": {
                    "public_url": "http://127.0.0.1:8000",
                    "database_url": "sqlite://",
                    "state_folder": self.folder / "hub",
                    "crypt_key_file": secret,
                    "cookie_secret_file": secret,
                    "web_client_token_file": secret,
                    "proxy": {"api_url": "http://127.0.0.1:8001", "token_file": secret},
                },
                "web": {
                    "internal_url": "http://127.0.0.1:8082",
                    "hub_api_url": "http://127.0.0.1:8081/hub/api",
                    "hub_service_token_file": secret,
                    "cookie_secret_file": secret,
                    "database_url": self.database_url(),
                    "state_folder": self.folder / "web",
                    "clients": [
                        {
                            "name": "hub",
                            "token_file": self.folder / "secrets" / "hub",
                            "scopes": [
                                "principals:write",
                                "grants:read",
                                "plans:read",
                                "usage:write",
                                "plans:write",
                                "sessions:recheck",
                                "harvest:write",
                            ],
                        },
                        {
                            "name": "reader",
                            "token_file": self.folder / "secrets" / "reader",
                            "scopes": ["plans:read"],
                        },
                    ],
                },
                "catalogue": {
                    "policy_file": self.folder / "policy.yaml",
                    "user_offices": [
                        {
                            "name": "office",
                            "kind": "csv",
                            "proposals": self.folder / "proposals.csv",
                            "members": self.folder / "members.csv",
                        }
                    ],
                    "harvest_roots": [{"pool": "pool"}],
                    "unfinished_wait_s": 0,
                }
                | self.changes,
                "sessions": {
                    "places": [{"name": "here", "backend": "local", "pools": ["pool"]}],
                    "profiles": [{"name": "small", "title": "S", "cpu": 1, "memory_gib": 1}],
                    "environments": [{"name": "standard", "title": "S", "image": "local"}],
                    "templates_folder": self.folder,
                    "homes_folder": self.folder / "homes",
                    "state_folder": self.folder / "sessions",
                    "web_url": "http://127.0.0.1:8082",
                },
            }
        )

    def service(self) -> CatalogueService:
        """A catalogue; the caller stops it."""
        return CatalogueService(self.config(), self.clock, self.wall_clock)

    def service_by_the_machines_clock(self) -> CatalogueService:
        """A catalogue as it runs in production; the caller stops it."""
        return CatalogueService(self.config())


def replace_file(path: Path, text: str) -> None:
    """As a careful program replaces a file: its inode changes with it."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def write_master(
    path: Path, *, title: str = "Si powder", links: dict[str, str] | None = None, **facts: str
) -> Path:
    """A NeXus master: an entry with a small detector stack, or with external links in its place.

    `links` are external files by the name of the dataset that stands for them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"start_time": "2025-10-07T09:00:00+02:00", "end_time": "2025-10-07T09:10:00+02:00"} | facts
    with h5py.File(path, "w") as file:
        file.attrs["NX_class"] = "NXroot"
        entry = _group(file, "entry", "NXentry")
        entry["title"] = title
        for name, value in told.items():
            entry[name] = value
        instrument = _group(entry, "instrument", "NXinstrument")
        instrument["name"] = "bl09"
        detector = _group(instrument, "detector", "NXdetector")
        if links:
            for name, target in links.items():
                detector[name] = h5py.ExternalLink(target, "/entry_0000/data")
        else:
            detector["data"] = np.random.default_rng(1).poisson(5, (3, 16, 16)).astype("u2")
        _group(entry, "sample", "NXsample")["name"] = "Si"
        technique = _group(entry, "technique", "NXnote")
        technique["pid"], technique["name"] = POWDER_DIFFRACTION, "x-ray powder diffraction"
        monochromator = _group(instrument, "monochromator", "NXmonochromator")
        monochromator["wavelength"] = 0.5
        monochromator["wavelength"].attrs["units"] = "angstrom"
    return path


def write_detector_file(path: Path) -> Path:
    """What a detector writes by itself: an entry with frames, and nothing that says of what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        entry = _group(file, "entry_0000", "NXentry")
        entry["data"] = np.ones((2, 16, 16), "u2")
    return path


def write_product(path: Path, *inputs: str, **told: Any) -> Path:
    """A product with its provenance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    provenance = {
        "inputs": list(inputs),
        "proposal": "MA-2",
        "technique": POWDER_DIFFRACTION,
        "parameters": {"bins": 1000, "unit": "q_nm^-1"},
        "software": {"beamhub_reduction": "0.1"},
        "environment": "standard",
        "image": "local",
        "who": "Ines Ferreira",
        "account": INES.account,
        "plan_id": None,
        "made_at": "2026-05-01T10:00:00+00:00",
        "title": "Pattern of Si",
    } | told
    with h5py.File(path, "w") as file:
        entry = _group(file, "entry", "NXentry")
        entry.attrs["default"] = "data"
        entry["title"] = str(provenance["title"])
        data = _group(entry, "data", "NXdata")
        data.attrs["signal"], data.attrs["axes"] = "intensity", ["q"]
        data["q"], data["intensity"] = np.linspace(1, 50, 100), np.random.default_rng(len(inputs)).random(100)
        process = _group(entry, "process", "NXprocess")
        note = _group(process, "provenance", "NXnote")
        note["type"], note["data"] = "application/json", json.dumps(provenance)
        evidence = {"frames": {"read": 12, "missing": 1}, "integrity": "not verifiable", "other": "unknown"}
        _group(process, "evidence", "NXnote")["data"] = json.dumps(evidence)
    return path


def _group(parent: Any, name: str, nx_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def session_plan(
    facility: Facility, who: Principal, *, processed: str | None = "MA-2", number: int = 1, **changes: Any
) -> SessionPlan:
    """A plan of a local session of a person with a home and, by default, one processed folder."""
    home = facility.folder / "homes" / who.account
    mounts = [
        {"pool": "home", "path": who.account, "source": home, "target": home, "mode": "rw", "purpose": "home"}
    ]
    if processed is not None:
        folder = facility.pool / processed / "processed"
        mounts.append(
            {
                "pool": "pool",
                "path": f"{processed}/processed",
                "source": folder,
                "target": folder,
                "mode": "rw",
                "purpose": "processed",
                "proposal": processed,
            }
        )
    words = {
        "id": f"{number:032x}",
        "account": who.account,
        "server_name": f"d-{number:010x}",
        "display_name": who.display_name,
        "principal_label": who.subject,
        "place": {
            "name": "here",
            "backend": "local",
            "pools": ["pool"],
            "healthy_pools": ["pool"],
            "capacity": 4,
        },
        "environment": "standard",
        "image": "local",
        "profile": "small",
        "mounts": [{**m, "source": str(m["source"]), "target": str(m["target"])} for m in mounts],
        "datasets": [],
        "template": None,
        "uid": None,
        "gid": None,
        "limits": {"cpu": 1, "memory_gib": 1},
        "cluster_limits": {"max_workers": 2, "threads_per_worker": 1, "memory_gib": 1},
        "environment_variables": {},
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=8),
        "policy_version": "t1",
        "explain": {"chosen": "here", "because": "only place", "verdicts": []},
    }
    return SessionPlan.model_validate(words | changes)


def note(subject: str) -> LostEntitlementRow:
    """A small row to write."""
    return LostEntitlementRow(account=subject, proposal="test", lost_at=NOW)


def subjects(database: Database) -> list[str]:
    """Of whom there is a note()."""
    with database.reading() as session:
        return sorted(session.scalars(select(LostEntitlementRow.account)))
