"""The nine stops of one session, each with evidence that somebody else can check again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from beamhub_core.process_table import is_running
from journey import truth
from journey.experiment import Experiment, add_experiment
from journey.kernel import Channel, open_channel
from journey.person import Page, Person
from journey.platform import Platform

PORTAL = "/services/web/"
SCHEDULER_PROBE = """
import json

def _count(dask_scheduler):
    return len({event[0] for event in dask_scheduler.transition_log if event[2] == "memory"})

_beside = getattr(client, "gateway_cluster", None)
_facts = {
    "scheduler_id": client.scheduler_info()["id"],
    "tasks_run": client.run_on_scheduler(_count),
    "cluster": _beside.name if _beside is not None else None,
}
print(json.dumps(_facts))
"""
STOPS = ("portal", "login", "grants", "placement", "plan", "spawn", "template", "reduction", "catalogue")


class StopFailed(AssertionError):
    """A stop did not do what it promises."""


def expect(holds: object, message: str) -> None:
    """Nothing when it holds.

    Raises
    ------
    StopFailed
        With the message.
    """
    if not holds:
        raise StopFailed(message)


@dataclass
class Session:
    """A person's running server and the notebook that was opened in it."""

    person: Person
    pid: str
    server_url: str
    notebook: str = ""
    kernel_id: str = ""
    stored: dict[str, Any] = field(default_factory=dict)

    @property
    def plan_id(self) -> str:
        """The id of its plan."""
        return str(self.stored["plan"]["id"])


@dataclass
class Journey:
    """Walks the stops in order and notes what it saw."""

    platform: Platform
    say: Callable[[str], None]
    stops: list[dict[str, Any]] = field(default_factory=list)

    def note(self, name: str, started: float, **evidence: Any) -> None:
        """End a stop."""
        seconds = round(time.monotonic() - started, 2)
        self.stops.append({"name": name, "seconds": seconds, "evidence": evidence})
        self.say(f"  {name:<10} {seconds:6.2f} s")

    def find(self, person: Person, words: str) -> tuple[Page, str]:
        """Search on the portal, open the first hit; (its page, its pid)."""
        results = person.visit(f"{PORTAL}?q={words}")
        hits = [href for _, href in results.links if "/datasets/" in href]
        expect(hits, f"no dataset for {words!r} on {results.url}: {results.text[:300]}")
        page = person.visit(hits[0])
        expect(page.status == 200, f"{hits[0]} answers {page.status}")
        return page, urlsplit(hits[0]).path.rstrip("/").rsplit("/", 1)[1]

    def walk(self, person: Person, experiment: Experiment) -> Session:
        """All nine stops for a powder scan; the session stays up."""
        started = time.monotonic()
        harvested = self.platform.internal(
            "POST", "/harvest", {"pool": experiment.pool, "path": experiment.proposal}
        )
        expect(harvested["harvested"] >= 1, f"the new proposal was not harvested: {harvested}")
        anonymous = Person(self.platform.url, "nobody")
        public, pid = self.find(anonymous, experiment.sample)
        expect("embargo" in public.text.lower(), "the dataset page does not name the embargo")
        self.note(
            "portal",
            started,
            searched=experiment.sample,
            pid=pid,
            page=public.url,
            harvested=harvested["harvested"],
        )
        anonymous.close()

        started = time.monotonic()
        page = person.log_in(public.url)
        name = "Ines Ferreira"
        page = self.find(person, experiment.sample)[0]
        expect(name in page.text, f"{name} is not named on {page.url} after login")
        self.note("login", started, subject=person.subject, shown_as=name, page=page.url)

        session = self.open_notebook(person, page, pid)
        channel = self.run_template(session, experiment)
        channel.socket.close()
        return session

    def open_notebook(self, person: Person, page: Page, pid: str) -> Session:
        """Stops three to six: the click, the grant, the place, the plan, the server."""
        clicked = time.monotonic()
        form_page = person.visit(page.link("open in notebook"))
        before = self.live_sessions()
        expect(
            not [s for s in before if pid in json.dumps(s["plan"]["datasets"])],
            "a link started something by itself",
        )
        launch = person.submit(form_page.form("open"))
        expect(launch.status == 200, f"starting answered {launch.status}: {launch.text[:400]}")
        server_url = self.wait_until_ready(person, launch)
        seconds = time.monotonic() - clicked
        stored = next(s for s in self.live_sessions() if pid in json.dumps(s["plan"]["datasets"]))
        plan, record = stored["plan"], stored["record"]
        session = Session(person, pid, server_url, stored=stored)
        started = time.monotonic()
        grants = self.platform.internal("POST", "/grants", {"account": plan["account"], "datasets": [pid]})[
            "grants"
        ]
        self.note("grants", started, account=plan["account"], grants=grants)
        started = time.monotonic()
        verdicts = plan["explain"]["verdicts"]
        n_places = len(self.platform.places)
        expect(len(verdicts) == n_places, f"the choice was not between {n_places} places: {verdicts}")
        self.note("placement", started, chosen=plan["explain"]["chosen"], explain=plan["explain"])
        mounts = [{key: mount[key] for key in ("target", "mode", "purpose")} for mount in plan["mounts"]]
        expect(
            all(m["mode"] == "ro" for m in mounts if m["purpose"] == "raw"), f"raw data is writable: {mounts}"
        )
        self.note("plan", started, plan_id=plan["id"], plan_hash=record["plan_hash"], mounts=mounts)
        server_pid = self.platform.server_pid(record["backend_id"] or "")
        expect(server_pid and is_running(server_pid), f"no server process {record['backend_id']!r}")
        self.note(
            "spawn",
            clicked,
            server_pid=server_pid,
            backend_id=record["backend_id"],
            url=server_url,
            seconds_to_ready=round(seconds, 2),
        )
        return session

    def wait_until_ready(self, person: Person, launch: Page) -> str:
        """The address of the server that a launch page waits for."""
        deadline = time.monotonic() + 90
        status_url = launch.url.split("?")[0].rstrip("/") + "/status"
        while True:
            answer = person.http.get(status_url)
            expect(
                answer.status_code == 200, f"{status_url} answers {answer.status_code}: {answer.text[:300]}"
            )
            status = answer.json()
            if status["state"] == "ready":
                break
            expect(status["state"] not in ("failed", "stopped"), f"the start failed: {status}")
            expect(time.monotonic() < deadline, f"the server was not ready in 90 s: {status}")
            time.sleep(0.25)
        opened = person.visit(status["url"])
        expect(
            opened.status == 200 and "/lab" in opened.url,
            f"{status['url']} leads to {opened.url} ({opened.status})",
        )
        server_url = opened.url.split("/lab")[0]
        person.notebook_url = opened.url  # type: ignore[attr-defined]
        return server_url

    def live_sessions(self) -> list[dict[str, Any]]:
        """Every live session, as web stores it."""
        return self.platform.internal("GET", "/sessions?live=true")  # type: ignore[no-any-return]

    def start_kernel(self, session: Session) -> Channel:
        """A kernel for the opened notebook, as Lab starts one."""
        path = urlsplit(session.person.notebook_url).path.split("/tree/", 1)[1]  # type: ignore[attr-defined]
        body = {
            "path": path,
            "type": "notebook",
            "name": path.rsplit("/", 1)[1],
            "kernel": {"name": "python3"},
        }
        answer = session.person.call("POST", f"{session.server_url}/api/sessions", body)
        expect(answer.status_code == 201, f"no kernel: {answer.status_code} {answer.text[:300]}")
        session.notebook, session.kernel_id = path, answer.json()["kernel"]["id"]
        return open_channel(session.person, session.server_url, session.kernel_id, seconds=20)

    def cells(self, session: Session) -> list[str]:
        """The code cells of the opened notebook."""
        answer = session.person.http.get(f"{session.server_url}/api/contents/{session.notebook}?content=1")
        expect(
            answer.status_code == 200, f"the notebook is not there: {answer.status_code} {answer.text[:300]}"
        )
        cells = answer.json()["content"]["cells"]
        return [cell["source"] for cell in cells if cell["cell_type"] == "code" and cell["source"].strip()]

    def run_template(self, session: Session, experiment: Experiment) -> Channel:
        """Stops seven to nine: the notebook's own cells, the product, its way back."""
        started = time.monotonic()
        channel = self.start_kernel(session)
        cells = self.cells(session)
        expect(any(session.pid in cell for cell in cells), f"the dataset is not filled in: {cells[:2]}")
        facts = run_cells(channel, cells)
        save_outputs(session, facts.pop("outputs"))
        self.note(
            "template",
            started,
            notebook=session.notebook,
            cells_run=len(cells),
            scheduler_id=facts["scheduler_id"],
            figures=facts["figures"],
        )
        started = time.monotonic()
        cluster = self.check_cluster(session, facts["cluster"])
        product = self.check_product(channel, experiment, facts)
        self.note("reduction", started, **product, **cluster)
        started = time.monotonic()
        self.note("catalogue", started, **self.check_catalogue(session, product))
        return channel

    def check_cluster(self, session: Session, cluster: str | None) -> dict[str, Any]:
        """Where there is a gateway, the notebook's client was one of its clusters, which stands there."""
        parts = self.platform.cluster_parts(session.plan_id)
        expect(bool(cluster) is self.platform.has_gateway, f"the notebook's cluster is {cluster!r}")
        if cluster is None:
            return {}
        expect("scheduler" in parts and "worker" in parts, f"the parts of cluster {cluster} are {parts}")
        return {"cluster": cluster, "cluster_parts": parts}

    def check_product(
        self, channel: Channel, experiment: Experiment, facts: dict[str, Any]
    ) -> dict[str, Any]:
        """The product file against what was planted, with plain h5py and numpy."""
        path = Path(channel.run("import json; print(json.dumps(str(product.path)))").json())
        expect(
            path.is_relative_to(experiment.folder / "processed"),
            f"{path} is not in the proposal's processed folder",
        )
        product = truth.read_product(path)
        planted = experiment.truth
        statistics = product["statistics"]
        expect(
            statistics["counts_total"] == planted["counts_total"],
            f"counts: {statistics} instead of {planted}",
        )
        expect(
            statistics["n_frames_read"] == planted["n_frames"], f"frames: {statistics} instead of {planted}"
        )
        expect(
            statistics["n_pixels_masked"] == planted["n_pixels_masked"],
            f"masked: {statistics} against {planted}",
        )
        offsets = truth.peak_offsets(product["x"], product["y"], planted["peaks"])
        step = float(abs(product["x"][1] - product["x"][0]))
        expect(
            len(offsets) >= 5, f"only {len(offsets)} of {len(planted['peaks'])} planted peaks are in range"
        )
        expect(max(map(abs, offsets)) < 2 * step, f"peaks are off by {offsets} (step {step})")
        return {
            "product": str(path),
            "product_sha256": product["sha256"],
            "tasks_run": facts["tasks_run"],
            "peaks_checked": len(offsets),
            "largest_offset": max(map(abs, offsets)),
            "axis": product["axis"],
            "counts_total": statistics["counts_total"],
            "provenance": {
                key: product["provenance"][key] for key in ("inputs", "who", "plan_id", "made_at")
            },
        }

    def check_catalogue(self, session: Session, product: dict[str, Any]) -> dict[str, Any]:
        """The product is a dataset now, and each page names the other."""
        pid = "product-" + product["product_sha256"][:20]
        raw_page = session.person.visit(f"{PORTAL}datasets/{session.pid}")
        href = next((href for _, href in raw_page.links if pid in href), None)
        expect(href, f"the raw dataset's page does not name its product {pid}: {raw_page.text[:600]}")
        product_page = session.person.visit(str(href))
        expect(product_page.status == 200, f"{href} answers {product_page.status}")
        back = [link for _, link in product_page.links if link.rstrip("/").endswith(session.pid)]
        expect(back, f"the product's page does not name what it was made from: {product_page.text[:600]}")
        return {
            "product_pid": urlsplit(str(href)).path.rsplit("/", 1)[1],
            "made_from": session.pid,
            "page": product_page.url,
        }


def run_cells(channel: Channel, cells: list[str]) -> dict[str, Any]:
    """Run every cell in order; the scheduler, the tasks it ran, and how many figures appeared."""
    outputs = [channel.run(cell, seconds=120).shown for cell in cells]
    figures = sum("image/png" in shown.get("data", {}) for output in outputs for shown in output)
    expect(figures >= 1, "no figure appeared in the notebook")
    return {**channel.run(SCHEDULER_PROBE).json(), "figures": figures, "outputs": outputs}


def save_outputs(session: Session, outputs: list[list[dict[str, Any]]]) -> None:
    """Save the notebook with what its cells gave, as Lab does."""
    url = f"{session.server_url}/api/contents/{session.notebook}"
    notebook = session.person.http.get(f"{url}?content=1").json()
    code = [c for c in notebook["content"]["cells"] if c["cell_type"] == "code" and c["source"].strip()]
    for i_cell, (cell, shown) in enumerate(zip(code, outputs, strict=True), 1):
        cell["outputs"], cell["execution_count"] = shown, i_cell
    answer = session.person.call("PUT", url, {key: notebook[key] for key in ("type", "format", "content")})
    expect(
        answer.status_code == 200, f"the notebook cannot be saved: {answer.status_code} {answer.text[:300]}"
    )


def new_experiment(platform: Platform) -> Experiment:
    """The measurement that the main walk finds, opens and reduces."""
    return add_experiment(platform, "ines", "Ines Ferreira")
