"""What is asked of every route about a secret; the same with other words must be answered the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from beamhub_catalogue.publishing.oai_sets import encoded
from beamhub_core.session import server_name_for
from leaks.leak_house import BASE
from leaks.leak_world import PEOPLE, Secret, twin

Pairs = tuple[tuple[str, str], ...]
PLAN_ID, ACT_ID = "e" * 32, "f" * 32
TEXT_OPERATORS = ("eq", "inq", "like", "ilike", "between")
FIELDS: dict[str, tuple[str, ...]] = {
    "dataset": ("pid", "title", "text"),
    "documents": ("pid", "title", "text"),
    "techniques": ("pid", "name", "panetId", "text"),
    "instrument": ("pid", "name", "text"),
    "files": ("name", "path", "text"),
    "parameters": ("name", "value", "unit", "text"),
    "samples": ("name", "text"),
}
ALSO = {
    "dataset": ("isPublic", "creationDate", "size"),
    "documents": ("isPublic", "startDate", "endDate", "releaseDate", "type"),
}


@dataclass(frozen=True)
class Probe:
    """One request with the words of a secret in it; `as_hub` is asked by the hub for the identity."""

    method: str
    path: str
    form: dict[str, str] = field(default_factory=dict)
    body: Any = None
    as_hub: bool = False
    with_token: bool = False

    @property
    def text(self) -> str:
        """All that is sent."""
        return f"{self.path} {self.form} {json.dumps(self.body)}"

    @property
    def key(self) -> str:
        """All that makes two probes the same."""
        return f"{self.method} {self.text} {self.as_hub} {self.with_token}"

    def swapped(self, pairs: Pairs) -> Probe:
        """The same request with made-up words."""
        return Probe(
            self.method,
            swap(self.path, pairs),
            {name: swap(value, pairs) for name, value in self.form.items()},
            json.loads(swap(json.dumps(self.body), pairs)),
            self.as_hub,
            self.with_token,
        )


def swap(text: str, pairs: Pairs, mark: str | None = None) -> str:
    """A text with each word in place of its pair's first; with `mark`, in place of both."""
    for real, made_up in pairs:
        text = text.replace(real, made_up if mark is None else mark)
        if mark is not None:
            text = text.replace(made_up, mark)
    return text


def pairs_of(secret: Secret, forbidden: dict[str, str]) -> Pairs:
    """The secret's words that may not be told, each with its made-up twin."""
    words = [w for w in (*secret.told.values(), *secret.kept.values()) if w in forbidden]
    tail = secret.pid.rpartition(":")[2]
    if "title" in secret.told and secret.told["title"] in forbidden and tail not in words:
        words.append(tail)
    pairs = tuple((one, twin(one)) for one in dict.fromkeys(words))
    made_up = swap(secret.pid, pairs)
    return (*pairs, (server_name_for((secret.pid,)), server_name_for((made_up,))))


def word_of(secret: Secret, name: str) -> str:
    """A word of a secret; products have fewer, and lend their title."""
    return {**secret.told, **secret.kept}.get(name, secret.told["title"])


def matching(fields: tuple[str, ...], word: str) -> dict[str, Any]:
    """A where that any field of a match fulfils, by any operator for texts."""
    values: dict[str, Any] = {"inq": [word], "between": [word, word], "like": f"{word[:-1]}_", "ilike": word}
    return {
        "or": [
            {one: {op: values.get(op, word)}}
            for one in fields
            for op in (TEXT_OPERATORS if one != "text" else ("eq",))
        ]
    }


def avoiding(fields: tuple[str, ...], word: str) -> dict[str, Any]:
    """A where that a match would break."""
    plain = [one for one in fields if one != "text"]
    return {"and": [{one: {"neq": word}} for one in plain] + [{one: {"nin": [word]}} for one in plain]}


def wheres(name: str, secret: Secret) -> Iterator[dict[str, Any]]:
    """Conditions upon one kind of item, with words of a secret: matching, avoiding, and in order."""
    of = {
        "dataset": ("title", "stem"),
        "documents": ("proposal", "proposal_title"),
        "techniques": ("technique",),
        "instrument": ("instrument",),
        "files": ("linked", "file"),
        "parameters": ("detector", "parameter", "value"),
        "samples": ("sample",),
    }[name]
    has = {**secret.told, **secret.kept}
    for each in dict.fromkeys(has[one] for one in of if one in has):
        word = secret.pid if name == "dataset" and each == secret.told.get("stem") else each
        yield matching(FIELDS[name], word)
        yield avoiding(FIELDS[name], word)
        first = next(one for one in FIELDS[name] if one in ("name", "title"))
        yield {first: {"gte": word}}


def filtered(path: str, **parts: Any) -> str:
    """An address with a filter."""
    return f"{path}?{urlencode({'filter': json.dumps(parts)})}"


KEPT_FIELDS = ("files", "parameters", "samples")


def search_probes(secret: Secret, names: Iterable[str] = FIELDS) -> Iterator[Probe]:
    """Every field of the search API and every operator, in lists and counts."""
    for name in names:
        for number, where in enumerate(wheres(name, secret)):
            if name == "dataset":
                yield Probe("GET", filtered("/api/Datasets", where=where))
                yield Probe("GET", f"/api/Datasets/count?{urlencode({'where': json.dumps(where)})}")
                included = [{"relation": "datasets", "scope": {"where": where}}]
                if number < 2:
                    yield Probe("GET", filtered("/api/Documents", include=included))
                    yield Probe("GET", filtered("/api/Instruments", include=included))
            else:
                included = [{"relation": name, "scope": {"where": where}}]
                yield Probe("GET", filtered("/api/Datasets", include=included))
            top = {"documents": "Documents", "instrument": "Instruments"}.get(name)
            if top is not None and number % 2:
                yield Probe("GET", filtered(f"/api/{top}", where=where))
            elif top is not None:
                yield Probe("GET", f"/api/{top}/count?{urlencode({'where': json.dumps(where)})}")
    words = dict.fromkeys((*secret.told.values(), *secret.kept.values()))
    query = " ".join(reversed(words))[:280]
    for top in ("Datasets", "Documents", "Instruments"):
        yield Probe("GET", filtered(f"/api/{top}", query=query))
    yield Probe("GET", f"{BASE}/?{urlencode({'q': query[:190]})}")


def plain_probes() -> Iterator[Probe]:
    """Lists without a word of anybody: sorts by every field, edges of pages, all that can be included."""
    everything = [name for name in FIELDS if name != "dataset"]
    yield Probe("GET", filtered("/api/Datasets", include=everything))
    yield Probe("GET", filtered("/api/Documents", include=["datasets", "members"]), with_token=True)
    yield Probe("GET", filtered("/api/Instruments", include=["datasets"]))
    own = [one for one in FIELDS["dataset"] if one != "text"] + list(ALSO["dataset"])
    for name in own:
        yield Probe("GET", filtered("/api/Datasets", order=[f"{name} DESC"], limit=3, fields=["pid"]))
    for name in ("pid", "title", *ALSO["documents"]):
        yield Probe("GET", filtered("/api/Documents", order=f"{name} ASC", skip=1, limit=2))
    yield Probe("GET", filtered("/api/Datasets", skip=10_000_000))
    people = {"relation": "members", "scope": {"include": ["person", "affiliation"]}}
    further = [{"relation": "datasets", "scope": {"include": everything, "order": "size DESC"}}, people]
    yield Probe("GET", filtered("/api/Documents", include=further), with_token=True)
    yield Probe("GET", filtered("/api/Instruments", include=[further[0]]))
    yield Probe("GET", filtered("/api/Datasets/facets", where={"title": {"neq": ""}}))
    yield Probe("GET", filtered("/api/Datasets/count", include=["files"]))
    yield Probe("GET", filtered("/api/Datasets", where={"nothing": 1}))
    for page in ("0", "2", "999999"):
        yield Probe("GET", f"{BASE}/?page={page}&readable=1&kind=raw")


def _page(path: str) -> Callable[[Secret], list[Probe]]:
    """A page that takes nothing, with a pid where nobody expects one."""
    return lambda secret: [Probe("GET", path), Probe("GET", f"{path}?pid={quote(secret.pid)}")]


def _by_pid(path: str, *methods: str) -> Callable[[Secret], list[Probe]]:
    return lambda secret: [
        Probe(method, path.replace("{pid}", quote(secret.pid, safe=":"))) for method in ("GET", *methods)
    ]


def _api(path: str, slot: str = "pid") -> Callable[[Secret], list[Probe]]:
    """A route of the search API, by cookie and by token, with all that can be included."""

    def probes(secret: Secret) -> list[Probe]:
        named = {"pid": secret.pid, "proposal": secret.proposal}.get(slot) or word_of(secret, slot)
        address = path.replace("{pid}", quote(named, safe=":"))
        filters = {
            "pid": ["files", "parameters", "samples", "documents"],
            "proposal": ["datasets", "members"],
        }
        include = filters.get(slot, ["datasets"])
        if path.startswith(BASE) or address.endswith("files") or "count" in address:
            return [Probe("GET", address)]
        return [Probe("GET", address), Probe("GET", filtered(address, include=include), with_token=True)]

    return probes


def _search_page(secret: Secret) -> list[Probe]:
    names = {"proposal": secret.proposal, "instrument": word_of(secret, "instrument"), "kind": "raw"}
    searched = ("title", "proposal", "proposal_title", "instrument", "technique", "person")
    words = [secret.told[name] for name in searched if name in secret.told]
    asked: list[dict[str, str]] = [{"q": word} for word in (*words, secret.pid)]
    asked += [names, {"technique": word_of(secret, "technique")}, {"q": "Zq", "readable": "1"}]
    return [Probe("GET", f"{BASE}/?{urlencode(one)}") for one in asked]


def _open(secret: Secret) -> list[Probe]:
    one = f"{BASE}/open?{urlencode({'pid': secret.pid})}"
    return [Probe("GET", one), Probe("GET", f"{one}&pid={quote(secret.pid)}x"), Probe("HEAD", one)]


def _start(path: str) -> Callable[[Secret], list[Probe]]:
    def probes(secret: Secret) -> list[Probe]:
        return [
            Probe("POST", path, {"pid": secret.pid, "profile": "huge", "_xsrf": "{xsrf}"}),
            Probe("POST", path, {"pid": secret.pid, "_xsrf": "0" * 64}),
        ]

    return probes


def _sessions(path: str, method: str = "GET") -> Callable[[Secret], list[Probe]]:
    def probes(secret: Secret) -> list[Probe]:
        form = {"_xsrf": "{xsrf}"} if method == "POST" else {}
        return [Probe(method, path.replace("{name}", server_name_for((secret.pid,))), form)]

    return probes


def _internal(method: str, path: str, body: Any = None) -> Callable[[Secret], list[Probe]]:
    """A route of the internal API as a person tries it: with the cookie, and with the person's own token."""

    def probes(secret: Secret) -> list[Probe]:
        address = path.replace("{proposal}", quote(secret.proposal)).replace("{name}", secret.proposal)
        return [Probe(method, address, body=body), Probe(method, address, body=body, with_token=True)]

    return probes


def _grants(secret: Secret) -> list[Probe]:
    body = {"account": "{account}", "datasets": [secret.pid]}
    return [
        Probe("POST", "/internal/grants", body=body, as_hub=True),
        Probe("POST", "/internal/grants", body=body, with_token=True),
    ]


def _ticket(secret: Secret) -> list[Probe]:
    """A place in the queue for a secret dataset, as a person tries to take it without the hub."""
    limits = {"cpu": 1, "memory_gib": 1}
    body = {"account": "{account}", "server_name": "d-1", "places": ["here"], "limits": limits}
    body["request"] = {"datasets": [secret.pid]}
    return [Probe("PUT", "/internal/tickets", body=body, with_token=token) for token in (False, True)]


def _act(secret: Secret) -> list[Probe]:
    act = {"id": ACT_ID, "proposal": secret.proposal, "kind": "extension", "months": 1, "reason": "why"}
    body = {"act": act, "account": "{account}"}
    tried = [Probe("PUT", f"/internal/acts/{ACT_ID}", body=body, with_token=True)]
    return [Probe("PUT", f"/internal/acts/{ACT_ID}", body=body, as_hub=True), *tried]


def _oai(method: str, path: str) -> Callable[[Secret], list[Probe]]:
    """The OAI-PMH provider: a record by its name, lists by sets that it would be in, everything."""

    def probes(secret: Secret) -> list[Probe]:
        prefix = {"metadataPrefix": "datacite"}
        names = [f"oai:127.0.0.1:{one}" for one in (f"datasets/{secret.pid}", f"documents/{secret.proposal}")]
        asked = [{"verb": "GetRecord", "identifier": name} | prefix for name in names] + [
            {"verb": "ListSets"}
        ]
        sets = (f"instrument:{encoded(word_of(secret, 'instrument'))}", "technique", "year")
        asked += [{"verb": "ListRecords", "set": spec} | prefix for spec in sets]
        asked += [{"verb": "ListIdentifiers", "from": "2000-01-01"} | prefix]
        asked += [{"verb": "ListMetadataFormats", "identifier": names[0]}, {"verb": secret.pid}]
        queries = [Probe("GET", f"{path}?{urlencode(one)}") for one in asked]
        return queries if method == "GET" else [Probe("POST", path, one) for one in asked[:3]]

    return probes


def _forms(path: str, slot: str) -> Callable[[Secret], list[Probe]]:
    forms = ("datacite.json", "schema-org.jsonld", "ro-crate-metadata.json", "linkset.json", "nothing")
    return lambda secret: [
        Probe("GET", path.replace(f"{{{slot}}}", quote(getattr(secret, slot))).replace("{name}", form))
        for form in forms
    ]


_NOBODY = "u-" + "a" * 26
ROUTES: dict[tuple[str, str], Callable[[Secret], list[Probe]]] = {
    ("GET", BASE): _page(BASE),
    ("GET", f"{BASE}/"): _search_page,
    ("GET", f"{BASE}/datasets/{{pid}}"): _by_pid(f"{BASE}/datasets/{{pid}}", "HEAD", "OPTIONS", "POST"),
    ("GET", f"{BASE}/datasets/{{pid}}/preview.png"): _by_pid(f"{BASE}/datasets/{{pid}}/preview.png", "HEAD"),
    ("GET", f"{BASE}/datasets/{{pid}}/{{name}}"): _forms(f"{BASE}/datasets/{{pid}}/{{name}}", "pid"),
    ("GET", f"{BASE}/documents/{{proposal}}"): _forms(f"{BASE}/documents/{{proposal}}", "proposal"),
    ("GET", f"{BASE}/documents/{{proposal}}/{{name}}"): _forms(
        f"{BASE}/documents/{{proposal}}/{{name}}", "proposal"
    ),
    **{
        ("GET", f"{BASE}/{name}"): _page(f"{BASE}/{name}")
        for name in ("sessions", "about", "health", "audit", "sitemap.xml", "robots.txt")
    },
    ("GET", f"{BASE}/sitemap/{{number}}.xml"): _page(f"{BASE}/sitemap/1.xml"),
    **{(how, f"{base}/oai"): _oai(how, f"{base}/oai") for base in ("", BASE) for how in ("GET", "POST")},
    ("GET", f"{BASE}/open"): _open,
    ("POST", f"{BASE}/open"): _start(f"{BASE}/open"),
    ("POST", f"{BASE}/prepare"): _start(f"{BASE}/prepare"),
    ("GET", f"{BASE}/login"): lambda s: [Probe("GET", f"{BASE}/login?next={BASE}/datasets/{s.pid}")],
    ("GET", f"{BASE}/oauth_callback"): lambda s: [
        Probe("GET", f"{BASE}/oauth_callback?state={quote(s.pid)}&code={quote(s.pid)}")
    ],
    ("POST", f"{BASE}/logout"): lambda s: [Probe("POST", f"{BASE}/logout", {"_xsrf": "0", "pid": s.pid})],
    ("GET", f"{BASE}/sessions/{{name}}/launch"): _sessions(f"{BASE}/sessions/{{name}}/launch"),
    ("GET", f"{BASE}/sessions/{{name}}/launch/status"): _sessions(f"{BASE}/sessions/{{name}}/launch/status"),
    **{
        ("POST", f"{BASE}/sessions/{{name}}/{verb}"): _sessions(f"{BASE}/sessions/{{name}}/{verb}", "POST")
        for verb in ("stop", "extend", "keep", "leave")
    },
    ("GET", f"{BASE}/audit/proposals/{{proposal}}"): lambda s: [
        Probe("GET", f"{BASE}/audit/proposals/{quote(s.proposal)}")
    ],
    ("GET", f"{BASE}/static/hub.css"): lambda s: [],
    ("MOUNT", f"{BASE}/static"): lambda s: [
        Probe(method, f"{BASE}/static/{quote(s.pid)}") for method in ("GET", "HEAD")
    ],
    **{
        ("GET", f"{prefix}/api{path}"): _api(f"{prefix}/api{path}", slot)
        for prefix in ("", BASE)
        for path, slot in (
            ("/Datasets", "pid"),
            ("/Datasets/count", "pid"),
            ("/Datasets/facets", "pid"),
            ("/Datasets/{pid}", "pid"),
            ("/Datasets/{pid}/files", "pid"),
            ("/Datasets/{pid}/files/count", "pid"),
            ("/Documents", "proposal"),
            ("/Documents/count", "proposal"),
            ("/Documents/{pid}", "proposal"),
            ("/Instruments", "instrument"),
            ("/Instruments/count", "instrument"),
            ("/Instruments/{pid}", "instrument"),
        )
    },
    ("GET", "/internal/health"): _internal("GET", "/internal/health"),
    ("GET", "/metrics"): _internal("GET", "/metrics"),
    ("POST", "/internal/session/report"): _internal("POST", "/internal/session/report", {"idle_s": 1}),
    ("POST", "/internal/session/extend"): _internal("POST", "/internal/session/extend"),
    ("PUT", "/internal/usage"): _internal("PUT", "/internal/usage", {"sessions": []}),
    ("POST", "/internal/products"): _internal("POST", "/internal/products", {"path": "/x.h5"}),
    ("PUT", "/internal/principals/{account}"): _internal("PUT", f"/internal/principals/{_NOBODY}", {}),
    ("DELETE", "/internal/principals/{account}"): _internal("DELETE", f"/internal/principals/{_NOBODY}"),
    ("GET", "/internal/identities/{account}"): _internal("GET", f"/internal/identities/{_NOBODY}"),
    ("PUT", "/internal/identities/{account}"): _internal("PUT", f"/internal/identities/{_NOBODY}", {}),
    ("DELETE", "/internal/identities/{account}"): _internal("DELETE", f"/internal/identities/{_NOBODY}"),
    ("POST", "/internal/grants"): _grants,
    ("GET", "/internal/sessions"): _internal("GET", "/internal/sessions?live=true"),
    ("PUT", "/internal/sessions/{plan_id}"): _internal("PUT", f"/internal/sessions/{PLAN_ID}", {}),
    ("GET", "/internal/sessions/{plan_id}"): _internal("GET", f"/internal/sessions/{PLAN_ID}"),
    ("POST", "/internal/sessions/{plan_id}/update"): _internal(
        "POST", f"/internal/sessions/{PLAN_ID}/update", {}
    ),
    ("POST", "/internal/recheck"): _internal("POST", "/internal/recheck"),
    ("POST", "/internal/harvest"): _internal("POST", "/internal/harvest", {}),
    ("GET", "/internal/audit"): _internal("GET", "/internal/audit?proposal={proposal}"),
    ("POST", "/internal/audit"): _internal("POST", "/internal/audit", {}),
    ("PUT", "/internal/tickets"): _ticket,
    ("DELETE", "/internal/tickets/{account}"): _internal("DELETE", f"/internal/tickets/{_NOBODY}"),
    ("PUT", "/internal/acts/{act_id}"): _act,
    ("DELETE", "/internal/acts/{act_id}"): _internal("DELETE", f"/internal/acts/{ACT_ID}"),
    ("GET", "/internal/proposals/{proposal}/acts"): _internal("GET", "/internal/proposals/{proposal}/acts"),
}
"""Every route of the app, with what is asked of it about a secret."""


def account_of(who: str) -> str:
    """The account of an identity; nobody's for an anonymous one."""
    person = PEOPLE[who]
    return person.account if person is not None else _NOBODY
