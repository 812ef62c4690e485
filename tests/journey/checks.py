"""What must hold beside the nine stops: refusals, confinement, the hub's death, the embargo's end."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from journey import trespass
from journey.kernel import open_channel
from journey.person import Page, Person
from journey.platform import Platform
from journey.stops import PORTAL, Journey, Session, expect, run_cells, save_outputs

CLUSTER_END_S = 60.0
HUB_BACK_S = 60.0


def pids_of(platform: Platform, proposal: str) -> list[str]:
    """The pids of a proposal's datasets, from the planted truth."""
    planted = json.loads(platform.layout.truth_file.read_text())
    return [
        f"{platform.short_name}:{t['proposal']}:{t['stem']}"
        for t in planted
        if t["proposal"] == proposal and not t.get("problem")
    ]


def _comparable(page: Page, pid: str) -> str:
    """A page without what may differ: its reference, the pid in its address, one-time tokens, times."""
    text = page.html.replace(pid, "PID").replace(pid.replace(":", "%3A"), "PID")
    text = re.sub(r'(name="(?:xsrf|_xsrf|csrf)[^"]*"\s+value=")[^"]*', r"\1", text)
    text = re.sub(r"reference[^<]*<[^>]*>[^<]*<", "reference", text, flags=re.IGNORECASE)
    return re.sub(r"\b(?:[0-9a-f]{6,}|\d\d:\d\d(?::\d\d)?)\b", "#", text)


def check_outsider(journey: Journey, outsider: Person) -> list[dict[str, Any]]:
    """What an outsider is told, page by page and by API."""
    platform = journey.platform
    public, team = pids_of(platform, "MA-6202")[0], pids_of(platform, "TO-7303")[0]
    never = f"{platform.short_name}:MA-0000:never_0001"
    outsider.log_in(PORTAL)
    refusals = []
    page = outsider.visit(f"{PORTAL}datasets/{public}")
    ends = re.search(r"20\d\d-\d\d-\d\d", page.text[page.text.lower().find("embargo") :])
    expect(page.status == 200 and ends, f"the embargo's end is not named: {page.text[:600]}")
    expect(".h5" not in page.text, "file names of an embargoed dataset are shown")
    refusals.append(
        {
            "who": outsider.subject,
            "pid": public,
            "status": 200,
            "says": "embargo",
            "until": ends and ends.group(),
        }
    )
    hidden, unknown = (
        outsider.visit(f"{PORTAL}datasets/{team}"),
        outsider.visit(f"{PORTAL}datasets/{never}"),
    )
    expect(
        hidden.status == unknown.status == 404, f"{hidden.status} and {unknown.status} instead of 404 twice"
    )
    expect(
        _comparable(hidden, team) == _comparable(unknown, never),
        "a hidden page differs from an unknown one",
    )
    refusals.append({"who": outsider.subject, "pid": team, "status": 404, "same_as_unknown": True})
    for what in ("api", "open"):
        answers = []
        for pid in (team, never):
            path = f"{PORTAL}api/Datasets/{pid}" if what == "api" else f"{PORTAL}open?pid={pid}"
            answer = outsider.http.get(f"{platform.url}{path}")
            answers.append(
                (answer.status_code, _comparable(Page(path, answer.status_code, answer.text), pid))
            )
        expect(answers[0] == answers[1], f"{what}: a hidden pid differs from an unknown one: {answers}")
        expect(answers[0][0] == 404, f"{what}: {answers[0][0]} instead of 404")
        refusals.append(
            {
                "who": outsider.subject,
                "by": what,
                "pid": team,
                "status": answers[0][0],
                "same_as_unknown": True,
            }
        )
    count = outsider.http.get(f"{platform.url}{PORTAL}api/Datasets/count").json()["count"]
    listed = outsider.http.get(
        f"{platform.url}{PORTAL}api/Datasets", params={"filter": '{"limit": 1000}'}
    ).json()
    expect(count == len(listed), f"the count ({count}) is not what is listed ({len(listed)})")
    expect(team not in {item["pid"] for item in listed}, "an embargoed dataset of class team is listed")
    refusals.append({"who": outsider.subject, "by": "count", "count": count, "listed": len(listed)})
    refusals.append(_check_start_refused(journey, outsider, public))
    return refusals


FORGED: tuple[tuple[str, Any, int], ...] = (
    ("an image", {"datasets": [], "image": "evil:latest"}, 400),
    ("a mount", {"mounts": [{"source": "/", "target": "/host", "mode": "rw"}]}, 400),
    ("a numeric identity", {"uid": 0}, 400),
    ("a path", {"datasets": ["../../etc/passwd"]}, 404),
    ("an absolute path", {"datasets": ["/etc"]}, 404),
    ("a foreign pid", {"datasets": ["{short_name}:TO-7303:TOFD_41001"]}, 404),
    ("a profile with dots", {"datasets": [], "profile": "../root"}, 400),
    ("a wrong type", {"datasets": "all"}, 400),
    ("1 MB", {"datasets": ["y" * 1_000_000]}, 400),
)


def check_forged_options(journey: Journey, outsider: Person) -> list[dict[str, Any]]:
    """Options that no form sends, straight to the hub's API: each refused, nothing started."""
    home = outsider.visit("/hub/home")
    account = re.search(r"u-[a-z2-7]{26}", home.html)
    expect(account, "the hub's page does not name the account")
    refusals = []
    for i_try, (what, options, status) in enumerate(FORGED):
        url = f"{journey.platform.url}/hub/api/users/{account and account.group()}/servers/forged-{i_try}"
        options = json.loads(json.dumps(options).replace("{short_name}", journey.platform.short_name))
        answer = outsider.call("POST", url, {"user_options": options})
        expect(answer.status_code == status, f"{what}: {answer.status_code} {answer.text[:300]}")
        expect("Traceback" not in answer.text, f"{what}: a traceback in the answer")
        refusals.append({"who": outsider.subject, "by": "api", "forged": what, "status": status})
    live = [s["plan"]["server_name"] for s in journey.live_sessions() if "forged" in s["plan"]["server_name"]]
    expect(not live, f"forged options started {live}")
    return refusals


def _check_start_refused(journey: Journey, outsider: Person, pid: str) -> dict[str, Any]:
    """Somebody who forges the form gets a page that names the embargo, and no session."""
    page = outsider.visit(f"{PORTAL}open?pid={pid}")
    if any("open" in form.action for form in page.forms):
        page = outsider.submit(page.form("open"))
        deadline = time.monotonic() + 20
        while "status" not in page.url and page.status == 200 and time.monotonic() < deadline:
            answer = outsider.http.get(page.url.split("?")[0].rstrip("/") + "/status")
            if answer.status_code != 200 or answer.json()["state"] in ("failed", "stopped"):
                break
            expect(answer.json()["state"] != "ready", "an outsider's session started")
            time.sleep(0.25)
    live = [s for s in journey.live_sessions() if pid in json.dumps(s["plan"]["datasets"])]
    expect(not live, f"a session exists for a refused dataset: {live}")
    return {"who": outsider.subject, "by": "start", "pid": pid, "status": page.status, "sessions": 0}


def check_confinement(journey: Journey, session: Session) -> dict[str, Any]:
    """What the notebook tried to do to raw data, and to what is not its own."""
    platform = journey.platform
    master = Path(session.stored["plan"]["datasets"][0]["file"])
    before = master.read_bytes()
    foreign = next((platform.layout.facility / "hall-a" / "MA-6202").rglob("*.h5"))
    code = trespass.attempts(
        raw=master,
        foreign=foreign,
        secret=platform.layout.secret("hub-crypt-key"),
        database=platform.hub_database,
        hub_pid=platform.hub_pid(),
    )
    with open_channel(session.person, session.server_url, session.kernel_id, seconds=20) as channel:
        outcomes = trespass.read_outcomes(channel.run(code).text)
    expect(outcomes.pop("read_granted")["works"], "the granted dataset cannot be read any more")
    unharmed = master.exists() and master.read_bytes() == before
    expect(
        unharmed or not outcomes["write_raw"]["enforced"], "raw data changed although the write was refused"
    )
    return {**outcomes, "raw_unchanged": {"enforced": unharmed, "error": None}}


def check_hub_death(journey: Journey, session: Session) -> dict[str, Any]:
    """SIGKILL the hub: the kernel keeps its variable, a running cell runs to its end."""
    mark = f"mark-{time.time_ns()}"
    with (
        ThreadPoolExecutor(1) as beside,
        open_channel(session.person, session.server_url, session.kernel_id, seconds=20) as channel,
    ):
        channel.run(f"survivor = {mark!r}")
        cell = channel.send(
            "import time\nfor i in range(16):\n    print('line', i, flush=True); time.sleep(0.5)"
        )
        started = time.monotonic()
        journey.platform.kill_hub()
        hub_is_back = beside.submit(_wait_for_hub, journey.platform)
        output = channel.collect(cell, seconds=40)
        back_s = hub_is_back.result() - started
    lines = re.findall(r"line (\d+)", output.text)
    expect(lines == [str(i) for i in range(16)], f"the running cell lost output: {lines}")
    with open_channel(session.person, session.server_url, session.kernel_id, seconds=HUB_BACK_S) as channel:
        read_back = channel.run("print(survivor)").text.strip()
    expect(read_back == mark, f"the kernel lost its variable: {read_back!r} instead of {mark!r}")
    name = session.server_url.rstrip("/").rsplit("/", 1)[1]
    while name not in session.person.visit(f"{PORTAL}sessions").html:  # the hub asks its places first
        listed_s = time.monotonic() - started
        expect(listed_s < HUB_BACK_S, "the session is not listed after the hub's return")
        time.sleep(0.5)
    return {
        "variable_kept": True,
        "cell_lines": len(lines),
        "hub_back_seconds": round(back_s, 2),
        "same_server": True,
    }


def _wait_for_hub(platform: Platform) -> float:
    deadline = time.monotonic() + HUB_BACK_S
    while True:
        if platform.hub_answers():
            return time.monotonic()
        expect(time.monotonic() < deadline, f"the hub did not come back in {HUB_BACK_S:.0f} s")
        time.sleep(0.1)


def check_second_technique(journey: Journey, person: Person) -> dict[str, Any]:
    """A colleague, known by entitlement only, reduces time-of-flight data in the other hall."""
    started = time.monotonic()
    person.log_in(PORTAL)
    pid = pids_of(journey.platform, "TO-7303")[0]
    silent = Journey(journey.platform, lambda _: None)
    session = silent.open_notebook(person, person.visit(f"{PORTAL}datasets/{pid}"), pid)
    with silent.start_kernel(session) as channel:
        facts = run_cells(channel, silent.cells(session))
        save_outputs(session, facts["outputs"])
        path = channel.run("import json; print(json.dumps(str(product.path)))").json()
        counts = channel.run(
            "import json, h5py\nwith h5py.File(product.path, locking=False) as f: "
            "print(json.dumps(int(f['entry/process/statistics/counts_total'][()])))"
        ).json()
    planted = json.loads((journey.platform.layout.truth_file).read_text())
    truth = next(t for t in planted if pid.endswith(t["stem"]))
    expect(counts == truth["counts_total"], f"{counts} events instead of {truth['counts_total']}")
    place = session.stored["plan"]["explain"]["chosen"]
    expect(place == journey.platform.places[-1], f"the session ran in {place}, not beside its data")
    return {"pid": pid, "place": place, "product": path, "events": counts, "figures": facts["figures"],
            "seconds": round(time.monotonic() - started, 2), "session": session}  # fmt: skip


def stop_session(person: Person, session: Session) -> None:
    """Press *Stop* on the page of one's sessions, and see the process end."""
    page = person.visit(f"{PORTAL}sessions")
    name = session.server_url.rstrip("/").rsplit("/", 1)[1]
    stopped = person.submit(
        next(form for form in page.forms if name in form.action and "stop" in form.action)
    )
    expect(stopped.status == 200, f"stopping answered {stopped.status}: {stopped.text[:300]}")


def check_cluster_end(journey: Journey, session: Session) -> dict[str, Any] | None:
    """The cluster of a session that was stopped is gone within a minute; None without a gateway."""
    if not journey.platform.has_gateway:
        return None
    evidence = next(stop["evidence"] for stop in journey.stops if stop["name"] == "reduction")
    stopped = time.monotonic()
    while parts := journey.platform.cluster_parts(session.plan_id):
        expect(time.monotonic() - stopped < CLUSTER_END_S, f"{parts} outlive their session")
        time.sleep(0.5)
    kept = {key: evidence[key] for key in ("cluster", "cluster_parts")}
    return {**kept, "gone_after_seconds": round(time.monotonic() - stopped, 1)}


def check_embargo_end(journey: Journey, outsider: Person) -> dict[str, Any]:
    """Four years later the outsider's same links open."""
    platform = journey.platform
    platform.layout.clock_offset.write_text(str(4 * 366 * 86400))
    opened = {}
    for proposal in ("MA-6202", "TO-7303"):
        pid = pids_of(platform, proposal)[0]
        page = outsider.visit(f"{PORTAL}datasets/{pid}")
        expect(page.status == 200, f"{pid} answers {page.status} after its embargo")
        page.link("open in notebook")
        expect(".h5" in page.text or ".nxs" in page.text, "the files are not shown after the embargo")
        opened[proposal] = page.status
    return {"who": outsider.subject, "after": "embargo", "opened": opened}
