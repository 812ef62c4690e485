"""Where on a Kubernetes cluster a place lies: its nodes, the volume claims of its storage, its namespace."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from beamhub_core.config.docker_place import TlsPairConfig
from beamhub_core.config.section import AbsolutePath, HttpUrl, Section, SectionName

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$"

LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY, max_length=317)]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE, max_length=63)]
ObjectName = Annotated[str, StringConstraints(pattern=DNS_SUBDOMAIN, max_length=253)]


class VolumeConfig(Section):
    """What a folder of the facility is on the cluster: a claim, or with `unsafe_host_path_pools` a folder."""

    claim: ObjectName | None = Field(
        default=None, description="PersistentVolumeClaim in the sessions' namespace."
    )
    host_path: AbsolutePath | None = Field(
        default=None, description="Folder of the nodes themselves; only with `unsafe_host_path_pools`."
    )
    sub_path: str = Field(
        default="",
        max_length=1024,
        description="Where in the volume the folder lies, relative; empty for the volume's root.",
    )

    @model_validator(mode="after")
    def _is_one_folder(self) -> VolumeConfig:
        if (self.claim is None) == (self.host_path is None):
            raise ValueError("name a 'claim' or a 'host_path', one of them")
        path = PurePosixPath(self.sub_path)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"'sub_path' {self.sub_path!r} leaves the volume")
        return self


class TolerationConfig(Section):
    """A taint of nodes that sessions of the place tolerate."""

    key: LabelKey = Field(description="The taint's key.")
    value: LabelValue | None = Field(default=None, description="Its value; any when absent.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Its effect; any when absent."
    )


class KubernetesPlaceConfig(Section):
    """A group of nodes of one cluster that mount the same storage, and how sessions get there."""

    kubeconfig: AbsolutePath | None = Field(
        default=None,
        description="File that says how to reach the cluster's API server; the pod's own service account "
        "when absent. Places with different files are different clusters.",
    )
    context: str | None = Field(default=None, max_length=253, description="Context of that file.")
    namespace: Annotated[str, StringConstraints(pattern=DNS_LABEL)] = Field(
        description="Namespace of the sessions' pods; it holds nothing else."
    )
    node_labels: dict[LabelKey, LabelValue] = Field(
        default={}, description="Labels that a node of this place has; pods go nowhere else."
    )
    preferred_node_labels: dict[LabelKey, LabelValue] = Field(
        default={}, description="Labels of nodes that are better for it, e.g. those with a cache."
    )
    volumes: dict[SectionName, VolumeConfig] = Field(
        min_length=1, description="What each of the place's pools is on these nodes."
    )
    homes: VolumeConfig = Field(description="The folder `homes_folder`.")
    unmapped_homes: VolumeConfig | None = Field(
        default=None, description="The folder `homes.unmapped_folder`, where there is one."
    )
    scratch: VolumeConfig | None = Field(default=None, description="The folder `scratch.folder`, if any.")
    keeper_url: HttpUrl | None = Field(
        default=None,
        description="The place's storage keeper ('beamhub agent' without an engine), which makes people's "
        "folders and says how the pools are; absent: the folders exist, and are taken for healthy.",
    )
    keeper_tls: TlsPairConfig | None = Field(
        default=None, description="The hub's certificate for the keeper; needed with 'https'."
    )
    tolerations: tuple[TolerationConfig, ...] = Field(
        default=(), max_length=16, description="Taints of the place's nodes."
    )
    gpu_resource: LabelKey = Field(
        default="nvidia.com/gpu", description="Extended resource of which a session gets its whole GPUs."
    )
    gpu_node_labels: dict[LabelKey, LabelValue] = Field(
        default={}, description="Labels that a node must have besides, for sessions with a GPU."
    )
    image_pull_secrets: tuple[ObjectName, ...] = Field(
        default=(), max_length=8, description="Secrets of the namespace with which nodes pull images."
    )
    image_pull_policy: Literal["IfNotPresent", "Never", "Always"] = Field(
        default="IfNotPresent", description="When nodes pull an image."
    )
    priority_class: ObjectName | None = Field(default=None, description="PriorityClass of sessions.")
    pod_labels: dict[LabelKey, LabelValue] = Field(
        default={}, description="Labels of the sessions' pods besides ours, e.g. for network policies."
    )
    cpu_request_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of the profile's cores that is set aside for a session; it may use them all.",
    )
    memory_request_share: float = Field(
        default=1.0, gt=0, le=1, description="Share of the profile's memory that is set aside."
    )
    supplemental_groups: Literal["strict", "merge"] = Field(
        default="strict",
        description="'merge' lets an image's own /etc/group add groups, on clusters that know no 'strict'.",
    )
    recursive_read_only: bool = Field(
        default=True,
        description="Whether the nodes' runtime makes mounts below a read-only mount read-only, too.",
    )
    unsafe_host_path_pools: bool = Field(
        default=False,
        description="Folders of the nodes instead of claims: needs a namespace without 'restricted' Pod "
        "Security. For clusters where nothing else is possible.",
    )
    hub_api_url: HttpUrl | None = Field(
        default=None, description="The hub's API as pods reach it; the hub's own idea of it when absent."
    )
    admitted_changes: tuple[Annotated[str, StringConstraints(max_length=300)], ...] = Field(
        default=(),
        max_length=32,
        description="Fields of a session's pod that the hub's pod hook or the cluster's webhooks may add or "
        "change, e.g. 'metadata.annotations[example.org/team]'; any other change is refused by this name.",
    )
    no_node_wait_s: float = Field(
        default=2.0,
        ge=0,
        description="Seconds that a session waits for a node that can take it, e.g. for an autoscaler's; "
        "then it is refused with the reason.",
    )
    lost_node_s: float = Field(
        default=900.0,
        ge=0,
        description="Seconds that a session outlives the reports of its node; after them the cluster marks "
        "it for its end, which the node does when it is back.",
    )
    tmp_mib: int = Field(
        default=1024,
        ge=16,
        description="Size of the /tmp of a session or worker, in memory, MiB; at most half of its memory.",
    )
    timeout_s: float = Field(default=10.0, gt=0, description="Limit of one call to the API server.")
    silence_s: float = Field(
        default=20.0,
        ge=4,
        description="Seconds without a sign of the API server after which the place counts as silent.",
    )

    @property
    def cluster_key(self) -> tuple[str, str, str]:
        """Cluster and namespace: places with the same one share what a process keeps of it."""
        return str(self.kubeconfig or ""), self.context or "", self.namespace

    @model_validator(mode="after")
    def _host_paths_are_wanted(self) -> KubernetesPlaceConfig:
        named = [*self.volumes.values(), self.homes, self.unmapped_homes, self.scratch]
        if not self.unsafe_host_path_pools and any(one and one.host_path for one in named):
            raise ValueError(
                "a 'host_path' needs 'unsafe_host_path_pools: true', and nodes without 'restricted' Pod "
                "Security in the namespace; better make a PersistentVolume and a claim of it"
            )
        return self

    @model_validator(mode="after")
    def _keeper_is_known(self) -> KubernetesPlaceConfig:
        if self.keeper_url is not None and self.keeper_url.startswith("https:") and self.keeper_tls is None:
            raise ValueError("a keeper at an 'https' address needs 'keeper_tls'")
        return self
