"""A real PostgreSQL server for tests: Debian's programs, a folder of its own, a unix socket and no port.

Where the programs are missing, a test that asks for it is skipped, saying which. The server of the suite is
fast and forgetful (`fsync` is off: it would lose what it holds if the machine went down); a server made with
`durable=True` keeps PostgreSQL's own settings, for whoever measures commits.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from beamhub_catalogue.database import Database, ensure_schema

PROGRAMS = ("initdb", "postgres")
MISSING = "no PostgreSQL server here: initdb and postgres are in Debian's package postgresql"
START_S, STOP_S = 60.0, 30.0
FORGETFUL = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
}
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "unix_socket_permissions": "0700",
}
_TEMPLATE = "beamhub_template"


def find_programs() -> Path | None:
    """The folder of a server's programs: the newest of Debian's, else what is on PATH."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True
    )
    named = shutil.which("initdb")
    for folder in (*debian, *([Path(named).resolve().parent] if named else [])):
        if all(os.access(folder / name, os.X_OK) for name in PROGRAMS):
            return folder
    return None


class PostgresqlServer:
    """A server that this process started; `stop` ends it, by its process id, and deletes its folder."""

    def __init__(self, programs: Path, *, durable: bool = False, port: int = 5432) -> None:
        self.programs, self.port = programs, port
        # Short: a unix socket's path has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._settings = SETTINGS | ({} if durable else FORGETFUL)
        self._account = _unprivileged()
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        try:
            self._make_cluster()
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str) -> str:
        """How the platform names one of its databases."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self.programs / "postgres",
                    "-D",
                    self.folder / "data",
                    "-k",
                    self.folder,
                    "-p",
                    str(self.port),
                    *words,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                **self._as_account(),
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the server did not start: {self._log()}") from error
                self._wait_for_socket(0.02)

    def halt(self) -> None:
        """Stop it at once, as a restart does; its databases stay."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_S)
        self._process = None

    def stop(self) -> None:
        """Stop it and leave nothing."""
        try:
            self.halt()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the tests' own, in autocommit."""
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user="postgres",
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )

    def make_database(
        self, name: str | None = None, *, template: str | None = None, empty: bool = False
    ) -> str:
        """A fresh database with the platform's tables, or with none, or a copy; the answer is its name."""
        name = name or f"test_{next(self._numbers)}"
        template = "template0" if empty else template or self._template()
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return name

    def drop_database(self, name: str) -> None:
        """Delete a database, with whoever is still connected to it."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def _template(self) -> str:
        with self.connect() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone()
            if known is None:
                self.make_database(_TEMPLATE, empty=True)
                made = Database(self.url(_TEMPLATE))
                ensure_schema(made)
                made.close()
        return _TEMPLATE

    def _make_cluster(self) -> None:
        # The database's own order of text is that of English words: what relies on it shows in tests.
        ran = subprocess.run(
            [
                self.programs / "initdb",
                "-D",
                self.folder / "data",
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--locale-provider=icu",
                "--icu-locale=en-US",
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=120,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            **self._as_account(),
        )
        assert ran.returncode == 0, ran.stderr
        # One user, `web`, has to give a password.
        lines = "local all web scram-sha-256\nlocal all all trust\n"
        (self.folder / "data" / "pg_hba.conf").write_text(lines)

    def _as_account(self) -> dict[str, object]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def _wait_for_socket(self, seconds: float) -> None:
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def _log(self) -> str:
        try:
            return (self.folder / "log").read_text(errors="replace")[-2000:]
        except OSError as error:
            return str(error)


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom to be: PostgreSQL refuses to run as root. None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("there is neither an account postgres nor an account nobody to run a server as")


class DatabaseMaker:
    """Where the catalogues of tests keep their rows: a folder's own SQLite file, or a database of a server.

    One folder has one database, as it would have one file.
    """

    server: PostgresqlServer | None = None

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._migrated: bytes | None = None

    def url(self, folder: Path) -> str:
        """The URL of the database of a facility's folder."""
        if self.server is None:
            self._ensure_sqlite(folder)
            return sqlite_url(folder)
        name = _name_of(folder)
        if name not in self._names:
            self._names.add(self.server.make_database(name))
        return self.server.url(name)

    def _ensure_sqlite(self, folder: Path) -> None:
        """A file with the tables: migrated once, and copied, which takes a hundredth of the time."""
        file = folder / "web" / "web.sqlite"
        if self._migrated is None:
            with tempfile.TemporaryDirectory() as scratch:
                made = Database(f"sqlite:///{scratch}/migrated.sqlite")
                ensure_schema(made)
                made.close()
                self._migrated = Path(scratch, "migrated.sqlite").read_bytes()
        if file.parent.is_dir() and not file.exists():
            file.write_bytes(self._migrated)

    def copy(self, prepared: Path, folder: Path) -> None:
        """The rows of a folder for another one; files, of SQLite too, are copied by whoever asks."""
        if self.server is not None:
            self._names.add(self.server.make_database(_name_of(folder), template=_name_of(prepared)))

    @property
    def names(self) -> frozenset[str]:
        """The databases that are there."""
        return frozenset(self._names)

    def drop(self, names: frozenset[str]) -> None:
        """Delete databases."""
        for name in names:
            assert self.server is not None
            self.server.drop_database(name)
            self._names.discard(name)


def sqlite_url(folder: Path) -> str:
    """A folder's own SQLite file."""
    return f"sqlite:///{folder / 'web' / 'web.sqlite'}"


def _name_of(folder: Path) -> str:
    return "at_" + hashlib.sha256(str(folder).encode()).hexdigest()[:24]


databases = DatabaseMaker()
"""Asked by the parts of all rooms; the option --database decides what it makes."""


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """The suite's server, started when the first test asks for it."""
    programs = find_programs()
    if programs is None:
        pytest.skip(MISSING)
    server = PostgresqlServer(programs)
    yield server
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def chosen_database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests whose facility does not say otherwise run on the database that --database names."""
    if request.config.getoption("--database") == "sqlite":
        yield
        return
    if find_programs() is None:
        pytest.exit(MISSING, returncode=pytest.ExitCode.USAGE_ERROR)
    databases.server = request.getfixturevalue("postgresql_server")
    yield
    databases.server = None


@pytest.fixture(autouse=True)
def no_database_outlives_its_test() -> Iterator[None]:
    """What a test made is dropped after it; what fixtures of a module made stays until the server stops."""
    before = databases.names
    yield
    if databases.server is not None:
        databases.drop(databases.names - before)


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """A fresh PostgreSQL database with the platform's tables."""
    name = postgresql_server.make_database()
    yield postgresql_server.url(name)
    postgresql_server.drop_database(name)
