"""Why a session runs in its place and in no other, in lines for people."""

from __future__ import annotations

from beamhub_core.session import ExplainRecord


def placement_words(explain: ExplainRecord) -> tuple[str, ...]:
    """One line for the choice, then one for each place: its merits, or why it would not do."""
    lines = [f"Runs in {explain.chosen}: {explain.because}."]
    for verdict in sorted(explain.verdicts, key=lambda one: (one.place != explain.chosen, not one.fits)):
        said = "; ".join(verdict.reasons) or "nothing more is known"
        if verdict.place == explain.chosen:
            lines.append(f"{verdict.place}, chosen: {said}.")
        elif verdict.fits:
            lines.append(f"{verdict.place}, would do as well: {said}.")
        else:
            lines.append(f"{verdict.place}, not possible: {said}.")
    return tuple(lines)
