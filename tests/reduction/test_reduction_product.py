"""Products appear whole or not at all, say where they come from, and are told to the catalogue."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_core.product import Product
from beamhub_reduction.errors import ProductExists, ProductNotWritten, StorageFull
from beamhub_reduction.nexus import CurvePreview, open_header, preview_image
from beamhub_reduction.notice import CatalogueNotTold
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.product import write_whole
from beamhub_reduction.result import Result
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic import Truth

TOKEN = "a-session-token"


@pytest.fixture
def result(powder_truth: Truth, outside_session: Path) -> Result:
    return open_run(powder_truth.file).azimuthal(bins=50, progress=silent)


class Web:
    """A web service that takes products: the double of the real one; it proves nothing of harvesting."""

    def __init__(self) -> None:
        self.status, self.answer = 201, {"pid": "demo:MA-5101:product-0"}
        self.seen: list[tuple[str, str, dict[str, Any]]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                web.seen.append((self.path, self.headers["Authorization"], body))
                self.send_response(web.status)
                if web.status == 302:
                    self.send_header("Location", f"{web.url}/elsewhere")
                self.end_headers()
                self.wfile.write(json.dumps(web.answer).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, outside_session: Path) -> Iterator[Web]:
    service = Web()
    monkeypatch.setenv("BEAMHUB_WEB_URL", service.url)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", TOKEN)
    yield service
    service.close()


def test_the_file_has_the_layout_that_the_catalogue_reads(result: Result, tmp_path: Path) -> None:
    product = result.write(tmp_path / "p.h5")
    with h5py.File(product.path) as f:
        assert f["entry"].attrs["NX_class"] == "NXentry"
        assert f["entry"].attrs["default"] == "data"
        assert f["entry/experiment_identifier"].asstr()[()] == "MA-5101"
        assert "definition" not in f["entry"]
        data = f["entry/data"]
        assert (data.attrs["signal"], list(data.attrs["axes"])) == ("intensity", ["q"])
        assert data["q"].attrs["units"] == "nm^-1"
        for name in ("q", "intensity", "intensity_errors"):
            assert data[name].shape == (50,)
        np.testing.assert_array_equal(data["intensity"][:], result.curve.intensity)
        process = f["entry/process"]
        assert process["program"].asstr()[()] == "beamhub_reduction"
        assert process["provenance/type"].asstr()[()] == "application/json"
        provenance = json.loads(process["provenance/data"].asstr()[()])
        counts = process["statistics"]
        assert counts["counts_total"].dtype == np.int64
        assert int(counts["counts_total"][()]) == result.statistics.counts_total
    expected = set(Product.model_fields) - {"pid", "sha256", "size_bytes", "path"}
    assert set(provenance) == expected
    assert provenance["inputs"] == ["file:CeO2_0001.h5"]
    assert product.sha256 == hashlib.sha256(Path(product.path).read_bytes()).hexdigest()
    assert product.size_bytes == Path(product.path).stat().st_size


def test_the_reader_understands_our_own_products(result: Result, tmp_path: Path) -> None:
    product = result.write(tmp_path)
    header = open_header(product.path)
    assert header.title == result.title
    assert header.provenance is not None
    assert json.loads(header.provenance)["parameters"]["bins"] == 50
    assert isinstance(preview_image(product.path), CurvePreview)


def test_a_product_is_never_overwritten(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "p.h5"
    path.write_text("somebody's work")
    with pytest.raises(ProductExists) as caught:
        result.write(path)
    assert caught.value.path == str(path)
    assert path.read_text() == "somebody's work"
    dangling = tmp_path / "link.h5"
    dangling.symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(ProductExists):
        result.write(dangling)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == ["link.h5", "p.h5"]


def test_two_writers_of_one_name_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "p"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    outcomes: list[str] = []
    start = threading.Barrier(len(contents))

    def write(content: bytes) -> None:
        start.wait()
        try:
            write_whole(path, content)
            outcomes.append("written")
        except ProductExists:
            outcomes.append("exists")

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["exists"] * 7 + ["written"]
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_above_the_allowed_size_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageFull, match="too large") as caught:
            write_whole(tmp_path / "p.h5", b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_file(result: Result, tiny_disk: Path) -> None:
    (tiny_disk / "filler").write_bytes(b"x" * 60_000)
    with pytest.raises(StorageFull, match="No space left") as caught:
        result.write(tiny_disk / "p.h5")
    assert caught.value.exit_code == 5
    assert [p.name for p in tiny_disk.iterdir()] == ["filler"]


def test_a_folder_that_is_not_there_is_said_so(result: Result, tmp_path: Path) -> None:
    with pytest.raises(ProductNotWritten, match="No such file") as caught:
        result.write(tmp_path / "absent" / "p.h5")
    assert not isinstance(caught.value, StorageFull)


def test_a_process_killed_while_writing_leaves_no_product(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from beamhub_reduction.product import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"  # the kernel then kills the writer at its limit
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_whole(Path(sys.argv[1]), b'x' * 10_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "p.h5"])
    assert done.returncode == -signal.SIGXFSZ
    assert not (tmp_path / "p.h5").exists()


def test_the_catalogue_is_told_and_gives_the_pid(result: Result, tmp_path: Path, web: Web) -> None:
    product = result.write(tmp_path / "p.h5")
    assert product.pid == "demo:MA-5101:product-0"
    assert web.seen == [("/internal/products", f"Bearer {TOKEN}", {"path": product.path})]


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (422, {"refusal": {"reason": "another proposal's folder"}}, "422: another proposal's folder"),
        (503, {"detail": "later"}, "503"),
        (201, {"other": 1}, "ValueError"),
        (302, {}, "302"),
    ],
)
def test_a_catalogue_that_does_not_take_it_is_a_warning_without_the_token(
    result: Result, tmp_path: Path, web: Web, status: int, answer: dict[str, Any], reason: str
) -> None:
    web.status, web.answer = status, answer
    with pytest.warns(CatalogueNotTold, match=reason) as caught:
        product = result.write(tmp_path / "p.h5")
    assert Path(product.path).exists()
    assert product.pid == ""
    assert TOKEN not in str(caught[0].message)
    assert len(web.seen) == 1


def test_no_catalogue_listening_is_a_warning(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("BEAMHUB_WEB_URL", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", TOKEN)
    with pytest.warns(CatalogueNotTold, match="no connection"):
        assert result.write(tmp_path / "p.h5").pid == ""


def test_without_a_session_products_go_home(result: Result, outside_session: Path) -> None:
    product = result.write()
    assert Path(product.path).parent == outside_session
    assert Path(product.path).name.startswith("CeO2_0001_azimuthal_")
    assert Path(product.path).stat().st_mode & 0o007 == 0
