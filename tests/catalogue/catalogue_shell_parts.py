"""The verbs of the catalogue's room, as a person at a shell types them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from beamhub_catalogue.people import store_principal
from beamhub_core.command import main
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import Facility

AFTER = "2028-10-10T00:00:00+02:00"


class Shell:
    """A facility and the command, run in this process."""

    def __init__(self, facility: Facility, capsys: pytest.CaptureFixture[str]) -> None:
        self.facility, self._capsys = facility, capsys
        self.config = facility.folder / "facility.yaml"
        self.config.write_text(json.dumps(facility.config().model_dump(mode="json")))

    def run(self, *words: str, config: bool = True) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        more = ["--config", str(self.config)] if config else []
        try:
            code = main([*words, *more])
        except SystemExit as usage:
            code = int(usage.code or 0)
        seen = self._capsys.readouterr()
        return code, seen.out, seen.err

    def json(self, *words: str, config: bool = True) -> tuple[int, dict[str, Any]]:
        """Exit code and the one JSON object on standard output."""
        code, out, _ = self.run(*words, "--json", config=config)
        found: dict[str, Any] = json.loads(out)
        return code, found

    def login(self, *people: Principal) -> None:
        """What web knows of people."""
        service = self.facility.service()
        with service.database.writing() as session:
            for who in people:
                store_principal(session, who, service.config.login, who.checked_at)
        service.stop()


def explain(shell: Shell, *words: str) -> tuple[int, str, str | None]:
    code, facts = shell.json("policy", "explain", *words)
    return code, facts["decision"], facts["rule"]
