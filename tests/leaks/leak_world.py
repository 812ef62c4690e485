"""A facility of secrets: each has words that stand nowhere else, so that any answer with one is a leak.

The policy's clock stands one second before, at, or one second after the midnight at which an embargo and
some memberships end together.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from beamhub_core.identity import Principal
from catalogue.catalogue_parts import (
    ISSUER,
    MEMBER_HEADER,
    PROPOSAL_HEADER,
    Facility,
    person,
    replace_file,
    write_product,
)

Level = Literal["hidden", "metadata", "full"]
LAST_DAY, MIDNIGHT = "2026-05-31", datetime(2026, 5, 31, 22, tzinfo=UTC)  # 1 June in Paris
CLOCKS = {-1: MIDNIGHT - timedelta(seconds=1), 0: MIDNIGHT, 1: MIDNIGHT + timedelta(seconds=1)}
BEFORE = -1
CLASSES = {
    "open": {"embargo_months": 0, "metadata": "public", "license": "CC-BY-4.0"},
    "standard": {"embargo_months": 36, "metadata": "public", "license": "CC-BY-4.0"},
    "confidential": {"embargo_months": 36, "metadata": "team"},
    "sealed": {"embargo_months": 240, "metadata": "team"},
}
STATION = "station"
"""The secret whose instrument the scientist is in charge of."""


def word(*of: str) -> str:
    """Letters that stand nowhere else; the same for the same names."""
    digits = hashlib.sha256("/".join(of).encode()).digest()
    return "Zq" + "".join(chr(ord("a") + byte % 26) for byte in digits[:14])


def twin(text: str) -> str:
    """A word of the same shape that nothing has; no public word sorts between the two."""
    letter = "a" if text[-1] != "a" else "b"
    return text[:-1] + letter if text.isalpha() else text.replace(text[-1], "8" if text[-1] != "8" else "7")


@dataclass
class Secret:
    """A dataset with the words that it alone has.

    `told` are those that its metadata class may say before the date, `kept` those that only a reader of the
    data may see. `within` is the proposal of a product. `pid` is known after the harvest.
    """

    name: str
    embargo_class: str
    ended: str
    told: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    within: str = ""
    pid: str = ""

    def __post_init__(self) -> None:
        if not self.told:
            names = ("proposal", "proposal_title", "title", "instrument", "technique", "stem", "person")
            self.told = {one: word(self.name, one) for one in names}
        if not self.kept:
            self.kept = {one: word(self.name, one) for one in ("sample", "detector", "linked", "missing")}

    @property
    def proposal(self) -> str:
        """The proposal's id."""
        return self.within or self.told["proposal"]

    @property
    def raw_pid(self) -> str:
        """What harvest calls it."""
        return f"test:{self.proposal}:{self.told['stem']}"


def product_of(name: str, proposal: str) -> Secret:
    """A product with words of its own in a proposal whose words are told elsewhere."""
    told = {"title": word(name, "title")}
    kept = {one: word(name, one) for one in ("parameter", "value", "software", "maker", "file")}
    return Secret(name, "", "", told, kept, proposal)


ENDS = "2023-05-31"  # with 36 months of embargo, the last closed day is LAST_DAY
CLOSING = Secret("closing", "confidential", ENDS)
SEALED = Secret("sealed", "sealed", ENDS)
ANNOUNCED = Secret("announced", "standard", ENDS)
OPEN = Secret("open", "open", "2021-03-04")
GONE = Secret("gone", "open", "2021-03-04")
GONE_HIDDEN = Secret("gone hidden", "confidential", ENDS)
ORPHAN = Secret("orphan", "", "")
RAW = (CLOSING, SEALED, ANNOUNCED, OPEN, GONE, GONE_HIDDEN, ORPHAN)
MIXED = product_of("mixed", OPEN.proposal)
PRIVATE = product_of("private", OPEN.proposal)
EARLY = product_of("early", ANNOUNCED.proposal)
SECRETS = (*RAW, MIXED, PRIVATE, EARLY)
for _one in (CLOSING, SEALED):
    _one.told["instrument"] = word(STATION)

OWNER, MEMBER, FORMER = person("owner"), person("member"), person("former", CLOSING.proposal)
SCIENTIST, STRANGER = person("scientist"), person("stranger", word("elsewhere"))
GUEST, SERVICE = person("guest", role="guest"), person("service", role="service")
PEOPLE: dict[str, Principal | None] = {
    "owner": OWNER,
    "member": MEMBER,
    "former": FORMER,
    "scientist": SCIENTIST,
    "stranger": STRANGER,
    "guest": GUEST,
    "anonymous": None,
    "service": SERVICE,
}


def level_of(secret: Secret, who: str, clock: int) -> Level:
    """What one may see of a secret, told by hand: the policy above and nothing of the code under test."""
    past = clock != BEFORE
    team = who in ("owner", "member")
    levels: dict[str, Level] = {
        "closing": "full" if past or team or who == "scientist" else "hidden",
        # The member's row and the scientist's assignment end at the instant.
        "sealed": "full" if who == "owner" or (not past and who in ("member", "scientist")) else "hidden",
        "announced": "full" if past or team else "metadata",
        "open": "full",
        "gone": "metadata",
        "gone hidden": "metadata" if past or team else "hidden",
        "orphan": "hidden",
        "mixed": "full" if past or team or who == "scientist" else "hidden",
        "private": "full" if who == "owner" else "hidden",
        "early": "full" if past or team else "metadata",
    }
    return levels[secret.name]


def forbidden_words(who: str, clock: int) -> dict[str, str]:
    """Words that no answer may hold, with what they are of."""
    allowed: set[str] = set()
    found: dict[str, str] = {}
    for secret in SECRETS:
        level = level_of(secret, who, clock)
        told = secret.told if level != "hidden" else {}
        kept = secret.kept if level == "full" else {}
        allowed |= {*told.values(), *kept.values()}
        found |= {text: f"{secret.name}: {name}" for name, text in (secret.told | secret.kept).items()}
    return {text: what for text, what in found.items() if text not in allowed}


def write_world(facility: Facility) -> None:
    """Everything on disk but what a harvest and the internal API add."""
    facility.prepare()
    facility.write_document({"version": "leaks", "timezone": "Europe/Paris", "classes": CLASSES})
    known = [one for one in RAW if one.embargo_class]
    rows = [
        f"{one.proposal},{one.told['proposal_title']},{one.embargo_class},{one.told['instrument']},"
        f"{one.ended[:8]}01,{one.ended}"
        for one in known
    ]
    members = [
        f"{one.proposal},{ISSUER},owner,,,{one.told['person']},pi,,"
        for one in known
        if one not in (OPEN, GONE)
    ]
    for one in (CLOSING, ANNOUNCED, GONE_HIDDEN, SEALED):
        until = LAST_DAY if one is SEALED else ""
        members.append(f"{one.proposal},{ISSUER},member,,,{one.told['person']},member,,{until}")
        members.append(f"{one.proposal},{ISSUER},former,,,{one.told['person']},member,,2024-01-01")
    replace_file(facility.folder / "proposals.csv", "\n".join([PROPOSAL_HEADER, *rows, ""]))
    replace_file(facility.folder / "members.csv", "\n".join([MEMBER_HEADER, *members, ""]))
    for number, secret in enumerate(RAW):
        secret.pid = secret.raw_pid
        write_raw(facility.pool, secret, number)
    write_raw(facility.pool, ANNOUNCED, 40, stem=f"{ANNOUNCED.told['stem']}-2")  # smaller, and later by pid


def write_raw(pool: Path, secret: Secret, number: int, stem: str = "") -> None:
    """A master file that links to a detector's file, and to one that is missing."""
    stem = stem or secret.told["stem"]
    folder = pool / secret.proposal / "raw" / stem
    folder.mkdir(parents=True)
    detector = folder / f"{secret.kept['linked']}.h5"
    frames = np.random.default_rng(number).poisson(5, (3 if number == 40 else 9, 16, 16)).astype("u2")
    with h5py.File(detector, "w") as file:
        entry = _group(file, "entry_0000", "NXentry")
        entry["data"] = frames
    with h5py.File(folder / f"{stem}.h5", "w") as file:
        entry = _group(file, "entry", "NXentry")
        entry["title"] = secret.told["title"]
        entry["start_time"] = entry["end_time"] = f"202{number % 5}-10-07T09:00:00+02:00"
        entry["experiment_identifier"] = secret.proposal
        instrument = _group(entry, "instrument", "NXinstrument")
        instrument["name"] = secret.told["instrument"]
        shown = _group(instrument, secret.kept["detector"], "NXdetector")
        shown["data"] = h5py.ExternalLink(detector.name, "/entry_0000/data")
        shown["more"] = h5py.ExternalLink(f"{secret.kept['missing']}.h5", "/entry_0000/data")
        _group(entry, "sample", "NXsample")["name"] = secret.kept["sample"]
        _group(entry, "technique", "NXnote")["name"] = secret.told["technique"]


def write_made(path: Path, secret: Secret, inputs: tuple[Secret, ...]) -> Path:
    """A product that the owner made."""
    return write_product(
        path,
        *(one.pid for one in inputs),
        proposal=secret.proposal,
        title=secret.told["title"],
        parameters={secret.kept["parameter"]: secret.kept["value"]},
        software={secret.kept["software"]: "1"},
        who=secret.kept["maker"],
        account=OWNER.account,
        technique="",
    )


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group
