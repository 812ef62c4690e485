"""Whether the image of a host is the one that a plan says, and what an engine's refusal means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docker.errors import APIError

from beamhub_spawners.host_folders import OF_A_FOLDER

NOT_THERE = "its image is not on the host yet"
ANOTHER = "its image on the host is not the one of the plan"


def image_fault(reference: str, image: Mapping[str, Any]) -> str | None:
    """Why an image is not what a plan names, in plain words; None when it is.

    Parameters
    ----------
    reference:
        `name@sha256:DIGEST`, an image's own id `sha256:ID`, or `name:tag`, which promises nothing.
    image:
        What the engine says of the image under this name (`GET /images/{name}/json`).
    """
    wanted = wanted_digest(reference)
    if wanted is None:
        return None
    digests = {str(one).rpartition("@")[2] for one in image.get("RepoDigests") or ()}
    return None if wanted in {image.get("Id"), *digests} else ANOTHER


def wanted_digest(reference: str) -> str | None:
    """The digest that a reference demands, `sha256:...`; None for a tag, which may be moved."""
    _, separator, after = reference.rpartition("@")
    if separator:
        return after
    return reference if reference.startswith("sha256:") else None


def refusal_in_words(error: APIError) -> str:
    """What a person is told of an engine's refusal to make or start a container; the log has the rest."""
    said = str(error.explanation or "").lower()
    if error.status_code == 404 and "image" in said:
        return NOT_THERE
    if "no space left" in said or "disk quota exceeded" in said:
        return "the disk of the host is full"
    if (
        "executable file not found" in said
        or "exec format error" in said
        or ("no such file" in said and "exec" in said)
    ):
        return "its image cannot be started"
    if "bind source path does not exist" in said or "invalid mount config" in said:
        return "a folder that it needs is gone from the host"
    if "device driver" in said or "nvidia" in said or "cdi device" in said:
        return "the host's graphics processors cannot be used"
    if error.status_code == 403 and "beamhub agent" in said:
        # Of folders it speaks in words for the person; of all else in words for the operator.
        _, is_folder, words = str(error.explanation).partition(OF_A_FOLDER)
        return words.strip()[:300] if is_folder else "the host's agent did not admit it"
    return "the container engine refused it"
