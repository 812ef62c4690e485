"""The gateway: Dask clusters that are made from the plans of running sessions."""

from __future__ import annotations

from pydantic import Field, model_validator

from beamhub_core.config.section import (
    AbsolutePath,
    DatabaseUrl,
    HttpUrl,
    SecretFile,
    Section,
    SectionName,
)


class ShareLimitsConfig(Section):
    """What one person, proposal or group may have at once, its notebooks included; absent: no limit."""

    max_workers: int | None = Field(default=None, ge=0, description="Dask workers together.")
    max_cpu: float | None = Field(
        default=None, ge=0, description="Processor cores together, of sessions, schedulers and workers."
    )
    max_memory_gib: float | None = Field(
        default=None, ge=0, description="Memory together, GiB, of sessions, schedulers and workers."
    )


class GroupShareConfig(ShareLimitsConfig):
    """What the people of one numeric group may have at once."""

    name: SectionName = Field(description="How messages call the group.")
    gid: int = Field(ge=1, description="The group's number, as it stands in the plans of its people.")


class GatewayLimitsConfig(Section):
    """Limits over all clusters; what one session may have stands in its profile."""

    person: ShareLimitsConfig = Field(default=ShareLimitsConfig(), description="What each person may have.")
    proposal: ShareLimitsConfig = Field(
        default=ShareLimitsConfig(), description="What the sessions of each proposal may have together."
    )
    groups: tuple[GroupShareConfig, ...] = Field(
        default=(), description="What the people of some numeric groups may have together."
    )


class GatewayConfig(Section):
    """The gateway process, and what its clusters may use."""

    listen_host: str = Field(
        default="127.0.0.1", description="Address on which sessions and schedulers reach the gateway."
    )
    listen_port: int = Field(
        default=8786, gt=0, lt=65536, description="Its port, for requests and for schedulers' connections."
    )
    internal_port: int = Field(
        default=8785, gt=0, lt=65536, description="Port of the loopback between the gateway and its proxy."
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        description="Address of the gateway's Prometheus metrics, which ask for no token: none that sessions "
        "reach.",
    )
    metrics_port: int = Field(
        default=0, ge=0, lt=65536, description="Port of the gateway's Prometheus metrics; 0 for none."
    )
    session_url: HttpUrl = Field(
        description="The gateway as sessions and their clusters reach it; the port is `listen_port`'s."
    )
    tls_cert_file: AbsolutePath | None = Field(
        default=None, description="Certificate of `session_url` where it begins with https."
    )
    tls_key_file: SecretFile | None = Field(default=None, description="The key of `tls_cert_file`.")
    web_token_file: SecretFile = Field(
        description="Token of the gateway at the web service; its client there has the scopes `plans:read` "
        "and `usage:write`."
    )
    database_url: DatabaseUrl = Field(
        description="The gateway's own database, a file, so that clusters outlive the gateway's process: "
        "sqlite:////path/of/file."
    )
    keys_file: SecretFile = Field(
        description="Keys that encrypt tokens and certificates in the database, one a line, each 32 random "
        "bytes in hexadecimal (`openssl rand -hex 32`) or base64; the first one encrypts."
    )
    state_folder: AbsolutePath = Field(
        description="Certificates, launch files and logs of local clusters; for the gateway only."
    )
    idle_s: float = Field(
        default=1800.0, gt=0, description="Seconds without work after which a cluster is stopped."
    )
    grace_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds that a cluster waits for its kernel to come back, unless asked otherwise.",
    )
    max_grace_s: float = Field(default=3600.0, gt=0, description="The longest grace that may be asked for.")
    max_clusters_per_session: int = Field(default=2, ge=1, description="Clusters that a session has at once.")
    default_maximum: int = Field(
        default=4, ge=1, description="Workers that `adapt()` without a maximum grows to at most."
    )
    scheduler_cpu: float = Field(default=1.0, gt=0, description="Processor cores of each scheduler.")
    scheduler_memory_gib: float = Field(default=1.0, gt=0, description="Memory of each scheduler, GiB.")
    token_cache_s: float = Field(
        default=10.0,
        gt=0,
        le=30,
        description="Seconds for which what web said of the sessions is believed: a stopped session's token "
        "is refused after it at the latest.",
    )
    watch_s: float = Field(
        default=10.0,
        gt=0,
        le=30,
        description="Seconds between looks at which sessions have ended; their clusters end then.",
    )
    limits: GatewayLimitsConfig = GatewayLimitsConfig()

    @model_validator(mode="after")
    def _parts_agree(self) -> GatewayConfig:
        has_pair = self.tls_cert_file is not None and self.tls_key_file is not None
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file stand together or not at all")
        if self.session_url.startswith("https:") != has_pair:
            raise ValueError("session_url begins with https where tls_cert_file stands, and only there")
        if self.internal_port == self.listen_port:
            raise ValueError("internal_port and listen_port are one port")
        if self.metrics_port in (self.internal_port, self.listen_port):
            raise ValueError("metrics_port is another port's number")
        if not self.database_url.startswith("sqlite:////"):
            raise ValueError("database_url is no sqlite:////path/of/file")
        if self.grace_s > self.max_grace_s:
            raise ValueError("grace_s is above max_grace_s")
        return self
