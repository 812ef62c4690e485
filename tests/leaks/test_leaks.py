"""Nothing that one may not know stands in, or changes, any answer: every route, identity and instant.

Each secret has words that stand nowhere else. For every identity and clock, each route is asked about a
secret and about a made-up thing of the same shape: no answer may hold a word that is not to be told, and
both answers have to be the same. Filters of the search API are asked at one instant of each identity. Set
BEAMHUB_LEAKS=full to ask every route about every secret, at every instant.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlencode

import pytest
from fastapi import routing
from httpx import Response

from leaks.leak_house import BASE, HUB_TOKEN, Caller, House, open_house
from leaks.leak_probes import (
    FIELDS,
    KEPT_FIELDS,
    ROUTES,
    Pairs,
    Probe,
    account_of,
    filtered,
    pairs_of,
    plain_probes,
    search_probes,
    swap,
)
from leaks.leak_world import (
    ANNOUNCED,
    BEFORE,
    CLOCKS,
    CLOSING,
    GONE,
    GONE_HIDDEN,
    OPEN,
    ORPHAN,
    PEOPLE,
    SEALED,
    SECRETS,
    Secret,
    forbidden_words,
    level_of,
)

pytestmark = pytest.mark.slow

Key = tuple[str, str]
Plain = tuple[int, list[tuple[str, str]], str]
RANDOM = re.compile(r'(Reference <code>|"reference":"|state=|code_challenge=|traceparent=)[\w-]{8,55}')
FULL = os.environ.get("BEAMHUB_LEAKS") == "full"
SKIPPED_HEADERS = ("set-cookie", "date")
SHORT = (
    ("GET", f"{BASE}/datasets/{{pid}}"),
    ("GET", f"{BASE}/datasets/{{pid}}/preview.png"),
    ("GET", f"{BASE}/open"),
    ("GET", "/api/Datasets/{pid}"),
    ("GET", "/api/Datasets/{pid}/files"),
    ("POST", "/internal/grants"),
)
"""Routes that are asked about every secret; about one of each kind, all are."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("leaks")) as made:
        yield made


@dataclass
class Sweep:
    """All questions of one identity at one instant."""

    house: House
    who: str
    clock: int

    def __post_init__(self) -> None:
        self.house.at(self.clock)
        self.caller: Caller = self.house.callers[self.who]
        self.forbidden = forbidden_words(self.who, self.clock)
        # What somebody did while they might stays in their own history: see docs/reference/audit.md.
        self.never_known = forbidden_words(self.who, min(CLOCKS))
        self.answers: dict[str, Response] = {}
        self.made_up: dict[str, Plain] = {}

    def ask(self, probe: Probe) -> Response:
        """One answer, looked through together with what it made the platform log; asked once."""
        if probe.key not in self.answers:
            self.answers[probe.key] = self._ask(probe)
        return self.answers[probe.key]

    def _ask(self, probe: Probe) -> Response:
        first_line = len(self.house.heard.lines)
        answer = self._send(probe)
        asked = unquote_plus(probe.text)
        lines = self.house.heard.lines[first_line:]
        shown = [answer.text, *answer.headers.values()] if answer.content else [*answer.headers.values()]
        own_history = probe.path.partition("?")[0] == f"{BASE}/audit"
        for text, what in self.forbidden.items():
            if text in asked or (own_history and text not in self.never_known):
                continue
            assert not any(text in one for one in shown), f"{self} is told {what} by {probe}: {answer.text}"
            assert not any(text in one for one in lines), f"{self} has {what} logged by {probe}: {lines}"
        for token in (HUB_TOKEN, self.caller.token, *self.caller.cookies.values()):
            assert token is None or not any(token in line for line in lines), f"a token is logged by {probe}"
        return answer

    def _send(self, probe: Probe) -> Response:
        account = account_of(self.who)
        body = json.loads(json.dumps(probe.body).replace("{account}", account))
        if probe.as_hub:
            return self.house.internal(probe.method, probe.path.removeprefix("/internal"), body)
        form = {name: value.replace("{xsrf}", self.caller.xsrf) for name, value in probe.form.items()}
        caller, token = self.caller, None
        if probe.with_token and caller.token is not None:
            caller, token = Caller(caller.name), caller.token
        return self.house.ask(caller, probe.method, probe.path, form=form, body=body, token=token)

    def compare(self, probe: Probe, pairs: Pairs) -> None:
        """One answer, the same as that about a made-up thing."""
        answer, other = self.ask(probe), probe.swapped(pairs)
        if other.key == probe.key:
            return
        # Secrets of one shape share their made-up thing, but where a word is put in order by its letters.
        shape = probe.key if "gte" in probe.path else swap(probe.key, pairs, mark="?")
        if shape not in self.made_up:
            self.made_up[shape] = plain(self.ask(other), pairs)
        assert plain(answer, pairs) == self.made_up[shape], f"{self}: {probe} tells apart"

    def __str__(self) -> str:
        return f"{self.who} at {self.clock:+d} s"


def plain(answer: Response, pairs: Pairs) -> Plain:
    """An answer without the asked words and without what is random."""
    headers = [
        (name, RANDOM.sub(r"\1", swap(value, pairs, mark="?")))
        for name, value in sorted(answer.headers.items())
        if name not in SKIPPED_HEADERS
    ]
    body = answer.text if answer.headers.get("content-type") != "image/png" else answer.content.hex()
    return answer.status_code, headers, RANDOM.sub(r"\1", swap(body, pairs, mark="?"))


def routes_of(house: House) -> set[Key]:
    """Method and path of every route of the app, and its mounts."""
    found: set[Key] = set()
    for route in routing.iter_route_contexts(house.app.routes):
        if route.methods is None:
            found.add(("MOUNT", str(route.path)))
        found |= {(method, str(route.path)) for method in route.methods or () if method != "HEAD"}
    return found


def secrets_to_ask(who: str, clock: int) -> Iterable[tuple[Secret, bool]]:
    """Every secret, and whether all routes are asked about it: about one hidden one, and a half told one."""
    hidden = [one for one in (CLOSING, SEALED, ORPHAN) if level_of(one, who, clock) == "hidden"]
    half = level_of(ANNOUNCED, who, clock) == "metadata"
    for secret in SECRETS:
        chosen = secret is hidden[0] or (secret is ANNOUNCED and half)
        yield secret, chosen or FULL


def test_every_route_of_the_app_is_asked(house: House) -> None:
    """A route that is not in the table yet fails here: say there what of a secret it could be asked."""
    assert routes_of(house) == set(ROUTES)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("who", PEOPLE)
def test_no_answer_tells_or_depends_on_what_one_may_not_know(house: House, who: str, clock: int) -> None:
    sweep = Sweep(house, who, clock)
    searches = FULL or clock == list(CLOCKS)[list(PEOPLE).index(who) % len(CLOCKS)]
    for secret, everywhere in secrets_to_ask(who, clock):
        level = level_of(secret, who, clock)
        pairs = pairs_of(secret, sweep.forbidden)
        for key in ROUTES if everywhere else SHORT:
            for probe in ROUTES[key](secret):
                sweep.compare(probe, pairs) if level != "full" else sweep.ask(probe)
            house.combinations.add((*key, who, clock))
        if everywhere and searches and level != "full" and (secret is not ORPHAN or FULL):
            for probe in search_probes(secret, FIELDS if level == "hidden" else KEPT_FIELDS):
                sweep.compare(probe, pairs)
    for probe in plain_probes():
        sweep.ask(probe)


def seen_in_lists(house: House, caller: Caller) -> dict[str, set[str]]:
    """The pids that each kind of list shows to an identity."""
    page = house.ask(caller, "GET", f"{BASE}/").text
    return {
        "api": {one["pid"] for one in house.ask(caller, "GET", "/api/Datasets").json()},
        "api below the base": {one["pid"] for one in house.ask(caller, "GET", f"{BASE}/api/Datasets").json()},
        "portal": set(re.findall(rf'href="{BASE}/datasets/([^"/]+)"', page)),
        "of documents": {
            one["pid"]
            for document in house.ask(caller, "GET", filtered("/api/Documents", include=["datasets"])).json()
            for one in document["datasets"]
        },
    }


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("who", PEOPLE)
def test_all_routes_agree_on_what_one_may_know_and_read(house: House, who: str, clock: int) -> None:
    house.at(clock)
    caller = house.callers[who]
    lists = seen_in_lists(house, caller)
    for secret in SECRETS:
        level = level_of(secret, who, clock)
        known, read = level != "hidden", level == "full"
        assert {name: secret.pid in pids for name, pids in lists.items()} == dict.fromkeys(lists, known)
        status = {
            "page": house.ask(caller, "GET", f"{BASE}/datasets/{secret.pid}").status_code,
            "api": house.ask(caller, "GET", f"/api/Datasets/{secret.pid}").status_code,
            "files": house.ask(caller, "GET", f"/api/Datasets/{secret.pid}/files").status_code,
        }
        gone = secret in (GONE, GONE_HIDDEN)
        page = 410 if known and gone else 200 if known else 404
        assert status == dict.fromkeys(status, 200 if known else 404) | {"page": page}, (secret.name, level)
        where = {"where": json.dumps({"pid": secret.pid})}
        count = house.ask(caller, "GET", f"/api/Datasets/count?{urlencode(where)}").json()["count"]
        n_files = house.ask(caller, "GET", f"/api/Datasets/{secret.pid}/files/count").json().get("count", 0)
        preview = house.ask(caller, "GET", f"{BASE}/datasets/{secret.pid}/preview.png").status_code
        assert (count, n_files > 0, preview == 200) == (int(known), read, read), (secret.name, level)
        if who != "anonymous":
            grants = house.internal(
                "POST", "/grants", {"account": account_of(who), "datasets": [secret.pid]}
            ).status_code
            opened = house.ask(caller, "GET", f"{BASE}/open?{urlencode({'pid': secret.pid})}").status_code
            expected = 200 if read else 403 if known else 404
            at_home = read and secret.name == "private"  # it is opened from the home itself
            assert (opened, grants) == (expected, 403 if at_home else expected), (secret.name, level)


@pytest.mark.parametrize("clock", [BEFORE, 0])
@pytest.mark.parametrize("who", PEOPLE)
def test_counts_and_facets_count_what_the_lists_show(house: House, who: str, clock: int) -> None:
    house.at(clock)
    caller = house.callers[who]
    for top in ("Datasets", "Documents", "Instruments"):
        listed = house.ask(caller, "GET", f"/api/{top}").json()
        assert house.ask(caller, "GET", f"/api/{top}/count").json() == {"count": len(listed)}
    page = house.ask(caller, "GET", f"{BASE}/").text
    total = page.count('<article class="hit">')
    assert f"<strong>{total}</strong> dataset" in page
    assert house.ask(caller, "GET", "/api/Datasets/count").json() == {"count": total}
    for name in ("technique", "instrument"):
        chooser = re.search(rf'<select[^>]* name="{name}".*?</select>', page, re.DOTALL)
        assert chooser is not None
        facets = re.findall(r'<option value="([^"]*)">[^<]* \((\d+)\)</option>', chooser[0])
        assert sum(int(count) for _, count in facets) == total
        for value, count in (one for one in facets if one[0]):
            narrowed = house.ask(caller, "GET", f"{BASE}/?{urlencode({name: value})}").text
            assert narrowed.count('<article class="hit">') == int(count)


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
def test_a_size_that_one_may_not_know_does_not_sort(house: House, direction: str) -> None:
    house.at(BEFORE)
    where = {"pid": {"like": f"test:{ANNOUNCED.proposal}:%"}}
    path = filtered("/api/Datasets", where=where, order=[f"size {direction}"])
    asked = {who: house.ask(house.callers[who], "GET", path).json() for who in ("owner", "stranger")}
    pids = {who: [one["pid"] for one in items] for who, items in asked.items()}
    assert pids["stranger"] == sorted(pids["stranger"])
    sizes = [one["size"] for one in asked["owner"]]
    assert sizes == sorted(sizes, reverse=direction == "DESC")
    assert len(set(sizes)) == 3


def test_a_reader_finds_every_word_of_what_is_open(house: House) -> None:
    """The words are really there: else nothing above would prove anything."""
    house.at(0)
    caller = house.callers["stranger"]
    found = house.ask(caller, "GET", f"{BASE}/datasets/{OPEN.pid}").text
    include = ["files", "parameters", "samples", "techniques", "instrument", "documents"]
    found += house.ask(caller, "GET", filtered(f"/api/Datasets/{OPEN.pid}", include=include)).text
    words = {name: text for name, text in (OPEN.told | OPEN.kept).items() if name != "person"}
    assert {name for name, text in words.items() if text not in found} == set()


def test_the_sweep_was_whole(house: House) -> None:
    expected = len(routes_of(house)) * len(PEOPLE) * len(CLOCKS)
    sys.stdout.write(f"{len(house.combinations)} of {expected} combinations, {house.n_requests} requests\n")
    assert len(house.combinations) == expected
