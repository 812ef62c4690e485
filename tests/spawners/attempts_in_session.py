"""Random attempts to change raw data, or to leave, from inside a session; run there as its user.

Reads `{"raw", "neighbour", "count", "seed"}` from its first argument and prints how many of how many attempts
succeeded, with the first of those that did, how often each kind was tried, and why they failed. Each attempt
is written so that its success is a violation.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

MS_REMOUNT, MS_BIND, MS_RDONLY, MNT_DETACH = 32, 4096, 1, 2
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
AT_FDCWD, RENAME_EXCHANGE, FS_IOC_SETFLAGS, FS_IMMUTABLE = -100, 2, 0x40086602, 0x10
# Source: the system call table of x86-64; elsewhere these numbers are other calls, and are left out.
NAME_TO_HANDLE_AT, OPEN_BY_HANDLE_AT, OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 303, 304, 428, 429, 442
PIVOT_ROOT, RENAMEAT2, COPY_FILE_RANGE = 155, 316, 326
OPEN_TREE_CLONE, MOUNT_ATTR_RDONLY = 1, 1
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


def through_path_descriptor(path: str) -> int:
    """Open a file for writing by a descriptor that only names it."""
    fd = os.open(path, os.O_PATH)
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    finally:
        os.close(fd)


def with_reading_descriptor(path: str, act: Callable[[int], object]) -> None:
    """Do something with a file that is open for reading."""
    fd = os.open(path, os.O_RDONLY)
    try:
        act(fd)
    finally:
        os.close(fd)


def by_handle(path: str) -> None:
    """Open a file by the number that its file system has for it, past every mount."""
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 128
    mount_id = ctypes.c_int()
    call = libc.syscall
    _checked(call(NAME_TO_HANDLE_AT, AT_FDCWD, path.encode(), handle, ctypes.byref(mount_id), 0))
    fd = os.open("/", os.O_RDONLY)
    try:
        _checked(call(OPEN_BY_HANDLE_AT, fd, handle, os.O_RDWR))
    finally:
        os.close(fd)


def clone_of_the_mount(folder: str) -> None:
    """Take a copy of the mount and make that one writable."""
    fd = libc.syscall(OPEN_TREE, AT_FDCWD, folder.encode(), OPEN_TREE_CLONE)
    _checked(fd)
    try:
        attributes = (ctypes.c_uint64 * 4)(0, MOUNT_ATTR_RDONLY, 0, 0)
        _checked(libc.syscall(MOUNT_SETATTR, fd, b"", 0x1000, attributes, 32))
    finally:
        os.close(fd)


def make_writable(folder: str) -> None:
    attributes = (ctypes.c_uint64 * 4)(0, MOUNT_ATTR_RDONLY, 0, 0)
    _checked(libc.syscall(MOUNT_SETATTR, AT_FDCWD, folder.encode(), 0, attributes, 32))


def race(path: str, own: Path) -> None:
    """Write through a link that changes between an own file and theirs, as fast as it can."""
    link, done = own.with_suffix(".race"), threading.Event()

    def flip() -> None:
        while not done.is_set():
            for target in (own, path):
                other = own.with_suffix(".next")
                other.symlink_to(target)
                other.replace(link)

    link.symlink_to(own)
    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(20):
            try:
                fd = os.open(link, os.O_WRONLY)
            except OSError:
                continue
            inode = os.fstat(fd).st_ino, os.fstat(fd).st_dev
            os.close(fd)
            if inode == (os.stat(path).st_ino, os.stat(path).st_dev):
                return
    finally:
        done.set()
        thread.join()
    raise OSError(errno.EROFS, "the link led to the own file only")


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
        lambda: through_path_descriptor(file),
        lambda: with_reading_descriptor(file, lambda fd: os.ftruncate(fd, 0)),
        lambda: with_reading_descriptor(file, lambda fd: os.posix_fallocate(fd, 0, 10_000_000)),
        lambda: with_reading_descriptor(file, lambda fd: os.fchmod(fd, 0o777)),
        lambda: with_reading_descriptor(file, lambda fd: os.fchown(fd, os.getuid(), -1)),
        lambda: with_reading_descriptor(file, lambda fd: os.write(fd, b"x")),
        lambda: with_reading_descriptor(file, lambda fd: set_flags(fd, FS_IMMUTABLE)),
        lambda: with_reading_descriptor(file, lambda fd: os.utime(fd, (0, 0))),
        lambda: with_reading_descriptor(file, lambda fd: os.setxattr(fd, "user.x", b"x")),
        lambda: os.lchown(file, os.getuid(), os.getgid()),
        lambda: os.utime(folder, (0, 0)),
        lambda: os.removexattr(file, "user.kept"),
        lambda: os.mknod(new, 0o100644),
        lambda: os.mknod(new, 0o020666, os.makedev(1, 3)),
        lambda: os.link(f"/proc/self/fd/{os.open(file, os.O_RDONLY)}", new, follow_symlinks=True),
        lambda: os.symlink(file, f"{folder}/link-{draw.getrandbits(40):x}"),
        lambda: os.replace(own, file),
        lambda: race(file, own),
        lambda: os.open(f"{folder}/nested/made", os.O_WRONLY | os.O_CREAT, 0o666),
        lambda: os.mkdir(f"{folder}/nested/folder"),
        lambda: remount(f"{folder}/nested"),
        lambda: _checked(libc.umount2(f"{folder}/nested".encode(), MNT_DETACH)),
        lambda: _checked(libc.mount(b"none", folder.encode(), b"tmpfs", 0, None)),
        lambda: in_own_namespace(lambda: _checked(libc.umount2(folder.encode(), MNT_DETACH))),
        lambda: in_own_namespace(lambda: os.chmod(file, 0o777)),
        lambda: os.open("/dev/mem", os.O_RDWR),
        lambda: os.open("/dev/kmsg", os.O_WRONLY),
        lambda: os.open("/sys/fs/cgroup/memory/memory.limit_in_bytes", os.O_WRONLY),
        lambda: os.listdir("/proc/1/root/var/lib/docker"),
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
        *(by_number(file, folder, own) if os.uname().machine == "x86_64" else ()),
    ]


def by_number(file: str, folder: str, own: Path) -> list[Callable[[], object]]:
    """Attempts by system calls that the C library or Python does not offer."""
    call = libc.syscall

    def exchange() -> None:
        _checked(call(RENAMEAT2, AT_FDCWD, str(own).encode(), AT_FDCWD, file.encode(), RENAME_EXCHANGE))

    def copy_into() -> None:
        source = os.open(own, os.O_RDONLY)
        try:
            with_reading_descriptor(
                file, lambda fd: _checked(call(COPY_FILE_RANGE, source, None, fd, None, 1, 0))
            )
        finally:
            os.close(source)

    return [
        lambda: by_handle(file),
        lambda: clone_of_the_mount(folder),
        lambda: make_writable(folder),
        lambda: _checked(call(MOVE_MOUNT, AT_FDCWD, folder.encode(), AT_FDCWD, b"/tmp", 0)),
        lambda: _checked(call(PIVOT_ROOT, b"/tmp", b"/tmp")),
        lambda: in_own_namespace(lambda: make_writable(folder)),
        exchange,
        copy_into,
    ]


def set_flags(fd: int, flags: int) -> None:
    """Set the attributes of a file that `chattr` sets."""
    _checked(libc.ioctl(fd, FS_IOC_SETFLAGS, ctypes.byref(ctypes.c_int(flags))))


def main() -> None:
    asked = json.loads(sys.argv[1])
    TMP.mkdir(exist_ok=True)
    draw = random.Random(asked["seed"])  # noqa: S311 - the same attempts again for the same seed
    files = [str(path) for path in sorted(Path(asked["raw"]).rglob("*")) if path.is_file()]
    assert files, "there is nothing to attack"
    succeeded, reasons, kinds = [], {}, set()
    for i in range(asked["count"]):
        whole = draw.choice(files)
        file, folder = spellings(whole, draw), spellings(os.path.dirname(whole), draw)
        chosen = acts(file, folder, asked["neighbour"], draw)
        number = draw.randrange(len(chosen))
        kinds.add(number)
        try:
            chosen[number]()
            succeeded.append((i, number, file))
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "none")
            reasons[name] = reasons.get(name, 0) + 1
        if i % 200 == 0:
            for path in TMP.iterdir():
                path.unlink()
        if i % 50 == 0:
            os.closerange(3, 256)  # what an attempt left open
    said = {
        "succeeded": len(succeeded),
        "of": asked["count"],
        "kinds": len(kinds),
        "first": succeeded[:5],
        "reasons": reasons,
    }
    print(json.dumps(said))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
