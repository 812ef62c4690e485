"""What every spawner promises of storage; part of the spawner's contract."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import pytest

from beamhub_core.session import SessionInfo
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.session_options import read_options
from contracts.spawner_parts import GRANTED_PID

REQUEST = {"datasets": [GRANTED_PID]}
K11 = "dls_k11_tomography.nxs"

LINKS = """
import h5py, json, os, pathlib
info = json.loads(pathlib.Path(os.environ["BEAMHUB_SESSION_FILE"]).read_text())
folder = pathlib.Path(info["datasets"][0]["file"]).parent
said = []
for file, path in {wanted!r}:
    with h5py.File(folder / file) as master:
        said.append(list(master[path].shape))
print(json.dumps(said))
"""
RESCUE = """
import json, os, pathlib
info = json.loads(pathlib.Path(os.environ["BEAMHUB_SESSION_FILE"]).read_text())
home = pathlib.Path(info["home"])
said = {"info": info, "in_home": sorted(os.listdir(home))}
(home / "big").unlink()
(home / "note").write_text("there is room again")
print(json.dumps(said))
"""


class StorageContract:
    """Tests for any backend; see `SpawnerContract`."""

    def begin(self, backend: Any, run: Any) -> tuple[Any, str]:
        spawner = backend.spawner()
        spawner.request = read_options(REQUEST)
        return spawner, run(spawner.start())

    def test_the_first_login_ever_finds_a_home_of_its_own(self, backend: Any, run: Any) -> None:
        homes = backend.part.platform.config.sessions.homes_folder
        assert not homes.exists()
        spawner, _ = self.begin(backend, run)
        plan = spawner.plan
        owner = (plan.uid, plan.gid) if plan.uid else (os.geteuid(), os.getegid())
        [home] = [Path(mount.source) for mount in plan.mounts if mount.purpose == "home"]
        [processed] = [Path(mount.source) for mount in plan.mounts if mount.purpose == "processed"]
        for folder, mode in ((home, 0o700), (home / "notebooks", 0o700), (processed, 0o2770)):
            found = folder.stat()
            assert (found.st_uid, found.st_mode & 0o7777) == (owner[0], mode), folder
        assert home.stat().st_gid == owner[1]
        run(spawner.stop(now=True))

    def test_links_of_a_real_master_file_resolve_in_the_session(self, backend: Any, run: Any) -> None:
        pool = backend.part.platform.config.pools[0]
        raw = pool.root / "MA-5101/raw"
        with h5py.File(raw / "detector/frames.nxs", "w") as frames:
            frames["counts"] = [[1, 2], [3, 4]]
        with h5py.File(raw / "sample-1/master.nxs", "w") as master:
            master["sibling"] = h5py.ExternalLink("../detector/frames.nxs", "/counts")
            master["absolute"] = h5py.ExternalLink(
                f"{pool.target}/MA-5101/raw/detector/frames.nxs", "/counts"
            )
        wanted = [("master.nxs", "sibling"), ("master.nxs", "absolute")]
        expected = [[2, 2], [2, 2]]
        data = Path(os.environ.get("BEAMHUB_FACILITY_DATA", "/nonexistent"))
        if (data / K11).exists():  # a real facility's master with its detector's file in a folder below
            (raw / "sample-1/k11-18014").mkdir()
            shutil.copy(data / K11, raw / "sample-1" / K11)
            shutil.copy(
                data / "dls_k11_tomography_imaging.h5", raw / "sample-1/k11-18014/k11-18014-imaging.h5"
            )
            with h5py.File(raw / "sample-1" / K11) as master:
                expected.append(list(master["/entry/imaging/data"].shape))
            wanted.append((K11, "/entry/imaging/data"))
        spawner, _ = self.begin(backend, run)
        assert json.loads(backend.look(spawner.plan.id, LINKS.format(wanted=wanted))) == expected
        run(spawner.stop(now=True))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system as home")
    def test_with_a_full_home_the_session_starts_and_things_can_be_deleted(
        self, backend: Any, run: Any
    ) -> None:
        homes = backend.part.platform.config.sessions.homes_folder
        spawner, _ = self.begin(backend, run)
        [home] = [Path(mount.source) for mount in spawner.plan.mounts if mount.purpose == "home"]
        owner = home.stat()
        run(spawner.stop(now=True))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k,mode=700", "tmpfs", home], check=True)
        try:
            os.chown(home, owner.st_uid, owner.st_gid)
            with pytest.raises(OSError, match="No space"):
                (home / "big").write_bytes(b"x" * 1_000_000)
            os.chown(home / "big", owner.st_uid, owner.st_gid)
            spawner, _ = self.begin(backend, run)
            assert spawner.plan.is_rescue
            said = json.loads(backend.look(spawner.plan.id, RESCUE))
            info = SessionInfo.model_validate(said["info"])
            assert info.is_rescue
            assert any("Your home is full (no space is left)" in note for note in info.notes)
            # Neither settings nor history nor signatures: not even an empty folder for them.
            assert set(said["in_home"]) <= {"big", "notebooks"}, said["in_home"]
            assert (home / "note").read_text() == "there is room again"
            run(spawner.stop(now=True))
        finally:
            subprocess.run(["umount", "-l", home], check=True)
        assert homes.exists()

    def test_a_folder_that_cannot_be_made_fails_the_start_by_name(self, backend: Any, run: Any) -> None:
        pool = backend.part.platform.config.pools[0]
        (pool.root / "MA-5101/processed").write_text("a file where the folder should be")
        spawner = backend.spawner()
        spawner.request = read_options(REQUEST)
        with pytest.raises(StartFailed, match="MA-5101/processed"):
            run(spawner.start())
        assert backend.n_objects() == 0
