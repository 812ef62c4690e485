"""A home, a templates folder and a session file, as a spawner leaves them for a server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from beamhub_core.session import ClusterLimits, PlannedDataset, PlannedTemplate, SessionInfo
from beamhub_core.techniques import POWDER_DIFFRACTION

PID = "demo:MA-5101:CeO2_0001"
TEMPLATE_FILE = "powder/powder.ipynb"


def write_template(folder: Path, cell: str = 'dataset = ""\nbins = 1000\n') -> str:
    """Write a template and return its digest."""
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# Powder"),
            v4.new_code_cell(cell, metadata={"tags": ["parameters"]}),
            v4.new_code_cell("print(dataset)"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    file = folder / TEMPLATE_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(nbformat.writes(notebook))
    return hashlib.sha256(file.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Stage:
    """The folders of one server, and the session file in them."""

    templates: Path
    home: Path
    root: Path
    session_file: Path
    info: SessionInfo

    def changed(self, **fields: Any) -> Stage:
        """The same stage with other facts in the session file."""
        info = self.info.model_copy(update=fields)
        self.session_file.write_text(info.model_dump_json())
        return Stage(self.templates, self.home, self.root, self.session_file, info)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A planned template and one dataset that is there."""
    templates, home, root = tmp_path / "templates", tmp_path / "home", tmp_path / "session"
    for folder in (templates, home, root):
        folder.mkdir()
    data = tmp_path / "pool" / "CeO2_0001.h5"
    data.parent.mkdir()
    data.write_bytes(b"data")
    info = SessionInfo(
        plan_id="0" * 32,
        plan_hash="1" * 64,
        account="u-" + "a" * 26,
        who="Colin",
        place="hall-a",
        datasets=(
            PlannedDataset(
                pid=PID,
                title="CeO2",
                proposal="MA-5101",
                technique=POWDER_DIFFRACTION,
                instrument="bl09",
                file=str(data),
                missing=("a.h5",),
            ),
        ),
        processed={"MA-5101": str(tmp_path / "absent")},
        home=str(home),
        template=PlannedTemplate(
            name="powder-diffraction",
            digest=write_template(templates),
            file=TEMPLATE_FILE,
            parameters={"dataset": PID},
        ),
        environment="standard",
        image="local",
        cluster_limits=ClusterLimits(max_workers=2, threads_per_worker=1, memory_gib=2),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        enforced={"raw_read_only": True},
    )
    session_file = tmp_path / "session.json"
    session_file.write_text(info.model_dump_json())
    return Stage(templates, home, root, session_file, info)
