"""Which proposals a person's entitlements name: one rule, for the web service and for whoever explains it."""

from __future__ import annotations

from beamhub_core.config.login import LoginConfig
from beamhub_core.config.provider import ProviderConfig
from beamhub_core.identity import Entitlement, Principal
from beamhub_core.rights import ProposalRole

MAX_ENTITLED_PROPOSALS = 5_000
MAX_PROPOSAL = 200


def entitled_roles(principal: Principal, login: LoginConfig) -> dict[str, ProposalRole]:
    """The proposals that a person's entitlements name, by the configuration of the person's providers.

    An entitlement counts where one provider of the person's identities may assert its namespace and calls
    the group of proposals so; providers that only say who somebody is give nothing. The hub checked the
    namespaces; checked again here, because this is where they become rights.
    """
    issuers = {identity.issuer for identity in principal.identities}
    providers = [p for p in login.providers if p.issuer in issuers and not p.is_identity_only]
    found: dict[str, ProposalRole] = {}
    for entitlement in principal.entitlements:
        if len(entitlement.subgroups) != 1 or not any(_may_say(p, entitlement) for p in providers):
            continue
        proposal, role = entitlement.subgroups[0], _entitled_role(entitlement.role)
        if len(proposal) > MAX_PROPOSAL or not (proposal.isascii() and proposal.isprintable()):
            continue  # the grammar has no such name
        if role is None or found.get(proposal) == "pi":
            continue
        if proposal in found or len(found) < MAX_ENTITLED_PROPOSALS:
            found[proposal] = role
    return found


def _may_say(provider: ProviderConfig, entitlement: Entitlement) -> bool:
    is_ours = entitlement.namespace in provider.entitlement_namespaces
    return is_ours and entitlement.group == provider.proposal_group


def _entitled_role(role: str | None) -> ProposalRole | None:
    """pi and member as they stand, no role is member; a role that we do not know gives no right."""
    if role is None:
        return "member"
    return next((r for r in ("pi", "member") if r == role), None)
