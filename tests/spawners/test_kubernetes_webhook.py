"""A webhook of the cluster that changes pods on their way in, and what becomes of the session: real ones."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.clock import utc_now
from beamhub_spawners.agent_certificates import make_certificates
from contracts.cluster_parts import HOST, TestCluster, load_image, test_namespace
from contracts.kubernetes_parts import KubernetesBackend
from contracts.web_stand_in import StandIn, serving_stand_in
from spawners.kubernetes_tests import Fields, backend_of, failed, small_facility, start

pytestmark = pytest.mark.kubernetes
SPEC = "/spec/containers/0"
TOKEN = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
CHANGES: dict[str, list[dict[str, Any]]] = {
    "a folder of the node": [
        {"op": "add", "path": "/spec/volumes/-", "value": {"name": "etc", "hostPath": {"path": "/etc"}}},
        {"op": "add", "path": f"{SPEC}/volumeMounts/-", "value": {"name": "etc", "mountPath": "/host"}},
    ],
    "a token of the cluster": [
        {"op": "add", "path": "/spec/volumes/-", "value": {"name": "t", "projected": {"sources": [TOKEN]}}},
        {"op": "add", "path": f"{SPEC}/volumeMounts/-", "value": {"name": "t", "mountPath": "/token"}},
    ],
    "the cluster's own token": [
        {"op": "replace", "path": "/spec/automountServiceAccountToken", "value": True}
    ],
    "another image": [{"op": "replace", "path": f"{SPEC}/image", "value": "example.org/other:1"}],
    "another person": [{"op": "replace", "path": "/spec/securityContext/runAsUser", "value": 4799}],
    "a container beside": [
        {"op": "add", "path": "/spec/containers/-", "value": {"name": "beside", "image": "example.org/b:1"}}
    ],
    "a raw folder to write": [
        {"op": "remove", "path": f"{SPEC}/volumeMounts/{{raw}}/recursiveReadOnly"},
        {"op": "remove", "path": f"{SPEC}/volumeMounts/{{raw}}/readOnly"},
    ],
}


@dataclass
class Webhook:
    """A webhook with an authority of its own; it answers with these changes, or with a refusal."""

    url: str = ""
    changes: list[dict[str, Any]] = field(default_factory=list)
    is_refusing: bool = False
    asked: list[str] = field(default_factory=list)

    def answer(self, review: dict[str, Any]) -> dict[str, Any]:
        request = review["request"]
        pod = request["object"]
        self.asked.append(pod["metadata"]["name"])
        response: dict[str, Any] = {"uid": request["uid"], "allowed": not self.is_refusing}
        if self.is_refusing:
            response["status"] = {"message": "secret words of the facility"}
        elif self.changes:
            mounts = pod["spec"]["containers"][0]["volumeMounts"]
            raw = next(i for i, mount in enumerate(mounts) if mount.get("readOnly"))
            patch = json.dumps(self.changes).replace("{raw}", str(raw)).encode()
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


@contextmanager
def serving_webhook(folder: Path) -> Iterator[Webhook]:
    """A webhook on this machine, as the API server reaches it, over TLS."""
    make_certificates(folder, (HOST,), now=utc_now())
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(webhook.answer(said)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"agent-{HOST}.pem", folder / f"agent-{HOST}-key.pem")
    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        webhook.url = f"https://{HOST}:{server.server_port}/mutate"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield webhook
        finally:
            server.shutdown()
            thread.join(10)


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    """A namespace without *restricted* Pod Security, which would refuse some of the changes by itself."""
    with test_namespace(pod_security="privileged") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def stand_ins(cluster: TestCluster) -> Iterator[StandIn]:
    with serving_stand_in(HOST) as serving:
        yield serving


@pytest.fixture(scope="module")
def fields(
    cluster: TestCluster, stand_ins: StandIn, small_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Fields:
    load_image(small_image, cluster.run_folder)
    return small_facility(tmp_path_factory.mktemp("facility"), cluster, stand_ins, small_image)


@pytest.fixture
def backend(
    cluster: TestCluster, stand_ins: StandIn, fields: Fields, run: Any
) -> Iterator[KubernetesBackend]:
    stand_ins.sessions.clear()
    with backend_of(cluster, stand_ins, fields, run) as backend:
        yield backend


@pytest.fixture(scope="module")
def webhook(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """The webhook, as the cluster asks it of every pod of the namespace."""
    folder = tmp_path_factory.mktemp("webhook")
    name = f"{cluster.namespace}.example.org"
    with serving_webhook(folder) as webhook:
        authority = base64.b64encode((folder / "ca.pem").read_bytes()).decode()
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        one = {
            "name": name,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": webhook.url, "caBundle": authority},
            "failurePolicy": "Fail",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
            "rules": [rule],
            "sideEffects": "None",
            "timeoutSeconds": 10,
        }
        kind = "MutatingWebhookConfiguration"
        api = "admissionregistration.k8s.io/v1"
        cluster.apply({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "webhooks": [one]})
        trial = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "trial"},
            "spec": {"containers": [{"name": "x", "image": "x", "volumeMounts": []}]},
        }
        try:
            tried = ("create", "--dry-run=server", "-o=name", "-f", "-")
            cluster.wait(lambda: cluster.kubectl(*tried, said=trial, check=False) and webhook.asked)
            yield webhook
        finally:
            cluster.kubectl("delete", kind, name)


@pytest.mark.parametrize("change", CHANGES)
def test_a_pod_that_a_webhook_changed_is_removed_and_the_person_reads_why(
    backend: KubernetesBackend, webhook: Webhook, run: Any, change: str
) -> None:
    webhook.changes, n_asked = CHANGES[change], len(webhook.asked)
    assert failed(backend, run) == "its pod was changed into one that its plan does not allow"
    assert len(webhook.asked) == n_asked + 1


def test_a_webhook_that_adds_a_label_is_no_fault(
    backend: KubernetesBackend, webhook: Webhook, run: Any
) -> None:
    path = "/metadata/labels/example.org~1team"
    webhook.changes = [{"op": "add", "path": path, "value": "data"}]
    spawner = start(backend, run)
    [pod] = backend.cluster.pods()
    assert pod["metadata"]["labels"]["example.org/team"] == "data"
    run(spawner.stop(now=True))


def test_a_webhook_that_says_no_is_named_without_its_words(
    backend: KubernetesBackend, webhook: Webhook, run: Any
) -> None:
    webhook.is_refusing = True
    try:
        name = f"{backend.cluster.namespace}.example.org"
        assert failed(backend, run) == f"a rule of the cluster does not admit it ({name})"
    finally:
        webhook.is_refusing = False
