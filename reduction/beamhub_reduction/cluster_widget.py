"""The card of a cluster with buttons, where a notebook has widgets."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from beamhub_core.errors import BeamhubError
from beamhub_reduction.cluster_card import ClusterCard
from beamhub_reduction.pipeline.progress import in_kernel

if TYPE_CHECKING:
    from beamhub_reduction.cluster_client import SessionClient

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class ClusterWidget:
    """What is shown of one cluster; every view of it is the same widget."""

    def __init__(self, client: SessionClient, card: ClusterCard, widgets: Any) -> None:
        self._client = client
        self._card = widgets.HTML(card.html())
        self._said = widgets.HTML("")
        self._workers = widgets.BoundedIntText(
            value=max(1, card.n_workers), min=1, max=card.most_workers, description="Workers"
        )
        self._scale = widgets.Button(description="Scale", tooltip="Ask for this number of workers")
        self._stop = widgets.Button(
            description="Stop", tooltip="End the cluster; results in it are lost", button_style="warning"
        )
        self._scale.on_click(self._scale_it)
        self._stop.on_click(self._stop_it)
        buttons = widgets.HBox([self._workers, self._scale, self._stop])
        self.box = widgets.VBox([self._card, buttons, self._said])

    @classmethod
    def of(cls, client: SessionClient, card: ClusterCard) -> ClusterWidget | None:
        """The widget of a client; None where this is no kernel, or has no widgets."""
        if not in_kernel():
            return None
        try:
            # Optional dependency: belongs to the session's extra, not to the reduction's.
            import ipywidgets
        except ModuleNotFoundError:
            return None
        return cls(client, card, ipywidgets)

    def bundle(self) -> dict[str, Any]:
        """What a front end with widgets shows instead of the plain card."""
        shown: dict[str, Any] = self.box._repr_mimebundle_() or {}
        return {WIDGET_VIEW: shown[WIDGET_VIEW]} if WIDGET_VIEW in shown else {}

    def show(self, card: ClusterCard) -> None:
        """Show a state."""
        self._card.value = card.html()
        if card.state == "closed":
            for part in (self._workers, self._scale, self._stop):
                part.disabled = True

    def _scale_it(self, _: Any) -> None:
        try:
            self._client.scale(self._workers.value)
        except BeamhubError as refused:
            self._say(str(refused))
        else:
            self._say(f"{self._workers.value} workers were asked for.")
            self.show(self._client.card())

    def _stop_it(self, _: Any) -> None:
        self._client.stop()
        self._say("")

    def _say(self, text: str) -> None:
        self._said.value = html.escape(text)
