"""`agent.yaml`: what one host's agent needs beside the facility's own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError

from beamhub_core.config.docker_place import TlsPairConfig
from beamhub_core.config.section import AbsolutePath, HttpUrl, SecretFile, Section, SectionName
from beamhub_core.errors import ConfigInvalid

MAX_BYTES = 100_000


class ListenConfig(Section):
    """Where the agent listens, and whom it lets in."""

    host: str = Field(default="0.0.0.0", description="Address.")  # noqa: S104 - behind client certificates
    port: int = Field(default=8443, ge=0, le=65535, description="Port; 0 takes a free one.")
    accepted_subjects: tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...] = Field(
        min_length=1,
        description="Common names of the client certificates that may call; of the same authority.",
    )


class AgentLimits(Section):
    """What one caller may cost."""

    body_bytes: int = Field(default=1_000_000, gt=0, description="Largest body of a request.")
    header_bytes: int = Field(default=32_768, gt=0, description="Largest head of a request.")
    idle_s: float = Field(default=60.0, gt=0, description="Seconds for handshake and head of a request.")
    engine_s: float = Field(default=30.0, gt=0, description="Seconds that the engine may stay silent.")
    stream_s: float = Field(default=900.0, gt=0, description="Longest stream of logs, stats or a wait.")
    requests: int = Field(default=64, gt=0, description="Requests at once; more are told to try later.")


class AgentConfig(Section):
    """The agent of one Docker host, or the storage keeper of one Kubernetes place."""

    facility_file: AbsolutePath = Field(description="The facility's configuration, the same as the hub's.")
    place: SectionName = Field(description="Which of its places this host is, or keeps the storage of.")
    engine: Literal["docker", "none"] = Field(
        default="docker",
        description="'none' makes it the storage keeper of a Kubernetes place: it makes people's folders and "
        "looks at pools, and has no engine, images or containers.",
    )
    engine_socket: AbsolutePath = Field(
        default=Path("/var/run/docker.sock"), description="The engine's socket; the agent alone may open it."
    )
    listen: ListenConfig
    tls: TlsPairConfig = Field(description="The agent's certificate, and the authority of its callers.")
    web_url: HttpUrl | None = Field(
        default=None, description="The web service's internal address from this host; else the facility's."
    )
    web_token_file: SecretFile = Field(
        description="Token of this agent at the web service; its client there has the scope `plans:read`."
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port of 127.0.0.1 for Prometheus; 0 for none."
    )
    images: tuple[Annotated[str, StringConstraints(min_length=1, max_length=300)], ...] = Field(
        default=(),
        description="Images that are kept present here beside those of the facility's environments.",
    )
    pull: bool = Field(
        default=True, description="Whether the agent pulls images that are missing; the hub never does."
    )
    warm_up_s: float = Field(default=300.0, gt=0, description="Seconds between two looks at the images.")
    extra_variables: tuple[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,100}$")], ...
    ] = Field(default=(), description="Environment variables that the hub's own configuration adds.")
    limits: AgentLimits = AgentLimits()


def read_agent_config(path: Path) -> AgentConfig:
    """The agent's configuration in a YAML file.

    Raises
    ------
    ConfigInvalid
        With every problem of the file.
    """
    try:
        text = path.read_bytes()[: MAX_BYTES + 1]
        if len(text) > MAX_BYTES:
            raise ConfigInvalid(str(path), (f"the file is larger than {MAX_BYTES} bytes",))
        return AgentConfig.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise ConfigInvalid(str(path), (f"cannot be read: {error.strerror or error}",)) from error
    except yaml.YAMLError as error:
        raise ConfigInvalid(str(path), (f"is no YAML: {type(error).__name__}",)) from None
    except ValidationError as error:
        problems = tuple(
            f"{'.'.join(map(str, one['loc'])) or '(file)'}: {one['msg']}" for one in error.errors()
        )
        raise ConfigInvalid(str(path), problems) from None
