"""What a person sees of a cluster: its size, what it costs, its age, and until when it may go on. Pure."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Literal

from beamhub_core.cluster_record import ClusterKind

CardState = Literal["runs", "closed", "no answer"]
WHERE: dict[ClusterKind, str] = {
    "gateway": "Cluster beside this session",
    "threads": "Cluster in this notebook",
    "processes": "Cluster on this notebook's machine",
}
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class ClusterCard:
    """The state of a cluster at one moment.

    Parameters
    ----------
    memory_bytes:
        Of all workers together; 0 where they share the notebook's.
    most_workers:
        What `scale` takes at most.
    core_s:
        What the workers have cost so far, cores by seconds, whether they computed or waited.
    session_left_s:
        Until the session ends, and the cluster with it; None outside of a session.
    pages:
        The address of its dashboards on this server; None where nothing serves them.
    """

    kind: ClusterKind
    state: CardState
    n_workers: int
    n_threads: int
    memory_bytes: int
    most_workers: int
    age_s: float
    core_s: float
    session_left_s: float | None
    pages: str | None

    def facts(self) -> list[tuple[str, str]]:
        """Each line of the card: what, and its value."""
        if self.state == "closed":
            return [("Closed after", in_words(self.age_s)), ("Cost", self.cost())]
        size = _count(self.n_workers, "worker") + ", " + _count(self.n_threads, "core")
        memory = f"{self.memory_bytes / GIB:.3g} GiB" if self.memory_bytes else "the notebook's"
        lines = [("Size", size), ("Memory", memory), ("Cost so far", self.cost())]
        lines.append(("Age", in_words(self.age_s)))
        if self.session_left_s is not None:
            lines.append(("Time left", f"{in_words(self.session_left_s)}, as the session was planned"))
        lines.append(("Scales to", _count(self.most_workers, "worker") + " at most"))
        return lines

    def cost(self) -> str:
        """Core hours; threads of a notebook take no more than it has already."""
        if self.kind == "threads":
            return "none beyond the notebook's"
        return f"{self.core_s / 3600:.2f} core hours"

    def title(self) -> str:
        """Where it is, and whether it is there."""
        state = {"runs": "", "closed": " (closed)", "no answer": " (does not answer)"}[self.state]
        return WHERE[self.kind] + state

    def text(self) -> str:
        """The card in one line."""
        return self.title() + ": " + "; ".join(f"{name.lower()} {value}" for name, value in self.facts())

    def html(self) -> str:
        """The card as a table, with a link to the dashboards while there are any; everything is escaped."""
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(value)}</td></tr>'
            for name, value in self.facts()
        )
        link = ""
        if self.pages is not None and self.state != "closed":
            link = (
                f'<p><a href="{html.escape(self.pages, quote=True)}" target="_blank" rel="noopener">'
                "Dashboards</a></p>"
            )
        caption = f'<caption style="text-align:left">{html.escape(self.title())}</caption>'
        return f'<div class="beamhub-cluster"><table>{caption}<tbody>{rows}</tbody></table>{link}</div>'


class CoreMeter:
    """Adds up what cores have cost: cores by seconds, from one look to the next.

    Between two looks the number of cores is taken as it was at the first.
    """

    def __init__(self, now_s: float) -> None:
        self.core_s = 0.0
        self._cores, self._at_s = 0, now_s

    def look(self, n_cores: int, now_s: float) -> None:
        """So many cores are there now."""
        self.core_s += self._cores * max(0.0, now_s - self._at_s)
        self._cores, self._at_s = n_cores, now_s


def in_words(seconds: float) -> str:
    """A time as people say it: '40 s', '12 min', '3 h 20 min', '2 days'."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if not hours:
        return f"{minutes} min"
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
