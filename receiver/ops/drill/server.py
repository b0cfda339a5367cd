"""A backup of PostgreSQL, restored into a separate folder and started there, apart from the server in production.

The copy listens on a Unix socket in its folder and on nothing else, uses none of production's configuration, archives
no WAL, replicates nothing, and ends with the block.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from receiver.database_url import libpq_url
from receiver.errors import ConfigurationError, OperationRefused
from receiver.ops.drill.backups import BackupKind, find_programs
from receiver.settings import variable_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from receiver.ops.drill.backups import Backup

TEMPORARY: Final = "/var/tmp"  # noqa: S108 - a folder of our own is made in it
"""Where the temporary folder is made, if ``TMPDIR`` is not set: ``/tmp`` may be in memory."""
POLL_SECONDS: Final = 0.1
STOP_SECONDS: Final = 60
START_SECONDS: Final = 300.0
"""How long the server may answer nothing; one that reports that it recovers is waited for."""
RECOVERY_SECONDS: Final = 86_400.0
"""How long it may recover."""
RESERVED_SHARE: Final = 0.1
RESERVED_BYTES: Final = 1 << 30
"""What stays free of the disk, share or bytes, whichever is more: it may be production's."""
WATCH_SECONDS: Final = 1.0
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
FULL: Final = signal.SIGUSR1
"""What the thread that watches the disk sends to the main thread."""
SOCKET_PATH_BYTES: Final = 107
"""How long the path of a Unix socket may be on Linux."""
LOG_SHOWN: Final = 1000
"""How much of the server's log is shown if it does not start."""
PRIVATE: Final = 0o700
# its server's, not the backup's: what it was started with, and the configuration that the copy does without
_LEFT_OUT: Final = (
    *("postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal", "postgresql.auto.conf", "log"),
    *(".s.PGSQL.*",),
)
_MISSING_ROLE: Final = re.compile(r'ERROR: +role "(?P<role>.*)" does not exist')
_REFUSED: Final = re.compile(r"FATAL: +(?! |the database system)(.*)")
"""What a server says of a connection once it has started."""
_RECOVERING: Final = "the database system"
"""What it says before that."""
_CONFIGURATION: Final = """
listen_addresses = ''
unix_socket_directories = {sockets}
unix_socket_permissions = 0700
port = {port}
hba_file = {hba}
ident_file = {ident}
restore_command = {restore_command}
archive_mode = off
hot_standby = off
max_logical_replication_workers = 0
max_prepared_transactions = 100
lc_messages = 'C'
"""
"""The settings of the copy. ``hot_standby``: with it, recovery stops if this machine's limits are lower."""
_NOT_AS_CONFIGURED: Final = ("--no-delta", "--no-link-all", "--reset-link-map", "--reset-tablespace-map")
"""What of pgBackRest's configuration does not count: with it, a restore would write outside the folder."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How the copy is made and run."""

    postgres_bin: Path | None = None
    """The folder of PostgreSQL's programs; ``None``: where they are found."""
    postgres_user: str = "postgres"
    """As root: the user that PostgreSQL runs as."""
    folder: Path | None = None
    """Where the copy is made; ``None``: a temporary folder."""
    keep: bool = False
    """Whether the folder stays after the block; the server ends in any case."""


@dataclass(frozen=True, slots=True)
class RestoredServer:
    """The running copy."""

    url: str
    """As ``DATABASE_URL``: the same role and database, at the copy."""
    folder: Path
    seconds: float
    """How long it took to restore and start."""
    missing_roles: tuple[str, ...]
    """Roles that a dump names and does not have."""
    errors: tuple[str, ...]
    """Other errors of restoring a dump."""


@contextmanager
def restored_server(
    backup: Backup, database_url: str, options: RestoreOptions, *, stage: Callable[[str], object]
) -> Iterator[RestoredServer]:
    """Restore *backup*, start it, and yield it; SIGTERM and SIGHUP end the block like an error.

    *database_url* names the role and the database; nothing else of it is used. Until the block ends, the environment
    has no variables of libpq: they would lead connections elsewhere. Raises ``OperationRefused``, also if the disk gets
    full.
    """
    with _ending_by_signal():
        folder = _new_folder(options.folder)
        try:
            work = _Restore(backup, database_url, options, folder)
            with _without_libpq_variables(), _watching(folder):
                began = time.monotonic()
                stage("restoring")
                try:
                    work.lay_out()
                except OSError as error:
                    raise OperationRefused(f"{backup.place} cannot be restored: {error}") from None
                with work.running():
                    stage("recovering")
                    work.load()
                    seconds = time.monotonic() - began
                    roles = tuple(sorted(work.missing_roles))
                    yield RestoredServer(work.url(), folder, seconds, roles, tuple(work.errors))
        except OperationRefused as error:
            kept = f" (what was restored: {folder})" if options.keep else ""
            raise OperationRefused(f"{error}{kept}") from None
        finally:
            if not options.keep:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ending_by_signal() -> Iterator[None]:
    """End the block by ``SystemExit`` at the first signal; further ones do not interrupt its cleanup."""
    before = {each: signal.getsignal(each) for each in ENDING}
    caught = [each for each in ENDING if before[each] is not signal.SIG_IGN]  # nohup ignores SIGHUP

    def end(number: int, _frame: object) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in caught:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in caught:
            signal.signal(each, before[each])


@contextmanager
def _without_libpq_variables() -> Iterator[None]:
    removed = {name: os.environ.pop(name) for name in list(os.environ) if re.match("PG(?!BACKREST)", name)}
    try:
        yield
    finally:
        os.environ.update(removed)


class _DiskFull(BaseException):
    """Interrupts the block, whatever it is doing; no handler of errors takes it for one of its own."""


@contextmanager
def _watching(folder: Path) -> Iterator[None]:
    """Interrupt the block once the folder's disk has less than its reserve. Raises ``OperationRefused``."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            if _free_beyond_reserve(folder) < 0:
                signal.pthread_kill(threading.main_thread().ident or 0, FULL)
                return

    def interrupt(*_: object) -> None:
        if not ended.is_set():
            ended.set()
            raise _DiskFull

    before = signal.signal(FULL, interrupt)
    watcher = threading.Thread(target=watch, name="disk-watch", daemon=True)
    watcher.start()
    try:
        yield
    except _DiskFull:
        raise OperationRefused(
            f"the disk of {folder} has less than {RESERVED_SHARE:.0%} or {RESERVED_BYTES >> 30} GiB left, so the drill "
            "ended: name a --folder on another disk"
        ) from None
    finally:
        ended.set()
        watcher.join()
        signal.signal(FULL, before)


def _free_beyond_reserve(folder: Path) -> int:
    disk = shutil.disk_usage(folder)
    return disk.free - max(int(disk.total * RESERVED_SHARE), RESERVED_BYTES)


class _Restore:
    """The steps of one restore."""

    def __init__(self, backup: Backup, database_url: str, options: RestoreOptions, folder: Path) -> None:
        self._backup = backup
        self._options = options
        self._user = _user(options.postgres_user) if os.geteuid() == 0 else None
        self._folder = folder
        self._data = folder / "data"
        self._port = _free_port()
        parts = conninfo_to_dict(libpq_url(database_url))
        self._role = str(parts.get("user") or os.environ.get("PGUSER") or pwd.getpwuid(os.geteuid()).pw_name)
        self._database = str(parts.get("dbname") or os.environ.get("PGDATABASE") or self._role)
        self._programs: Path | None = options.postgres_bin
        self.missing_roles: set[str] = set()
        self.errors: list[str] = []

    @property
    def _sockets(self) -> Path:
        return self._folder / "socket"

    def url(self, database: str | None = None) -> str:
        """Return the copy's address."""
        # libpq takes no + for a space
        where = urlencode({"host": str(self._sockets), "port": self._port}, quote_via=quote)
        return f"postgresql://{quote(self._role, safe='')}@/{quote(database or self._database, safe='')}?{where}"

    def lay_out(self) -> None:
        """Make the data folder, and the files that configure the copy."""
        if len(os.fsencode(self._sockets / f".s.PGSQL.{self._port}")) > SOCKET_PATH_BYTES:
            raise OperationRefused(
                f"the path of {self._folder} is too long for a Unix socket in it: name another --folder"
            )
        for folder in (self._folder, self._data, self._sockets):
            folder.mkdir(mode=PRIVATE, exist_ok=True)
        self._own()
        place = Path(self._backup.place)
        match self._backup.kind:
            case BackupKind.FOLDER:
                self._copy(place)
            case BackupKind.TAR:
                self._unpack(place)
            case BackupKind.PGBACKREST:
                self._fetch_from_pgbackrest()
            case BackupKind.DUMP | BackupKind.PLAIN:
                options = ["--auth=trust", "--encoding=UTF8", "--no-locale", f"--username={self._role}"]
                self._run([self._program("initdb"), *options, "--pgdata", str(self._data)])
        self._configure()
        self._own()
        self._data.chmod(PRIVATE)

    def _copy(self, place: Path) -> None:
        if (place / "postmaster.pid").exists():
            raise OperationRefused(f"{place} is the folder of a server, not a backup: it has postmaster.pid")
        if any((place / "pg_tblspc").glob("*")) or (place / "tablespace_map").exists():
            raise _tablespaces(place)
        files = [each for each in place.rglob("*") if each.is_file()]
        self._check_space(sum(each.stat().st_size for each in files))
        # links, such as that of pg_wal, are followed: nothing outside the folder is written
        shutil.copytree(place, self._data, ignore=shutil.ignore_patterns(*_LEFT_OUT), dirs_exist_ok=True)

    def _unpack(self, place: Path) -> None:
        archives = sorted(each for each in place.iterdir() if ".tar" in each.suffixes)
        self._check_space(sum(each.stat().st_size for each in archives))
        for archive in archives:
            name = archive.name.partition(".")[0]
            if name not in {"base", "pg_wal"}:
                raise _tablespaces(place)
            target = self._data / "pg_wal" if name == "pg_wal" else self._data
            target.mkdir(exist_ok=True)
            self._run(["tar", "--extract", "--file", str(archive), "--directory", str(target)], as_caller=True)
        self._leave_out()

    def _fetch_from_pgbackrest(self) -> None:
        stanza = [f"--stanza={self._backup.place}", f"--pg1-path={self._data}"]
        tablespaces = self._folder / "tablespaces"
        options = ["--archive-mode=off", f"--tablespace-map-all={tablespaces}", "--log-level-file=off"]
        self._run(["pgbackrest", *stanza, *options, *_NOT_AS_CONFIGURED, "restore"])
        self._leave_out()

    def _leave_out(self) -> None:
        for pattern in _LEFT_OUT:
            for each in self._data.glob(pattern):
                if each.is_file():
                    each.unlink()

    def _configure(self) -> None:
        command = self._backup.restore_command
        if not command and self._backup.kind is BackupKind.PGBACKREST:
            stanza = [f"--stanza={self._backup.place}", f"--pg1-path={self._data}"]
            command = (
                f'{shlex.join(["pgbackrest", *stanza])} --log-level-file=off --no-archive-async archive-get %f "%p"'
            )
        self._settings.write_text(
            _CONFIGURATION.format(
                sockets=_quoted(self._sockets),
                port=self._port,
                hba=_quoted(self._folder / "pg_hba.conf"),
                ident=_quoted(self._folder / "pg_ident.conf"),
                restore_command=_quoted(command),
            )
        )
        (self._folder / "pg_hba.conf").write_text("local all all trust\n")
        (self._folder / "pg_ident.conf").touch()
        if command:
            (self._data / "recovery.signal").touch()

    @property
    def _settings(self) -> Path:
        return self._folder / "postgresql.conf"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the server until the block ends. Raises ``OperationRefused`` if it does not start."""
        command = [self._program("postgres"), "-D", str(self._data), "-c", f"config_file={self._settings}"]
        log = self._folder / "postgresql.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self._folder,
                **self._as_user(),
            )
        try:
            self._wait_until_ready(process, log)
            yield
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait()

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Wait as long as the server recovers. Raises ``OperationRefused``."""
        database = "postgres" if self._is_dump else self._database
        began = answered = time.monotonic()
        while True:
            try:
                psycopg.connect(self.url(database)).close()
            except psycopg.OperationalError as error:
                refused = _REFUSED.search(str(error))
                if refused is not None:
                    raise OperationRefused(
                        f"the backup has no such role and database as DATABASE_URL names: {refused[1]}"
                    ) from None
                if process.poll() is not None:
                    end = log.read_text(errors="replace")[-LOG_SHOWN:]
                    hint = "" if self._backup.restore_command else " (archived WAL: --restore-command)"
                    raise OperationRefused(f"PostgreSQL did not start from the backup{hint}: {end}") from None
                now = time.monotonic()
                if _RECOVERING in str(error):
                    answered = now
                if now - answered > START_SECONDS or now - began > RECOVERY_SECONDS:
                    raise OperationRefused(
                        f"PostgreSQL does not accept connections to the backup after {now - began:.0f} s: {error}"
                    ) from None
                time.sleep(POLL_SECONDS)
            else:
                return

    @property
    def _is_dump(self) -> bool:
        return self._backup.kind in {BackupKind.DUMP, BackupKind.PLAIN}

    def load(self) -> None:
        """Restore a dump into the running server; a base backup is there already."""
        if not self._is_dump:
            return
        with closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            if self._database != "postgres":
                create = sql.SQL("CREATE DATABASE {} TEMPLATE template0")
                connection.execute(create.format(sql.Identifier(self._database)))
        if self._backup.kind is BackupKind.DUMP:
            command = [self._program("pg_restore"), "--no-owner", "--dbname", self.url(), self._backup.place]
            ended = self._try(command, as_caller=True)
        else:  # a dump in SQL can run programs: not as root, who may be the only one that can read it
            options = ["--no-psqlrc", "--quiet", "--output", os.devnull, "--file", "-"]
            command = [self._program("psql"), *options, "--dbname", self.url()]
            with Path(self._backup.place).open("rb") as opened:
                ended = self._try(command, stdin=opened)
        errors = [line for line in ended.stderr.splitlines() if "ERROR:" in line]
        if ended.returncode and not errors:
            raise _failed(command, ended.stderr)
        for line in errors:
            missing = _MISSING_ROLE.search(line)
            if missing is None:
                self.errors.append(line.partition("ERROR:")[2].strip())
            else:
                self.missing_roles.add(missing["role"])

    def _program(self, name: str) -> str:
        if self._programs is None:
            self._programs = find_programs(self._version())
        return str(self._programs / name)

    def _version(self) -> str | None:
        file = self._data / "PG_VERSION"
        return file.read_text().strip() if file.exists() else None

    def _check_space(self, needed: int) -> None:
        free = max(_free_beyond_reserve(self._folder), 0)
        if free < needed:
            raise OperationRefused(
                f"{self._folder} has {free >> 20} MiB free beyond the disk's reserve, the backup needs "
                f"{needed >> 20} MiB: name another --folder"
            )

    def _run(self, command: Sequence[str], *, as_caller: bool = False) -> None:
        ended = self._try(command, as_caller=as_caller)
        if ended.returncode:
            raise _failed(command, ended.stderr or ended.stdout)

    def _try(
        self, command: Sequence[str], *, as_caller: bool = False, stdin: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[str]:
        options = self._as_user()
        if as_caller:  # who may read the backup
            options = {"env": options["env"]}
        try:
            return subprocess.run(
                command,
                check=False,
                stdin=stdin or subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                cwd=self._folder,
                **options,
            )
        except FileNotFoundError:
            raise OperationRefused(f"{command[0]} is not installed") from None

    def _as_user(self) -> dict[str, Any]:
        """Return how a program is started: as PostgreSQL's user, without our secrets."""
        ours = set(variable_names())
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        if self._user is None:
            return {"env": kept}
        groups = os.getgrouplist(self._user.pw_name, self._user.pw_gid)
        return {"env": kept, "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": groups}

    def _own(self) -> None:
        """Let PostgreSQL's user own the folder."""
        if self._user is not None:
            for each in (self._folder, *self._folder.rglob("*")):
                os.chown(each, self._user.pw_uid, self._user.pw_gid, follow_symlinks=False)


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            [f"there is no user {name!r} to run PostgreSQL as, which refuses root: name one by --postgres-user"]
        ) from None


def _new_folder(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="receiver-drill-", dir=os.environ.get("TMPDIR") or TEMPORARY))
    try:
        folder.mkdir(mode=PRIVATE, parents=True)
    except OSError as error:
        raise OperationRefused(
            f"{folder} cannot be made: {error.strerror}; name a folder that does not exist"
        ) from None
    return folder.resolve()


def _free_port() -> int:
    """Return a port that no process of this machine listens on: it is part of the socket's name."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(value: object) -> str:
    """Return a value as a configuration file has it."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _failed(command: Sequence[str], output: str) -> OperationRefused:
    return OperationRefused(f"{Path(command[0]).name} failed: {output.strip()[-LOG_SHOWN:]}")


def _tablespaces(place: Path) -> OperationRefused:
    return OperationRefused(f"{place} has tablespaces, whose folders belong to the server that it was made of")
