"""``receiver drill``: a backup is restored next to production, which stays as it is; what it lacks is reported."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import psutil
import psycopg
import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet
from sqlalchemy import make_url, text

from receiver.app import create_app
from receiver.cli import main
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.files.fetch import Fetcher
from receiver.files.store import FileStore
from receiver.migrate import upgrade
from receiver.opencard.auth import Access
from receiver.opencard.routes import TOKEN_PATH
from receiver.opencard.tokens import StoredTokens
from receiver.ops.doctor_findings import CheckResults
from receiver.ops.drill import server
from receiver.ops.drill.backups import Backup, BackupKind, find_backup
from receiver.ops.drill.examine import (
    Drill,
    ReadingAccess,
    check_later_webhooks,
    examine,
    may_have_lost,
    stopped,
)
from receiver.ops.drill.server import RestoredServer, RestoreOptions, restored_server
from receiver.processing.drain import drain
from receiver.progress import Progress
from receiver.sandbox.embedded import LOOPBACK, postgres_program
from receiver.sandbox.provider import LogStyle, deliver_story
from receiver.sandbox.receipt_files import FilesAt
from receiver.sandbox.story import make_story
from receiver.settings import load_settings
from tests.support.pools import ACCESS
from tests.support.reconcile_steps import execute, value
from tests.support.restoring import base_backup, chown_like, data_folder, own_servers
from tests.support.roles import libpq
from tests.support.serving import served
from tests.support.waiting import eventually
from tests.support.world import World, world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.sandbox.embedded import EmbeddedPostgres

RECEIVER = Path(sys.executable).with_name("receiver")
DELIVERIES = "SELECT count(*) FROM receiver.stored_deliveries"
PURCHASES = 6
"""Before the backup, and after it."""
NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


@dataclass
class Production:
    """A service with deliveries and files, and backups of its database that lack the last deliveries."""

    world: World
    postgres: EmbeddedPostgres
    variables: dict[str, str]
    files: Path
    backup: Path
    dumped: Path
    in_backup: int
    """Deliveries."""
    in_dump: int

    def drill(self, *arguments: object, code: int = 0, **changes: str) -> dict[str, Any]:
        """Run the command, and return its document."""
        ended = self.run(*arguments, "--json", **changes)
        assert ended.returncode == code, (ended.stdout, ended.stderr)
        document: dict[str, Any] = json.loads(ended.stdout)
        return document

    def run(self, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
        started = self.start(*arguments, **changes)
        output, errors = started.communicate()
        return subprocess.CompletedProcess(started.args, started.returncode, output, errors)

    def start(self, *arguments: object, **changes: str) -> subprocess.Popen[str]:
        programs = Path(postgres_program("pg_ctl")).parent
        options = ["--postgres-bin", str(programs), "--postgres-user", data_folder(self.postgres).owner()]
        return subprocess.Popen(
            [RECEIVER, "drill", *map(str, arguments), *options],
            env={"PATH": os.environ["PATH"], **self.variables, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def log_style(self, **style: Any) -> Iterator[None]:
        """Show OpenCard's log in another way while this block runs."""
        self.world.provider.behaviour.log_style = LogStyle(**style)
        try:
            yield
        finally:
            self.world.provider.behaviour.log_style = LogStyle()

    def deliveries(self) -> int:
        return int(value(self.world, DELIVERIES))

    def content(self) -> bytes:
        """Return everything in its database. Each dump has a random word of its own."""
        dump = dump_of(self.world.settings.database_url, "--format=plain")
        return b"".join(line for line in dump.splitlines(keepends=True) if b"restrict " not in line)

    def log(self) -> list[tuple[int, datetime]]:
        """Return id and time of the attempts in OpenCard's log, the oldest first."""
        entries = self.world.provider.state.log_of(self.world.registered().id).entries
        return sorted((entry.id, entry.at) for entry in entries)


def dump_of(url: str, *options: str) -> bytes:
    command = [postgres_program("pg_dump"), *options, libpq(make_url(url))]
    return subprocess.run(command, check=True, capture_output=True).stdout


def deliver(world: World, seed: int, purchases: int) -> None:
    files = FilesAt(world.api_url, datetime.now(UTC) + DAY)
    story = make_story(seed=seed, organizations=["acme"], purchases=purchases, files=files)
    asyncio.run(deliver_story(world.provider, story))


def process(world: World, files: Path) -> None:
    """Process everything, and download its files."""
    encryption = Encryption(world.settings.encryption_keys)
    assert drain(world.engine, encryption=encryption)
    access = Access(world.api_url, str(world.client.account_id), world.client.id, world.client.secret)
    fetcher = Fetcher(
        world.engine, access, StoredTokens(world.engine, encryption), FileStore(str(files)), max_bytes=10**6
    )
    assert fetcher.run(seconds=60).stored


@contextmanager
def deliveries_arriving(world: World) -> Iterator[None]:
    """Let OpenCard deliver while this block runs, which begins after the first deliveries."""
    ending = Event()

    def send() -> None:
        for seed in count(100):
            deliver(world, seed, 1)
            if ending.is_set():
                return

    before = value(world, DELIVERIES)
    sender = Thread(target=send)
    sender.start()
    try:
        assert eventually(lambda: value(world, DELIVERIES) > before, within=30)
        yield
    finally:
        ending.set()
        sender.join()


@pytest.fixture(scope="module")
def production(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("production")
    with own_servers("drill") as serve:
        postgres = serve("postgres")
        own = environment | {
            "DATABASE_URL": postgres.create_database("receiver"),
            "FILES_URL": str(folder / "files"),
        }
        settings = load_settings(own)
        engine = engine_for(settings.database_url, application="tests")
        with engine.connect() as connection:
            upgrade(connection)
        app = create_app(settings)
        with served(app) as public_url, world_of(engine, settings, public_url) as world:
            world.add_organizations("acme")
            assert world.bootstrap().failures == []
            world.provider.behaviour.per_page = 100
            with engine.begin() as connection:
                connection.execute(text("CREATE ROLE ems_reader"))
                connection.execute(text("GRANT USAGE ON SCHEMA ems TO ems_reader"))
            deliver(world, 1, PURCHASES)
            process(world, folder / "files")
            with deliveries_arriving(world):
                backup = base_backup(postgres, "backup")
            dumped, in_dump = folder / "receiver.dump", int(value(world, DELIVERIES))
            dumped.write_bytes(dump_of(settings.database_url, "--format=custom"))
            deliver(world, 2, PURCHASES)
            app.extensions["receiver.close"]()
            copy = shutil.copytree(backup, backup.parent / "copy", copy_function=shutil.copy2)
            chown_like(backup, [copy, *copy.rglob("*")])
            with closing(psycopg.connect(serve("copy").url("receiver"))) as known:
                (in_backup,) = known.execute(DELIVERIES).fetchone() or (0,)
            variables = {**world.environment(own), "NOTIFY_URLS": f"json://{world.api_url.partition('//')[2]}"}
            yield Production(world, postgres, variables, folder / "files", backup, dumped, int(in_backup), in_dump)
        engine.dispose()


@pytest.mark.long
def test_later_deliveries_are_what_a_base_backup_recovers(production: Production) -> None:
    """The backup was made while deliveries arrived; production, OpenCard and the files stay as they are."""
    before, files = production.content(), sorted(production.files.rglob("*"))
    production.world.provider.requests.clear()
    temporary = production.backup.parent / "Kim's copies"
    temporary.mkdir(mode=0o755)
    found = production.drill(production.backup, TMPDIR=str(temporary))
    assert (found["kind"], found["backup"]) == ("base backup", str(production.backup))
    (webhook,) = found["webhooks"]
    assert 0 < production.in_backup < production.deliveries()
    assert webhook["recoverable"] == production.deliveries() - production.in_backup
    assert datetime.fromisoformat(webhook["first_at"]) <= datetime.now(UTC)
    assert (webhook["held"], webhook["unrecoverable"], webhook["lost_from"], webhook["error"]) == (0, 0, None, None)
    assert (found["unreadable_values"], found["missing_files"]) == (0, [])
    assert found["files"] == len([file for file in files if file.is_file()]) > 0
    assert {check["state"] for check in found["checks"]} == {"ok"}
    assert production.content() == before
    assert sorted(production.files.rglob("*")) == files
    asked = production.world.provider.requests.all()
    assert {each.path for each in asked if each.method != "GET"} <= {TOKEN_PATH}, "nor was anybody notified"
    assert list(temporary.iterdir()) == []


@pytest.mark.long
def test_a_dump_is_restored(production: Production, tmp_path: Path) -> None:
    """In PostgreSQL's own format and in SQL, without connecting to production's servers."""
    plain, made = tmp_path / "receiver.sql", Path("/var/tmp") / f"made-by-a-dump-{os.getpid()}"  # noqa: S108 - for all
    dump = dump_of(production.world.settings.database_url, "--format=plain")
    plain.write_bytes(dump + f"\\! touch {made}\n".encode())
    for path, number, kind in ((production.dumped, production.in_dump, "dump"), (plain, None, "dump in SQL")):
        found = production.drill(path, DATABASE_URL="postgresql://postgres@127.0.0.1:1/receiver", REDIS_URL="")
        (webhook,) = found["webhooks"]
        assert found["kind"] == kind
        (restored,) = (check for check in found["checks"] if check["check"] == "restore")
        assert (restored["state"], restored["detail"].rpartition(": ")[2]) == ("note", "ems_reader"), (
            "to be created before"
        )
        assert webhook["recoverable"] == (0 if number is None else production.deliveries() - number)
    assert made.owner() == data_folder(production.postgres).owner(), "what a dump in SQL runs is not root's"
    made.unlink()


@pytest.mark.long
def test_differences_of_the_copy_are_reported(production: Production) -> None:
    """A wrong key, a missing file and an entry of the log without payload, at once."""
    missing = next(file for file in sorted(production.files.rglob("*.*")) if file.is_file())
    content = missing.read_bytes()
    (*_, (last, _)) = production.log()
    key = Fernet.generate_key().decode()
    with production.log_style(without_payload=frozenset([last])):
        missing.unlink()
        try:
            found = production.drill(production.dumped, code=1, ENCRYPTION_KEYS=key)
        finally:
            missing.write_bytes(content)
    assert {check["check"]: check["state"] for check in found["checks"]} == {
        "restore": "note",
        "schema": "ok",
        "newest delivery": "ok",
        "encryption keys": "broken",
        "delivery log (acme)": "broken",
        "webhooks": "ok",
        "files": "broken",
    }
    assert found["unreadable_values"] > 0
    assert [key.rpartition("/")[2] for key in found["missing_files"]] == [missing.name]
    (webhook,) = found["webhooks"]
    after = production.deliveries() - production.in_dump
    assert (webhook["recoverable"], webhook["unrecoverable"]) == (after - 1, 1)


@pytest.mark.long
def test_a_log_that_begins_after_the_backup_is_reported(production: Production) -> None:
    """What the log no longer holds is lost: from the last thing that the backup knows to the log's first entry."""
    log = production.log()
    with production.log_style(gaps=frozenset(number for number, _ in log[:-2])):
        ended = production.run(production.dumped)
        found = production.drill(production.dumped, code=1)
    (webhook,) = found["webhooks"]
    assert webhook["recoverable"] == 2
    assert webhook["lost_from"] == found["newest_delivery_at"]
    begins_at = min(at for _, at in log[-2:])
    assert datetime.fromisoformat(webhook["lost_until"]) == begins_at
    (line,) = (line for line in ended.stdout.splitlines() if "delivery log (acme)" in line)
    assert f"begins at {begins_at:%Y-%m-%d %H:%M:%S} UTC" in line
    assert "2 to recover" in line
    assert ended.returncode == 1


@pytest.mark.long
def test_archived_wal_leaves_nothing_to_recover(production: Production) -> None:
    """The WAL since the backup is fetched as in a real restore; the folder is kept when asked."""
    execute(production.world, "SELECT pg_switch_wal()")
    data = data_folder(production.postgres)
    archive = shutil.copytree(data / "pg_wal", data.parent / "archive")
    chown_like(data, [archive, *archive.rglob("*")])
    kept = data.parent / "kept"
    command = ["--restore-command", f"cp {archive}/%f %p", "--folder", kept, "--keep"]
    found = production.drill(production.backup, *command)
    (webhook,) = found["webhooks"]
    assert (webhook["recoverable"], webhook["error"]) == (0, None)
    assert (kept / "data" / "PG_VERSION").exists()
    assert not (kept / "data" / "postmaster.pid").exists(), "its server has ended"


@pytest.mark.long
def test_tar_files_are_restored(production: Production) -> None:
    tar = base_backup(production.postgres, "tar", "--format=tar", "--gzip")
    found = production.drill(tar)
    assert found["kind"] == "base backup in tar files"
    assert [webhook["recoverable"] for webhook in found["webhooks"]] == [0]


@pytest.mark.long
@pytest.mark.usefixtures("_hangs_up")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_drill_leaves_nothing(production: Production, number: signal.Signals) -> None:
    """A timer that ends the command ends the server, too, and deletes what was restored."""
    folder = production.backup.parent / "interrupted"
    started = production.start(production.backup, "--folder", folder)
    pid = folder / "data" / "postmaster.pid"
    assert eventually(lambda: pid.exists() and pid.read_text().count("\n") > 4, within=30)
    server = int(pid.read_text().split()[0])
    started.send_signal(number)
    started.communicate()
    assert started.returncode == 128 + number
    assert not folder.exists()
    assert not psutil.pid_exists(server)


PGBACKREST = """#!/bin/sh
echo "$@" >{folder}/arguments
exec sleep 60
"""
CHECKS = ("schema", "newest delivery", "encryption keys", "delivery log", "webhooks", "files")


@pytest.fixture
def _hangs_up() -> Iterator[None]:
    """SIGHUP ends programs, though the tests run under nohup, which lets programs ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def pgbackrest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The arguments of a program of that name, which begins a restore and does not end it."""
    program = tmp_path / "programs" / "pgbackrest"
    program.parent.mkdir()
    program.write_text(PGBACKREST.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "arguments"


def me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


@pytest.mark.usefixtures("_hangs_up")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_restore_leaves_nothing(
    environment: dict[str, str], tmp_path: Path, pgbackrest: Path, number: signal.Signals
) -> None:
    folder = str(tmp_path / "copy")
    command = [str(RECEIVER), "drill", "--pgbackrest", "main", "--folder", folder, "--postgres-user", me()]
    started = subprocess.Popen(command, env={**os.environ, **environment, **ACCESS}, stderr=subprocess.DEVNULL)
    assert eventually(pgbackrest.exists, within=30)
    (restoring,) = psutil.Process(started.pid).children()
    started.send_signal(number)
    assert started.wait(30) == 128 + number
    assert not restoring.is_running()
    assert not (tmp_path / "copy").exists()


def test_a_disk_that_fills_ends_the_restore(
    environment: dict[str, str], tmp_path: Path, pgbackrest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the disk may be what production stores deliveries in."""
    free = {False: 30 << 30, True: 9 << 30}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(100 << 30, 0, free[pgbackrest.exists()]))
    options = RestoreOptions(postgres_user=me(), folder=tmp_path / "copy")
    backup = Backup(BackupKind.PGBACKREST, "main")
    with (
        pytest.raises(OperationRefused, match="has less than 10% or 1 GiB left"),
        restored_server(backup, environment["DATABASE_URL"], options, stage=str),
    ):
        pass
    assert not (tmp_path / "copy").exists()
    assert [each.name() for each in psutil.Process().children() if each.name() == "sleep"] == []
    arguments = pgbackrest.read_text().split()
    assert {"--no-delta", "--no-link-all", "--reset-link-map", "--reset-tablespace-map"} <= set(arguments)


def test_folder_too_long_for_a_socket_is_refused_early(
    environment: dict[str, str], tmp_path: Path, pgbackrest: Path
) -> None:
    options = RestoreOptions(postgres_user=me(), folder=tmp_path / ("long" * 25))
    with (
        pytest.raises(OperationRefused, match="is too long for a Unix socket in it: name another --folder"),
        restored_server(Backup(BackupKind.PGBACKREST, "main"), environment["DATABASE_URL"], options, stage=str),
    ):
        pass
    assert not pgbackrest.exists()


@pytest.mark.usefixtures("pgbackrest")
def test_a_failed_restore_is_reported_in_the_same_document(environment: dict[str, str], tmp_path: Path) -> None:
    """And where what was restored is kept."""
    program = tmp_path / "programs" / "pgbackrest"
    program.write_text("#!/bin/sh\necho no backup; exit 1\n")
    folder = tmp_path / "copy"
    command = ["drill", "--pgbackrest", "main", "--json", "--keep", "--folder", str(folder), "--postgres-user", me()]
    ended = CliRunner(env={**environment, **ACCESS}).invoke(main, command)
    assert ended.exit_code == 1, ended.stderr
    restore, *others = json.loads(ended.stdout)["checks"]
    assert (restore["check"], restore["state"]) == ("restore", "broken")
    assert restore["detail"] == f"pgbackrest failed: no backup (what was restored: {folder})"
    assert [(check["check"], check["state"]) for check in others] == [(check, "not checked") for check in CHECKS]
    assert folder.exists()


def test_unusable_storage_is_reported_before_the_restore(
    environment: dict[str, str], tmp_path: Path, pgbackrest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    command = ["drill", "--pgbackrest", "main", "--folder", str(tmp_path / "copy"), "--postgres-user", me()]
    ended = CliRunner(env={**environment, **ACCESS, "FILES_URL": "s3://bucket/files"}).invoke(main, command)
    assert (ended.exit_code, "FILES_URL needs a library" in ended.stderr) == (2, True), ended.stderr
    assert not pgbackrest.exists()


def test_failure_of_the_copy_is_not_productions(environment: dict[str, str], tmp_path: Path) -> None:
    url = f"postgresql://receiver@/receiver?host={tmp_path}"
    drill = Drill("receiver.dump", BackupKind.DUMP)
    restored = RestoredServer(url, tmp_path, 1.0, (), ())
    with pytest.raises(OperationRefused, match="PostgreSQL failed in the copy: ") as failed:
        examine(restored, load_settings(environment), FileStore(str(tmp_path)), drill, Progress())
    stopped(drill, failed.value)
    assert [(check.check, check.state.value) for check in drill.checks] == [
        ("restore", "ok"),
        ("copy", "broken"),
        *((check, "not checked") for check in CHECKS),
    ]


def test_webhooks_registered_after_the_backup_are_reported(world: World) -> None:
    world.add_organizations("globex")
    assert world.bootstrap().failures == []
    client, findings, drill = world.client, CheckResults(), Drill("receiver.dump", BackupKind.DUMP)
    access = ReadingAccess(world.api_url, str(client.account_id), client.id, client.secret)

    def check() -> tuple[list[str], str]:
        check_later_webhooks(world.engine, access, world.public_url, drill, findings)
        return drill.later_webhooks, findings.lines.pop().state

    assert check() == ([], "ok")
    execute(world, "DELETE FROM receiver.webhooks WHERE organization_reference_id = 'globex'")
    assert check() == (["globex"], "broken")


def test_a_server_that_answers_nothing_is_not_waited_for(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a variable of libpq lead to another server, which would answer."""
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "PG_VERSION").write_text("18")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "postgres").write_text("#!/bin/sh\nexec sleep 60\n")
    (programs / "postgres").chmod(0o755)
    monkeypatch.setenv("PGHOSTADDR", LOOPBACK)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    monkeypatch.setattr(server, "START_SECONDS", 0.2)
    other = socket.create_server((LOOPBACK, 0))
    monkeypatch.setattr(server, "_free_port", lambda: other.getsockname()[1])
    options = RestoreOptions(postgres_bin=programs, postgres_user=me(), folder=tmp_path / "copy", keep=True)
    with (
        pytest.raises(
            OperationRefused, match=rf"(?s)does not accept connections.*\(what was restored: {tmp_path}/copy\)"
        ),
        restored_server(find_backup(tmp_path / "backup"), environment["DATABASE_URL"], options, stage=str),
    ):
        pass
    assert os.environ["PGHOSTADDR"] == LOOPBACK, "it is removed for the drill only"
    other.settimeout(0)
    with closing(other), pytest.raises(BlockingIOError):
        other.accept()


def test_wrong_usage_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no backup")
    for arguments, said in (
        ([], "give either BACKUP or --pgbackrest"),
        ([str(tmp_path), "--pgbackrest", "main"], "give either BACKUP or --pgbackrest"),
        ([str(tmp_path)], "is no backup and has none in it"),
    ):
        ended = CliRunner(env={**environment, **ACCESS}).invoke(main, ["drill", *arguments])
        assert (ended.exit_code, said in ended.stderr) == (2, True), ended.stderr


def test_the_newest_backup_of_a_folder_is_found(tmp_path: Path) -> None:
    older, newer = tmp_path / "older.dump", tmp_path / "newer"
    older.write_bytes(b"PGDMP...")
    newer.mkdir()
    (newer / "base.tar.gz").touch()
    (tmp_path / "notes.txt").write_text("no backup")
    os.utime(older, (1, 1))
    assert find_backup(tmp_path).kind is BackupKind.TAR
    os.utime(newer, (0, 0))
    assert find_backup(tmp_path) == Backup(BackupKind.DUMP, str(older))


def test_a_running_server_is_no_backup(tmp_path: Path, environment: dict[str, str]) -> None:
    """Nor is a backup with tablespaces restored: their folders are production's."""
    (tmp_path / "PG_VERSION").write_text("18")
    for name, said in (("postmaster.pid", "not a backup"), ("tablespace_map", "has tablespaces")):
        (tmp_path / name).touch()
        options = RestoreOptions(postgres_user=pwd.getpwuid(os.geteuid()).pw_name)
        backup, url = find_backup(tmp_path), environment["DATABASE_URL"]
        with pytest.raises(OperationRefused, match=said), restored_server(backup, url, options, stage=str):
            pass
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("known_until", "received_at", "log_begins_at", "lost"),
    [
        (NOW, NOW, NOW - DAY, False),
        (NOW, NOW, NOW, False),
        (NOW, NOW - DAY, NOW + DAY, True),
        (NOW, NOW, None, True),
        (NOW, None, None, False),
        (None, None, NOW, False),
    ],
)
def test_a_log_that_begins_after_the_backup_may_have_lost(
    known_until: datetime | None, received_at: datetime | None, log_begins_at: datetime | None, *, lost: bool
) -> None:
    """But of a webhook that never received a delivery nothing is known to be lost."""
    assert may_have_lost(known_until, received_at, log_begins_at) is lost


def test_nothing_but_reading_is_sent_to_opencard() -> None:
    access = ReadingAccess("https://api.example", "1", "client", "secret")
    access.limit(httpx.Request("GET", "https://api.example/webhooks"))
    access.limit(httpx.Request("POST", f"https://api.example{TOKEN_PATH}"))
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(OperationRefused, match=f"a drill does not send {method} /webhooks"):
            access.limit(httpx.Request(method, "https://api.example/webhooks"))
