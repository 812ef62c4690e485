"""Why a template is not open: each error has the HTTP status and the advice that its page shows."""

from __future__ import annotations

from typing import ClassVar

from beamhub_core.errors import BeamhubError


class SessionProblem(BeamhubError):
    """Base of what can go wrong between a planned template and an open notebook; Lab always opens."""

    status: ClassVar[int] = 500
    advice: ClassVar[str] = "Open JupyterLab and go on without the template, or start the session again."


class SessionUnknown(SessionProblem):
    """The server was not started from a plan: no session file is named, or it cannot be read."""

    status = 404
    advice = "Your files are safe. Stop this server and open the dataset again from its page."

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"This server does not know its session: {self.reason}."


class TemplateMissing(SessionProblem):
    """The planned template's file is not there."""

    status = 404
    advice = "The facility moved or removed it. Open the dataset again from its page to get the current one."

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file

    def __str__(self) -> str:
        return f"The template {self.file!r} is not among the templates of this server."


class TemplateChanged(SessionProblem):
    """The template's content is not the one that was planned."""

    status = 409
    advice = (
        "The facility changed it while your session started. Stop this server and open the dataset again "
        "to get the current one."
    )

    def __init__(self, file: str, planned: str, found: str) -> None:
        super().__init__(file, planned, found)
        self.file, self.planned, self.found = file, planned, found

    def __str__(self) -> str:
        return (
            f"The template {self.file!r} is not the one this session was planned with "
            f"(sha256 {self.found[:12]}, planned {self.planned[:12]})."
        )


class TemplateUnusable(SessionProblem):
    """The template is no notebook, or has no place for the planned parameters."""

    status = 422
    advice = "Tell the facility; docs and notebooks/README.md say how a template must look."

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        return f"The template {self.file!r} cannot be used: {self.reason}."


class HomeNotWritable(SessionProblem):
    """The notebook could not be written into the person's home."""

    status = 507
    advice = "Free some space in your home (in JupyterLab's file browser or a terminal), then try again."

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"The notebook {self.path!r} cannot be written: {self.reason}."


class NotebookOutOfReach(SessionProblem):
    """The notebook exists, but no path below the server's root folder leads to it."""

    status = 404
    advice = "Open it from a terminal in JupyterLab, and tell the facility that 'notebooks' is not linked."

    def __init__(self, path: str, root: str) -> None:
        super().__init__(path, root)
        self.path, self.root = path, root

    def __str__(self) -> str:
        return f"The notebook lies at {self.path!r}, outside of what JupyterLab shows ({self.root!r})."
