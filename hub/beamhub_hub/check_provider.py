"""`beamhub login check-provider`: what a provider offers, beside what the login here needs of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from datetime import datetime
from email.utils import parsedate_to_datetime

from beamhub_core.clock import Clock, utc_now
from beamhub_core.config import read_config
from beamhub_core.config.provider import ProviderConfig
from beamhub_hub.denial import ProviderUnavailable
from beamhub_hub.login_addresses import Addresses, addresses_of
from beamhub_hub.named_provider import find_provider
from beamhub_hub.provider import OpenIdProvider
from beamhub_hub.provider_findings import Finding, clock_finding, findings, key_findings

FAILED = 1


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; exit code 1 if one of them keeps people out.

    Raises
    ------
    ProviderUnknown, ProviderUnavailable
        With exit codes 3 and 6.
    """
    config = read_config(arguments.config)
    provider = find_provider(config, arguments.name)
    found = asyncio.run(look(provider))
    addresses = addresses_of(config, provider.name)
    has_failed = any(finding.verdict == "fail" for finding in found)
    if arguments.json:
        answer = {
            "version": 1,
            "ok": not has_failed,
            "provider": provider.name,
            "issuer": provider.issuer,
            "findings": [asdict(finding) for finding in found],
            "register": asdict(addresses),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(provider, found, addresses)) + "\n")
    return FAILED if has_failed else 0


async def look(config: ProviderConfig, *, clock: Clock = utc_now) -> tuple[Finding, ...]:
    """Fetch what a login fetches, and say what it is worth.

    Raises
    ------
    ProviderUnavailable
        If there is no discovery document at all.
    """
    provider = OpenIdProvider(config, leeway_s=0, secret="")  # nothing here needs the secret
    try:
        document = await provider.discovery()
        skew_s = _skew_s(provider.date, clock())
        found = [*findings(document, config), clock_finding(skew_s)]
        try:
            found.append(key_findings(await provider.key_set(), config))
        except ProviderUnavailable as error:
            found.append(Finding("signing keys", "fail", f"They cannot be had: {error.reason}."))
    finally:
        await provider.close()
    return tuple(found)


def _skew_s(date: str | None, now: datetime) -> float | None:
    """How far an HTTP date is ahead of a time, in seconds. Source: RFC 9110, 5.6.7."""
    try:
        said = parsedate_to_datetime(date) if date else None
        return (said - now).total_seconds() if said else None
    except (ValueError, TypeError, OverflowError):
        return None


def _lines(provider: ProviderConfig, found: tuple[Finding, ...], addresses: Addresses) -> list[str]:
    width = max(len(finding.subject) for finding in found)
    counts = {verdict: sum(finding.verdict == verdict for finding in found) for verdict in ("warn", "fail")}
    return [
        f"Provider {provider.name} ({provider.issuer}), preset {provider.preset}",
        *(f"{finding.verdict:<5} {finding.subject:<{width}}  {finding.text}" for finding in found),
        "",
        "Register at the provider, exactly:",
        f"  redirect URI              {addresses.redirect_uri}",
        f"  back-channel logout URI   {addresses.backchannel_logout_uri}",
        f"  post-logout redirect URI  {addresses.post_logout_redirect_uri}",
        "",
        f"{counts['fail']} failed, {counts['warn']} to look at.",
    ]
