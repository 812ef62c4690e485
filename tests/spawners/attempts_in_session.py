"""Random attempts to change raw data, or to leave, from inside a session; run there as its user.

Reads `{"raw", "neighbour", "count", "seed"}` from its first argument and prints how many of how many attempts
succeeded, with the first of those that did. Each attempt is written so that its success is a violation.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

MS_REMOUNT, MS_BIND, MS_RDONLY, MNT_DETACH = 32, 4096, 1, 2
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
libc = ctypes.CDLL(None, use_errno=True)
TMP = Path("/tmp/attempts")  # noqa: S108 - the container's own memory


def _checked(code: int) -> None:
    if code < 0:
        number = ctypes.get_errno()
        raise OSError(number or errno.EPERM, os.strerror(number))


def spellings(path: str, draw: random.Random) -> str:
    """One of many ways to name the same file or folder."""
    parent, name = os.path.split(path)
    link = TMP / f"link-{draw.getrandbits(40):x}"
    link.symlink_to(parent)
    return draw.choice(
        [
            path,
            f"{parent}/./{name}",
            f"{parent}/../{os.path.basename(parent)}/{name}",
            f"/tmp/..{path}",  # noqa: S108
            f"/proc/self/root{path}",
            f"/proc/1/root{path}",
            f"/proc/self/cwd/../../../../../..{path}",
            f"{link}/{name}",
            f"/proc/thread-self/root{parent}//{name}",
        ]
    )


def through_descriptor(path: str, flags: int) -> int:
    """Open a file by a descriptor of its folder, or again by its own."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    finally:
        os.close(fd)


def shared_memory(path: str) -> None:
    """Map a file writable that was opened for reading."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            mapped[0] = 0
    finally:
        os.close(fd)


def in_own_namespace(act: Callable[[], None]) -> None:
    """Act as root of a user namespace of one's own, in a child."""
    child = os.fork()
    if child == 0:
        try:
            _checked(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
            act()
            os._exit(0)
        except OSError:
            os._exit(1)
    if os.waitpid(child, 0)[1] != 0:
        raise OSError(errno.EPERM, "in a namespace of its own")


def remount(path: str) -> None:
    _checked(libc.mount(None, path.encode(), None, MS_REMOUNT | MS_BIND, None))


def acts(file: str, folder: str, neighbour: str, draw: random.Random) -> list[Callable[[], object]]:
    """The attempts on one file, its folder, and a neighbour that was not granted."""
    own = TMP / f"own-{draw.getrandbits(40):x}"
    new = f"{folder}/new-{draw.getrandbits(40):x}"
    own.write_text("x")
    return [
        lambda: os.open(file, os.O_WRONLY),
        lambda: os.open(file, os.O_RDWR | os.O_APPEND),
        lambda: os.open(file, os.O_WRONLY | os.O_TRUNC),
        lambda: os.open(new, os.O_WRONLY | os.O_CREAT, 0o777),
        lambda: os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600),
        lambda: through_descriptor(file, os.O_WRONLY),
        lambda: shared_memory(file),
        lambda: os.truncate(file, 0),
        lambda: os.rename(file, new),
        lambda: os.rename(file, own),
        lambda: os.rename(own, file),
        lambda: os.rename(folder, f"{folder}-gone"),
        lambda: os.chmod(file, 0o777),
        lambda: os.chmod(folder, 0o777),
        lambda: os.chown(file, os.getuid(), os.getgid()),
        lambda: os.link(file, new),
        lambda: os.link(file, own.with_suffix(".link")),
        lambda: os.link(own, new),
        lambda: os.symlink("/etc/passwd", new),
        lambda: os.unlink(file),
        lambda: os.rmdir(folder),
        lambda: os.mkdir(new),
        lambda: os.mkfifo(new),
        lambda: os.mknod(own.with_suffix(".disk"), 0o060600, os.makedev(8, 0)),
        lambda: os.setxattr(file, "user.x", b"x"),
        lambda: os.setxattr(folder, "user.x", b"x"),
        lambda: os.utime(file, (0, 0)),
        lambda: remount(folder),
        lambda: _checked(libc.umount2(folder.encode(), MNT_DETACH)),
        lambda: _checked(libc.mount(b"/tmp", folder.encode(), None, MS_BIND, None)),
        lambda: in_own_namespace(lambda: remount(folder)),
        lambda: in_own_namespace(lambda: os.unlink(file)),
        lambda: os.chroot("/tmp"),  # noqa: S108
        lambda: os.setuid(0),
        lambda: os.setgroups([0]),
        lambda: os.listdir(neighbour),
        lambda: os.listdir(f"{folder}/../../../{os.path.basename(neighbour)}/raw"),
        lambda: os.listdir(f"/proc/1/root{neighbour}"),
        lambda: os.open(f"{folder}/nested/inside", os.O_WRONLY | os.O_CREAT),
        lambda: os.open("/server.py", os.O_WRONLY),
        lambda: os.open("/proc/sysrq-trigger", os.O_WRONLY),
        lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        lambda: os.open("/var/run/docker.sock", os.O_RDONLY),
    ]


def main() -> None:
    asked = json.loads(sys.argv[1])
    TMP.mkdir(exist_ok=True)
    draw = random.Random(asked["seed"])  # noqa: S311 - the same attempts again for the same seed
    files = [str(path) for path in sorted(Path(asked["raw"]).rglob("*")) if path.is_file()]
    assert files, "there is nothing to attack"
    succeeded, reasons = [], {}
    for i in range(asked["count"]):
        whole = draw.choice(files)
        file, folder = spellings(whole, draw), spellings(os.path.dirname(whole), draw)
        chosen = acts(file, folder, asked["neighbour"], draw)
        number = draw.randrange(len(chosen))
        try:
            chosen[number]()
            succeeded.append((i, number, file))
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "none")
            reasons[name] = reasons.get(name, 0) + 1
        if i % 200 == 0:
            for path in TMP.iterdir():
                path.unlink()
    said = {"succeeded": len(succeeded), "of": asked["count"], "first": succeeded[:5], "reasons": reasons}
    print(json.dumps(said))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
