"""The one object of a server that knows where session file, templates and home lie."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from beamhub_session.errors import SessionProblem, TemplateMissing
from beamhub_session.knowledge import SessionView, Sources, TemplateState, build_view, read_session
from beamhub_session.opener import contents_path, ensure_notebook


class TemplateOpener:
    """Opens the planned template of one server and remembers what became of it.

    Its methods touch files: call them in a thread. Two calls at a time are safe, as a notebook is only ever
    created, never replaced.
    """

    def __init__(self, sources: Sources, root: Path) -> None:
        self.sources, self.root = sources, root
        self.state: TemplateState | None = None
        self.when_opened: Callable[[], None] = lambda: None
        """Called in the event loop when somebody opens the session."""
        self.known_end: Callable[[], datetime | None] = lambda: None
        """The session's end where something newer than its file tells it."""

    def open(self, *, fresh_copy: bool = False) -> str | None:
        """The notebook's path as JupyterLab names it, written first when needed; None without a template.

        Raises
        ------
        SessionProblem
            Some kind of it, when there is no session or its template cannot be opened.
        """
        info = read_session(self.sources)
        template = info.template
        if template is None:
            return None
        try:
            if self.sources.templates is None:
                raise TemplateMissing(template.file)
            notebook = ensure_notebook(info, self.sources.templates, fresh_copy=fresh_copy)
            path = contents_path(self.root, notebook.file) if notebook else None
        except SessionProblem as error:
            self.state = TemplateState(name=template.name, problem=str(error))
            raise
        self.state = TemplateState(name=template.name, notebook=path)
        return path

    def view(self, now: datetime) -> SessionView:
        """What the session has mounted, and what became of its template. Writes nothing.

        Raises
        ------
        SessionUnknown
            If there is no session file, or it cannot be read.
        """
        info = read_session(self.sources)
        end = self.known_end()
        if end is not None:
            info = info.model_copy(update={"expires_at": end})
        return build_view(info, template=self.state, now=now)
