"""Everything one session is, computed from rights, wish, configuration and place. Pure.

Nothing here reads a file, a clock or a network: what a plan depends on arrives as an argument, so the
same arguments give the same plan, byte for byte, and a plan can be recomputed to check it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import (
    EnvironmentConfig,
    PlaceConfig,
    ProfileConfig,
    SessionsConfig,
    TemplateConfig,
)
from beamhub_core.identity import Principal
from beamhub_core.rights import DatasetRef, GrantAnswer
from beamhub_core.session import (
    ClusterLimits,
    ExplainRecord,
    Limits,
    Mount,
    Place,
    PlannedDataset,
    PlannedTemplate,
    SessionPlan,
    SessionRequest,
)
from beamhub_core.trace import traceparent
from beamhub_spawners.mount_limits import check_mounts, fitting_groups
from beamhub_spawners.mounts import MAX_MOUNTS, MountChoice, choose_mounts
from beamhub_spawners.person_mounts import person_mounts
from beamhub_spawners.refusal import refuse
from beamhub_spawners.start_facts import NO_FACTS, StartFacts, is_mapped
from beamhub_spawners.uid_registry import N_UNMAPPED_UIDS

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "BLOSC_NTHREADS",
)


@dataclass(frozen=True, slots=True)
class Occasion:
    """What makes one start different from the next one of the same wish.

    Parameters
    ----------
    plan_id:
        32 hexadecimal digits, never used before.
    now:
        The instant of the start, aware.
    server_name:
        Name of the person's server, empty for the default one.
    template_digests:
        SHA-256 of each template's notebook file, by the template's name; absent where the file is.
    trace_id:
        32 hexadecimal digits under which logs, metrics and the session itself tell of this start.
    facts:
        What was found out of numbers, home and groups.
    """

    plan_id: str
    now: datetime
    server_name: str
    template_digests: Mapping[str, str]
    trace_id: str = ""
    facts: StartFacts = NO_FACTS


@dataclass(frozen=True, slots=True)
class Choice:
    """What of the configuration a request picked."""

    profile: ProfileConfig
    environment: EnvironmentConfig


def choose_profile(request: SessionRequest, config: FacilityConfig, *, roles: tuple[str, ...]) -> Choice:
    """The profile and environment that a request names, or the first ones open to the person.

    Raises
    ------
    Refused
        Code `profile_not_allowed` for a profile of other roles, `bad_request` for an unknown name.
    """
    sessions = config.sessions
    held = {"everyone", *roles}
    open_profiles = [profile for profile in sessions.profiles if held.intersection(profile.roles)]
    profile = next(iter(open_profiles), None)
    if request.profile is not None:
        if request.profile not in {profile.name for profile in sessions.profiles}:
            raise refuse("bad_request", request.profile, f"No profile is called {request.profile!r}.")
        profile = next((one for one in open_profiles if one.name == request.profile), None)
    if profile is None:
        names = ", ".join(profile.name for profile in open_profiles) or "none (ask your local contact)"
        asked = request.profile or "any profile"
        raise refuse("profile_not_allowed", asked, f"{asked} is not open to you. You can start: {names}.")
    return Choice(profile, _environment(request, sessions, profile, held))


def _environment(
    request: SessionRequest, sessions: SessionsConfig, profile: ProfileConfig, held: set[str]
) -> EnvironmentConfig:
    """The environment that a request names, or the first one that profile and roles let."""
    open_to_both = {
        one.name: one
        for one in sessions.environments
        if held.intersection(one.roles) and (profile.environments is None or one.name in profile.environments)
    }
    wanted = request.environment or next(iter(open_to_both), None)
    if wanted is not None and wanted in open_to_both:
        return open_to_both[wanted]
    names = ", ".join(open_to_both) or "none (ask your local contact)"
    if wanted is not None and wanted not in {one.name for one in sessions.environments}:
        raise refuse("bad_request", wanted, f"No environment is called {wanted!r}. There are: {names}.")
    asked = f"The environment {wanted!r}" if wanted is not None else "No environment"
    said = f"{asked} is not open to you in the profile {profile.name!r}. There are: {names}."
    if wanted is None:
        said = f"No environment is open to you in the profile {profile.name!r}. Ask your local contact."
    raise refuse("profile_not_allowed", wanted or profile.name, said)


def session_plan(
    answer: GrantAnswer,
    request: SessionRequest,
    config: FacilityConfig,
    principal: Principal,
    placed: tuple[Place, ExplainRecord],
    occasion: Occasion,
) -> SessionPlan:
    """The plan of one session.

    Mounts are the granted folders of the asked datasets at the pools' targets, the processed folders
    that may be written, and the person's home; see `choose_mounts`. The session ends with its
    profile's lifetime or with the first right that it needs, whichever comes first.

    Raises
    ------
    Refused
        If a dataset's own folder is not granted (its metadata may be readable all the same), if the
        answer is for another account, a name is unknown or not open to the person, or more than
        64 folders would have to be mounted.
    """
    if answer.account != principal.account:
        raise refuse("bad_request", "rights", "The rights that came back are another account's.")
    chosen = choose_profile(request, config, roles=principal.roles)
    place, explain = placed
    pools = {pool.name: pool for pool in config.pools}
    own = person_mounts(principal.account, place, config.sessions, is_mapped=is_mapped(principal))
    data = choose_mounts(
        answer, pools, at=occasion.now, read_only=place.read_only_pools, at_most=MAX_MOUNTS - len(own)
    )
    datasets = tuple(sorted(answer.datasets, key=lambda dataset: dataset.pid))
    _check_granted(answer, data)
    mounts = (*data.mounts, *own)
    check_mounts(mounts)
    uid, gid, gids = _identity(principal, place, config, occasion.facts)
    gids, notes = fitting_groups(gid, gids, mounts, pools, occasion.facts)
    profile = chosen.profile
    return SessionPlan(
        id=occasion.plan_id,
        account=principal.account,
        server_name=occasion.server_name,
        display_name=principal.display_name,
        principal_label=f"{principal.display_name} ({principal.subject} at {principal.issuer})",
        place=place,
        environment=chosen.environment.name,
        image=_image(chosen.environment, place, config),
        profile=profile.name,
        mounts=mounts,
        datasets=tuple(_planned(dataset, data, config) for dataset in datasets),
        ungranted_links=data.ungranted,
        template=_template(request, datasets, config, occasion),
        uid=uid,
        gid=gid,
        gids=gids,
        limits=limits_of(profile),
        cluster_limits=_cluster_limits(profile),
        environment_variables=_environment_variables(profile, config, occasion),
        created_at=occasion.now,
        expires_at=_expiry(profile, data, occasion.now),
        policy_version=answer.policy_version,
        explain=explain.model_copy(update={"notes": (*explain.notes, *data.notes, *notes)}),
        is_rescue=occasion.facts.full_home is not None,
        trace_id=occasion.trace_id,
        is_prepared=request.prepare,
    )


def limits_of(profile: ProfileConfig) -> Limits:
    """What one server of a profile may use."""
    return Limits(cpu=profile.cpu, memory_gib=profile.memory_gib, gpus=profile.gpus)


def bytes_per_pool(answer: GrantAnswer) -> dict[str, int]:
    """Bytes of the answered datasets on each pool; pools of linked or writable folders count 0 more."""
    total: dict[str, int] = {}
    for dataset in answer.datasets:
        total[dataset.folder.pool] = total.get(dataset.folder.pool, 0) + dataset.size_bytes
    for grant in answer.grants:
        total.setdefault(grant.folder.pool, 0)
    return total


def _check_granted(answer: GrantAnswer, data: MountChoice) -> None:
    outside = {(folder.pool, folder.path) for folder in data.ungranted}
    for dataset in answer.datasets:
        if (dataset.folder.pool, dataset.folder.path) in outside:
            raise refuse("not_a_member", dataset.pid, f"The files of {dataset.pid} are not open to you.")


def _image(environment: EnvironmentConfig, place: Place, config: FacilityConfig) -> str:
    configured = _place_config(place, config)
    if configured.docker is not None and configured.docker.image is not None:
        return configured.docker.image
    return "local" if place.backend == "local" else environment.image


def _place_config(place: Place, config: FacilityConfig) -> PlaceConfig:
    for configured in config.sessions.places:
        if configured.name == place.name:
            return configured
    raise refuse("no_place", place.name, f"The place {place.name!r} is not configured any more.")


def _planned(dataset: DatasetRef, data: MountChoice, config: FacilityConfig) -> PlannedDataset:
    target = next(pool.target for pool in config.pools if pool.name == dataset.folder.pool)
    outside = {(folder.pool, folder.path) for folder in data.ungranted}
    ungranted = [
        f"{folder.pool}:{folder.path} (not granted)"
        for folder in dataset.link_closure
        if (folder.pool, folder.path) in outside
    ]
    return PlannedDataset(
        pid=dataset.pid,
        title=dataset.title,
        proposal=dataset.proposal,
        technique=dataset.technique,
        instrument=dataset.instrument,
        file=str(PurePosixPath(target) / dataset.file),
        missing=(*dataset.missing_links, *ungranted),
    )


def _template(
    request: SessionRequest, datasets: tuple[DatasetRef, ...], config: FacilityConfig, occasion: Occasion
) -> PlannedTemplate | None:
    template = _chosen_template(request, datasets, config)
    if template is None:
        return None
    digest = occasion.template_digests.get(template.name)
    if digest is None:
        raise refuse("unavailable", template.name, f"The file of template {template.name!r} cannot be read.")
    first = next((one for one in datasets if one.technique == template.technique), next(iter(datasets), None))
    parameters: dict[str, str | int | float | bool] = {"dataset": first.pid} if first else {}
    return PlannedTemplate(name=template.name, digest=digest, file=template.file, parameters=parameters)


def _chosen_template(
    request: SessionRequest, datasets: tuple[DatasetRef, ...], config: FacilityConfig
) -> TemplateConfig | None:
    templates = config.sessions.templates
    if request.template is None:
        techniques = [dataset.technique for dataset in datasets]
        fitting = (
            template for technique in techniques for template in templates if template.technique == technique
        )
        return next(fitting, None)
    for template in templates:
        if template.name == request.template:
            return template
    names = ", ".join(template.name for template in templates) or "none"
    raise refuse(
        "bad_request", request.template, f"No template is called {request.template!r}. There are: {names}."
    )


def _identity(
    principal: Principal, place: Place, config: FacilityConfig, facts: StartFacts
) -> tuple[int | None, int | None, tuple[int, ...]]:
    """Numeric identity of the session; local ones run as the hub's own user."""
    if place.backend == "local":
        return None, None, ()
    first = config.sessions.unmapped_uid_first
    unmapped = range(first, first + N_UNMAPPED_UIDS)
    if principal.uid is not None and principal.gid is not None:
        if principal.uid in unmapped or principal.gid in unmapped:
            raise refuse("unavailable", "account", "Your numeric identity is one of the platform's own.")
        return principal.uid, principal.gid, tuple(gid for gid in principal.gids if gid not in unmapped)
    uid = facts.unmapped_uid
    if uid is None or uid not in unmapped:
        raise refuse("unavailable", "account", "No numeric identity is kept for you. Try again.")
    return uid, uid, ()


def _cluster_limits(profile: ProfileConfig) -> ClusterLimits:
    return ClusterLimits(
        max_workers=profile.workers,
        threads_per_worker=max(1, int(profile.cpu) // max(1, profile.workers)),
        memory_gib=profile.memory_gib,
    )


def _environment_variables(
    profile: ProfileConfig, config: FacilityConfig, occasion: Occasion
) -> dict[str, str]:
    """What every process of the session sees; the backend adds where its files lie.

    `TRACEPARENT` has the form of W3C Trace Context, with the plan's first digits as the parent.
    """
    threads = str(max(1, int(profile.cpu)))
    trace = (
        {"TRACEPARENT": traceparent(occasion.trace_id, occasion.plan_id[:16])} if occasion.trace_id else {}
    )
    return {
        **trace,
        **_gateway_variables(config),
        "BEAMHUB_WEB_URL": config.sessions.web_url,
        "CPU_LIMIT": f"{profile.cpu:g}",
        "MEM_LIMIT": str(int(profile.memory_gib * 2**30)),
        **dict.fromkeys(THREAD_VARIABLES, threads),
    }


def _gateway_variables(config: FacilityConfig) -> dict[str, str]:
    """Where the session's clusters are made, for us and for dask-gateway's own client."""
    if config.gateway is None:
        return {}
    return {
        "BEAMHUB_GATEWAY_URL": config.gateway.session_url,
        "DASK_GATEWAY__ADDRESS": config.gateway.session_url,
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
    }


def _expiry(profile: ProfileConfig, data: MountChoice, now: datetime) -> datetime:
    ends = [grant.until for grant in data.used if grant.until is not None]
    return min([now + timedelta(hours=profile.lifetime_h), *ends])


def proposals_in(mounts: tuple[Mount, ...]) -> dict[str, str]:
    """The writable processed folder of each proposal, as the session sees it."""
    return {
        mount.proposal: mount.target
        for mount in mounts
        if mount.purpose == "processed" and mount.mode == "rw" and mount.proposal is not None
    }
