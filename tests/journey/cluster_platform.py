"""The platform of the chart on the test cluster: a trial in namespaces of its own, and gone at the end."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from beamhub_core.demo import DemoLayout
from beamhub_core.demo.compose import give_proposal
from beamhub_core.identity_table import read_identity_table
from beamhub_spawners.kubernetes_pod import PREFIX
from helm.cluster_release import Release, kubectl
from journey.platform import Platform

OFFICE = "beamhub-user-office"
SECRETS = Path("/run/secrets/beamhub")
SYNC_S = 90.0
CALL = """
import json, sys, urllib.error, urllib.request
method, path, body = json.load(sys.stdin)
token = open("/run/secrets/beamhub/demo-client-token").read().strip()
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
data = None if body is None else json.dumps(body).encode()
request = urllib.request.Request("http://127.0.0.1:8082/internal" + path, data, headers, method=method)
with urllib.request.urlopen(request, timeout=60) as answer:
    sys.stdout.write(answer.read().decode() or "null")
"""


class SyncedFile:
    """A file of the user office's ConfigMap; what is written is in the pods when the call returns."""

    def __init__(self, path: Path, sync: Callable[[], None]) -> None:
        self._path, self._sync = path, sync

    def write_text(self, text: str) -> None:
        """Replace the content."""
        self._path.write_text(text)
        self._sync()


class ClusterLayout(DemoLayout):
    """The demo's files as the cluster has them: the facility on its nodes, the user office in a ConfigMap."""

    __slots__ = ("offset", "seen")

    def __init__(self, root: Path, seen: Path, sync: Callable[[], None]) -> None:
        super().__init__(root)
        object.__setattr__(self, "seen", seen)
        object.__setattr__(self, "offset", SyncedFile(root / "user-office" / "clock-offset", sync))

    @property
    def facility(self) -> Path:
        """The two storage pools, by links to the nodes' folders."""
        return self.seen

    @property
    def clock_offset(self) -> Any:
        """Seconds added to the clock of hub and web."""
        return self.offset

    def secret(self, name: str) -> Path:
        """Where pods of the platform have a secret; no session does."""
        return SECRETS / name


class ClusterPlatform(Platform):
    """Services, sessions and their clusters in pods."""

    has_gateway = True

    def __init__(self, release: Release, root: Path, setup_seconds: float) -> None:
        self.release, self.setup_seconds = release, setup_seconds
        self.url, self.issuer = release.url, release.issuer
        self.layout = ClusterLayout(root, release.seen, self.sync_office)
        self.layout.user_office.mkdir(parents=True, exist_ok=True)
        shutil.copy(release.folder("node-a") / "truth.json", self.layout.truth_file)
        said = kubectl("get", "configmap", OFFICE, "-n", release.namespace, "-o", "json")
        for name, text in json.loads(said)["data"].items():
            (self.layout.user_office / name).write_text(text)
        self.harvest = self.internal("POST", "/harvest", {})

    @property
    def web_url(self) -> str:
        """Web's address inside the cluster; this machine asks it from within its pod."""
        return f"http://beamhub-web.{self.release.namespace}.svc:8082"

    @property
    def hub_database(self) -> Path:
        """A file of PostgreSQL's, where its pod has it."""
        return Path("/var/lib/beamhub/postgresql/PG_VERSION")

    def hub_pid(self) -> int:
        """The hub's own process in its pod."""
        return process_of(self.release.pod_of("hub")["metadata"]["uid"], "beamhub_hub")

    def server_pid(self, backend_id: str) -> int:
        """The server's process of `pod:NAMESPACE/NAME`."""
        namespace, _, name = backend_id.removeprefix("pod:").partition("/")
        pod = json.loads(kubectl("get", "pod", name, "-n", namespace, "-o", "json"))
        return process_of(pod["metadata"]["uid"], "python")

    def cluster_parts(self, plan_id: str) -> list[str]:
        """The roles that the labels of the session's pods name."""
        return sorted(
            pod["metadata"]["labels"][f"{PREFIX}role"]
            for pod in self.release.pods(self.release.sessions)
            if pod["metadata"].get("labels", {}).get(f"{PREFIX}plan-id") == plan_id
            and f"{PREFIX}role" in pod["metadata"]["labels"]
        )

    def take_in(self, proposal: Path, subject: str) -> None:
        """To the group that has the person's number; a facility makes one for each proposal."""
        people = read_identity_table(self.layout.user_office / "identities.csv")
        give_proposal(proposal, people[self.issuer, subject].gid or 0)

    def internal(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of web's internal API to the demo's own client, asked inside web's pod."""
        if path == "/harvest":
            self.sync_office()
        pod = self.release.pod_of("web")["metadata"]["name"]
        words = [
            "exec",
            "-i",
            "-n",
            self.release.namespace,
            pod,
            "-c",
            "web",
            "--",
            "python",
            "-P",
            "-c",
            CALL,
        ]
        return json.loads(kubectl(*words, given=json.dumps([method, path, body])))

    def sync_office(self) -> None:
        """Put the user office's files into its ConfigMap, and wait until hub and web have them.

        A kubelet looks at its ConfigMaps when something of a pod changes; an annotation does it now.
        """
        folder, namespace = self.layout.user_office, self.release.namespace
        data = {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}
        kubectl(
            "patch",
            "configmap",
            OFFICE,
            "-n",
            namespace,
            "--type=merge",
            "--patch",
            json.dumps({"data": data}),
        )
        for component in ("web", "hub"):
            pod = self.release.pod_of(component)["metadata"]["name"]
            deadline = time.monotonic() + SYNC_S
            while True:
                stamp = f"beamhub.example/looked-at={time.time_ns()}"
                kubectl("annotate", "pod", pod, "-n", namespace, "--overwrite", stamp)
                names = sorted(data)
                files = [f"/etc/beamhub-office/{name}" for name in names]
                words = ("exec", "-n", namespace, pod, "-c", component, "--", "cat", *files)
                if kubectl(*words, check=False) == "".join(data[name] for name in names):
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{component} did not get the user office's files in {SYNC_S:.0f} s")
                time.sleep(1)


def process_of(pod_uid: str, word: str) -> int:
    """The first process of a pod whose command holds a word, as this machine counts; 0 for none."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().split(b"\0")
            has_word = any(word.encode() in one for one in command[:6]) and not command[0].endswith(b"tini")
            if has_word and pod_uid in (folder / "cgroup").read_text():
                found.append(int(folder.name))
    return min(found, default=0)


@contextlib.contextmanager
def cluster_platform(root: Path, namespace: str = "chart-journey") -> Iterator[Platform]:
    """A trial of the chart until the block ends; everything of it goes then."""
    root.mkdir(parents=True, exist_ok=True)
    release = Release(namespace, ports=(30890, 30893))
    release.remove()  # a run that was killed may have left one
    started = time.monotonic()
    try:
        release.prepare()
        values = release.values()
        values["facility"]["web"]["unsafe_clock_offset_file"] = "/etc/beamhub-office/clock-offset"
        release.helm("install", "--create-namespace", values=values)
        release.wait_for_portal()
        yield ClusterPlatform(release, root, round(time.monotonic() - started, 1))
    except BaseException:
        sys.stderr.write(release.logs())
        raise
    finally:
        release.remove()
