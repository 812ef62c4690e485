"""A real FUSE file system of folders, served by a process that tests can stop: storage that hangs.

`python fuse_server.py MOUNTPOINT UID`: folders in memory, all owned by UID. Mounted for UID alone (no
`allow_other`), so that the host's root is refused as on a root-squashed export. Needs root and /dev/fuse.

Source: Linux kernel, include/uapi/linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOKUP, _FORGET, _GETATTR, _SETATTR, _MKDIR, _STATFS, _INIT = 1, 2, 3, 4, 9, 17, 26
_OPENDIR, _READDIR, _RELEASEDIR, _ACCESS, _BATCH_FORGET = 27, 28, 29, 34, 42
_MNT_DETACH = 2
_HEADER = struct.Struct("<IIQQIIIHH")


class Tree:
    """Folders by node number; the root is 1."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.folders: dict[int, dict[bytes, int]] = {1: {}}
        self.modes: dict[int, tuple[int, int, int]] = {1: (0o700, uid, uid)}

    def attributes(self, node: int) -> bytes:
        mode, uid, gid = self.modes[node]
        numbers = struct.pack("<6Q3I", node, 0, 0, 0, 0, 0, 0, 0, 0)
        return numbers + struct.pack("<7I", stat.S_IFDIR | mode, 2, uid, gid, 0, 4096, 0)

    def entry(self, node: int) -> bytes:
        return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + self.attributes(node)

    def answer(self, code: int, node: int, body: bytes, owner: tuple[int, int]) -> bytes:
        """The body of an answer; raises OSError for a refusal."""
        if code == _INIT:
            return struct.pack("<4I2H2I2HI7I", 7, 31, 0, 0, 16, 12, 65536, 1, 16, 0, 0, *[0] * 7)
        if code == _LOOKUP:
            inner = self.folders[node].get(body.rstrip(b"\0"))
            if inner is None:
                raise OSError(errno.ENOENT, "")
            return self.entry(inner)
        if code == _MKDIR:
            mode, _ = struct.unpack_from("<2I", body)
            new = len(self.modes) + 1
            self.folders[node][body[8:].rstrip(b"\0")] = new
            self.folders[new], self.modes[new] = {}, (mode & 0o7777, *owner)
            return self.entry(new)
        if code in (_GETATTR, _SETATTR):
            if code == _SETATTR and struct.unpack_from("<I", body)[0] & 1:
                self.modes[node] = (struct.unpack_from("<I", body, 68)[0] & 0o7777, *self.modes[node][1:])
            return struct.pack("<Q2I", 0, 0, 0) + self.attributes(node)
        return self.small_answer(code, node, body)

    def small_answer(self, code: int, node: int, body: bytes) -> bytes:
        if code == _OPENDIR:
            return struct.pack("<Q2I", 0, 0, 0)
        if code == _READDIR:
            if struct.unpack_from("<2Q", body)[1]:
                return b""
            said = b""
            for i, (name, inner) in enumerate(self.folders[node].items(), start=1):
                said += struct.pack("<2Q2I", inner, i, len(name), 4) + name + b"\0" * (-len(name) % 8)
            return said
        if code == _STATFS:
            return struct.pack("<5Q4I6I", 1000, 500, 500, 1000, 500, 4096, 255, 4096, 0, *[0] * 6)
        if code in (_RELEASEDIR, _ACCESS):
            return b""
        raise OSError(errno.ENOSYS, "")


def serve(mountpoint: str, uid: int) -> None:
    """Mount and answer until the connection ends."""
    connection = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={connection},rootmode=40000,user_id={uid},group_id={uid},default_permissions"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"beamhub-test", mountpoint.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    tree = Tree(uid)
    while True:
        try:
            asked = os.read(connection, 1 << 20)
        except OSError:
            return
        _, code, unique, node, asker, group, *_ = _HEADER.unpack_from(asked)
        if code in (_FORGET, _BATCH_FORGET):
            continue
        try:
            said, error = tree.answer(code, node, asked[_HEADER.size :], (asker, group)), 0
        except OSError as refused:
            said, error = b"", -(refused.errno or errno.EIO)
        os.write(connection, struct.pack("<IiQ", 16 + len(said), error, unique) + said)


class StoppableStorage:
    """A mounted file system whose server can be stopped and continued."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder, self._process = folder, process

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def stoppable_storage(folder: Path, uid: int = 0) -> Iterator[StoppableStorage]:
    """Serve a file system at a folder until the block ends."""
    with subprocess.Popen(
        [sys.executable, __file__, str(folder), str(uid)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "mounted\n"
            yield StoppableStorage(folder, process)
        finally:
            ctypes.CDLL(None).umount2(str(folder).encode(), _MNT_DETACH)
            process.kill()  # ends the connection; whoever waits gets an error


def why_no_fuse() -> str | None:
    """Why this machine cannot serve one; None where it can."""
    if os.geteuid() != 0:
        return "only root can mount a FUSE file system"
    return None if Path("/dev/fuse").exists() else "no /dev/fuse"


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
