"""What `beamhub audit` does; `beamhub_catalogue.audit_command` has its words."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from datetime import UTC, datetime

from beamhub_catalogue.audit import Context, operator_name, record
from beamhub_catalogue.audit_chain import Mark, head_of, verify
from beamhub_catalogue.audit_reading import EntryFilter, EntryView, all_entries
from beamhub_catalogue.audit_retention import prune
from beamhub_catalogue.known_accounts import find_account
from beamhub_catalogue.shown import opened_service, show
from beamhub_core.errors import BeamhubError

_MARK = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


class BadArgument(BeamhubError):
    """An argument on the command line is not of its form."""

    exit_code = 2

    def __init__(self, name: str, text: str, form: str) -> None:
        super().__init__(name, text, form)
        self.name, self.text, self.form = name, text, form

    def __str__(self) -> str:
        return f"{self.name} {self.text[:100]!r} is not {self.form}."


def run_head(arguments: argparse.Namespace) -> int:
    """The mark to keep elsewhere."""
    with opened_service(arguments) as service, service.database.reading() as session:
        head = head_of(session)
    show(arguments, dataclasses.asdict(head), [f"{head.seq}:{head.digest}"])
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Walk the chain; exit code 1, and an entry that says so, when it is broken."""
    expect = _mark(arguments.expect)
    with opened_service(arguments) as service:
        with service.database.reading() as session:
            found = verify(session, expect)
        if found.fault is not None:
            fault, context = found.fault, Context(operator=operator_name())
            with service.database.writing() as session:
                at = service.clock()
                record(session, "verification_failed", "", at, context=context, seq=fault.seq, how=fault.how)
    facts = dataclasses.asdict(found) | {"ok": found.fault is None}
    lines = [f"{found.n_entries} entries, {found.first} to {found.last}, verified"]
    if found.fault is not None:
        lines = [f"broken at entry {found.fault.seq}: {found.fault.how}: {found.fault.words}"]
    elif expect is None:
        lines.append("Without --expect a chain that was cut at its end, or made anew, looks sound.")
    show(arguments, facts, lines)
    return 0 if found.fault is None else 1


def run_list(arguments: argparse.Namespace) -> int:
    """A page of entries; what an operator reads of others is an entry itself."""
    since = _time(arguments.since)
    with opened_service(arguments) as service:
        with service.database.reading() as session:
            account = find_account(session, service.config, arguments.account) if arguments.account else None
            which = EntryFilter(account, arguments.proposal, arguments.kind, since)
            page = all_entries(session, which, arguments.before, arguments.limit)
        of = "person" if account else "proposal" if arguments.proposal else "all"
        touched = (arguments.proposal,) if arguments.proposal else ()
        context = Context(about=account, operator=operator_name(), proposals=touched)
        with service.database.writing() as session:
            n_entries, at = len(page.entries), service.clock()
            record(session, "entries_read", "", at, context=context, of=of, n_entries=n_entries)
    lines = [_line(entry) for entry in page.entries]
    if page.before is not None:
        lines.append(f"older ones: --before {page.before}")
    show(arguments, dataclasses.asdict(page), lines)
    return 0


def run_prune(arguments: argparse.Namespace) -> int:
    """Remove what is past its retention."""
    with opened_service(arguments) as service:
        config = service.config.catalogue.audit
        done = prune(service.database, config, service.desk.wall_clock(), operator_name())
    more = "; more are past their time: run it again" if done.is_more else ""
    words = f"{done.n_entries} entries and {done.n_sessions} ended session(s) removed{more}"
    show(arguments, dataclasses.asdict(done), [words])
    return 0


def _line(entry: EntryView) -> str:
    about = f" about {entry.about}" if entry.about else ""
    detail = json.dumps(entry.detail, sort_keys=True)
    when = entry.at.isoformat(timespec="seconds")
    return f"{entry.seq}\t{when}\t{entry.kind}\t{entry.who}{about}\t{entry.subject}\t{detail}"


def _mark(text: str | None) -> Mark | None:
    if text is None:
        return None
    found = _MARK.fullmatch(text)
    if found is None:
        raise BadArgument("--expect", text, "SEQ:DIGEST as `beamhub audit head` prints it")
    return Mark(int(found[1]), found[2])


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is not None:
            return when.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise BadArgument("--since", text, "a time with a zone, e.g. 2026-03-31T12:00:00+02:00")
