"""One pod of a session as the cluster shows it: the labels that find it, and what its status means. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from beamhub_core.config import FacilityConfig

PREFIX = "beamhub.org/"
"""Of our labels and annotations; `app.kubernetes.io/` has the common ones."""
CONTAINER = "session"
PORT = 8888
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
# What the cluster itself says of a pod whose node does not report any more.
LOST_NODE = ("NodeLost", "NodeNotReady", "NodeStatusUnknown")
ACCOUNT = f"{PREFIX}account"
"""Of labels: whose it is, hashed; of annotations: the account itself."""
HASH_LENGTH = 40
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod; `fields` as the API has it, in its camelCase, some of them left out."""

    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        """The namespace that it is in."""
        return str(self._metadata.get("namespace", ""))

    @property
    def uid(self) -> str:
        """What no other pod ever has, also not a later one of its name."""
        return str(self._metadata.get("uid", ""))

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return self._metadata.get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations."""
        return self._metadata.get("annotations") or {}

    @property
    def plan_id(self) -> str:
        """The plan that it was made from; empty for a pod that is none of ours."""
        return str(self.labels.get(f"{PREFIX}plan-id", ""))

    @property
    def plan_hash(self) -> str:
        """The digest of that plan."""
        return str(self.annotations.get(f"{PREFIX}plan-hash", ""))

    @property
    def token_digest(self) -> str | None:
        """SHA-256 of its server's hub token."""
        return self.annotations.get(f"{PREFIX}token-digest")

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded, Failed or Unknown."""
        return str(self.status.get("phase", "Unknown"))

    @property
    def node(self) -> str | None:
        """The node that it is bound to."""
        return (self.fields.get("spec") or {}).get("nodeName")

    @property
    def ip(self) -> str | None:
        """Its address, once it has one."""
        return self.status.get("podIP")

    @property
    def status(self) -> Mapping[str, Any]:
        """What the cluster says of it."""
        return self.fields.get("status") or {}

    @property
    def is_ended(self) -> bool:
        """Whether its container will not run any more."""
        return self.phase in ("Succeeded", "Failed") or "terminated" in self.container_state

    @property
    def is_deleting(self) -> bool:
        """Whether somebody asked for its end; it may run until its node has done it."""
        return "deletionTimestamp" in self._metadata

    @property
    def is_on_a_lost_node(self) -> bool:
        """Whether its node does not report: then nobody can tell whether it runs."""
        if self.is_ended or self.node is None:
            return False
        ready = self.condition("Ready")
        is_lost = ready.get("status") in ("False", "Unknown") and ready.get("reason") in LOST_NODE
        if ready.get("status") == "False" and "running" in self.container_state and self._container["ready"]:
            # The node's controller withdraws the pod's condition; the container's own word stays.
            is_lost = True
        return is_lost or self.phase == "Unknown" or self.status.get("reason") == "NodeLost"

    @property
    def container_state(self) -> Mapping[str, Any]:
        """`waiting`, `running` or `terminated` of the session's container, with what belongs to it."""
        return self._container.get("state") or {}

    @property
    def created(self) -> datetime | None:
        """When it was made, by the cluster's clock."""
        return _instant(self._metadata.get("creationTimestamp"))

    def condition(self, kind: str) -> Mapping[str, Any]:
        """One of its conditions; empty when the cluster says nothing of it."""
        for one in self.status.get("conditions") or ():
            if one.get("type") == kind:
                found: Mapping[str, Any] = one
                return found
        return {}

    @property
    def url(self) -> str | None:
        """Where the session listens; None until its container runs."""
        if not self.ip or "running" not in self.container_state or self.is_ended:
            return None
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"http://{host}:{PORT}"

    @property
    def _metadata(self) -> Mapping[str, Any]:
        return self.fields.get("metadata") or {}

    @property
    def _container(self) -> Mapping[str, Any]:
        for one in self.status.get("containerStatuses") or ():
            if one.get("name") == CONTAINER:
                found: Mapping[str, Any] = one
                return found
        return {}


class PodsByAccount:
    """A cluster's pods, sorted out by account once for each change: every server asks all the time."""

    def __init__(self) -> None:
        self._turn: int | None = None
        self._pods: dict[str, list[Pod]] = {}

    def of(self, account: str, known: Mapping[str, Pod], *, turn: int) -> Iterable[Pod]:
        """The pods with an account's label.

        Parameters
        ----------
        account:
            The label's value.
        known:
            All pods.
        turn:
            Is another one whenever `known` has changed.
        """
        if self._turn != turn:
            self._turn, self._pods = turn, {}
            for pod in known.values():
                self._pods.setdefault(pod.labels.get(ACCOUNT, ""), []).append(pod)
        return self._pods.get(account, ())


def _instant(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def newest(pods: Iterable[Pod]) -> Pod | None:
    """The pod that was made last."""
    return max(pods, key=lambda pod: (pod.created or _LONG_AGO, pod.name), default=None)


def pod_name(plan_id: str) -> str:
    """The pod's name: from the plan alone, never from a person's or a server's name."""
    return f"beamhub-{plan_id}"


def platform_labels(config: FacilityConfig) -> dict[str, str]:
    """The labels of all pods of one hub, parts of clusters too, and of no other hub in the same namespace.

    A facility's short name may be another's, too; the address at which people reach a hub is its own.
    """
    return {
        MANAGED_BY: "beamhub",
        f"{PREFIX}facility": config.short_name,
        f"{PREFIX}hub": hashed(str(config.hub.public_url)),
    }


def hub_labels(config: FacilityConfig) -> dict[str, str]:
    """The labels of the sessions' own pods of one hub."""
    return {**platform_labels(config), COMPONENT: "session"}


def server_labels(config: FacilityConfig, account: str, server_name: str) -> dict[str, str]:
    """The labels by which a server's pod is found again.

    A label's value takes 63 letters of a small alphabet, so names are hashed; an annotation has them.
    """
    return {
        **hub_labels(config),
        ACCOUNT: hashed(account),
        f"{PREFIX}server": hashed(server_name),
    }


def hashed(name: str) -> str:
    """A label's value for any name: look-alikes and names of any length stay apart."""
    return hashlib.sha256(name.encode()).hexdigest()[:HASH_LENGTH]


def selector(labels: Mapping[str, str]) -> str:
    """A label selector of the API: all of them."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
