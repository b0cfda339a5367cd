"""docs/operate/upgrade.md, step by step, under a steady stream of deliveries: to the new release and back.

The older release is the wheel that ``PREVIOUS_WHEEL`` names. Without one, it is this checkout, and the newer release is
this checkout with another version and a further migration.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import text

from receiver.db import engine_for
from receiver.sandbox.embedded import LOOPBACK, free_port
from receiver.sandbox.local import adopt_webhook
from receiver.sandbox.processes import local_environment
from receiver.settings import load_settings
from tests.support.factories import body, card_holder
from tests.support.releases import built, copied, unpacked
from tests.support.senders import Senders
from tests.support.waiting import eventually
from tests.support.web_process import EVENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis
    from sqlalchemy import Engine

    from receiver.sandbox.registration import Registration
    from tests.support.releases import Release, Running

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PREVIOUS: Final = os.environ.get("PREVIOUS_WHEEL", "")
NEXT: Final = "0.99.0"
SECONDS: Final = 120
SOME: Final = 200
"""Deliveries between two steps."""
MIGRATION: Final = '''
"""A column in a table of each layer, as a release may add it."""

from alembic import op

revision = "0099"
down_revision = "{before}"


def upgrade() -> None:
    for table in ("receiver.stored_deliveries", "receiver.queue", "ems.card_holders"):
        op.execute(f"ALTER TABLE {{table}} ADD COLUMN next_release text")
        op.execute(f"COMMENT ON COLUMN {{table}}.next_release IS 'of the next release'")
'''
COLUMN: Final = '    next_release: Mapped[str | None] = mapped_column(comment="of the next release")\n'
HAPROXY: Final = """
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
listen web
    bind 127.0.0.1:{port}
    monitor-uri /both
    monitor fail if {{ nbsrv(web) lt 2 }}
    retries 3
    option redispatch
    option httpchk GET /healthz
    default-server check inter 500ms fall 2 rise 1
    server older 127.0.0.1:{older}
    server newer 127.0.0.1:{newer}
"""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Release]:
    """The older and the newer release."""
    folder = tmp_path_factory.mktemp("releases")
    this = copied(folder / "this")
    if PREVIOUS:
        return (
            unpacked(Path(PREVIOUS), folder / "older"),
            unpacked(built(this, folder / "wheels"), folder / "newer"),
        )
    older = unpacked(built(this, folder / "wheels"), folder / "older")
    return older, unpacked(built(next_release(this), folder / "next-wheels"), folder / "newer")


def next_release(checkout: Path) -> Path:
    """Change a copy of this checkout into the release after it."""
    project = checkout / "pyproject.toml"
    project.write_text(re.sub(r'^version = ".*"$', f'version = "{NEXT}"', project.read_text(), flags=re.MULTILINE))
    versions = checkout / "migrations" / "versions"
    before = max(re.findall(r"^(\d+)_", "\n".join(file.name for file in versions.glob("*.py")), flags=re.MULTILINE))
    (versions / "0099_next_release.py").write_text(MIGRATION.format(before=before))
    for module, lines in (
        ("deliveries/models.py", ("    written_ms: Mapped", "    leased_until: Mapped")),
        ("records/models/people.py", ("    email_delivered_at: Mapped",)),
    ):
        file = checkout / "receiver" / module
        source = file.read_text()
        for line in lines:
            assert source.count(line) == 1, line
            source = source.replace(line, COLUMN + line)
        if "mapped_column" not in source.split("class ")[0]:
            source = source.replace(
                "from sqlalchemy.orm import Mapped", "from sqlalchemy.orm import Mapped, mapped_column"
            )
        file.write_text(source)
    return checkout


class InstalledService:
    """A database with one webhook, a proxy, and what runs of either release."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, stack: ExitStack) -> None:
        self.logs = folder
        self.ports = (free_port(), free_port())
        self.front = free_port()
        self._stack = stack
        self.variables = local_environment(database_url=database_url, redis_url=redis_url, port=self.front)
        self.engine: Engine = engine_for(database_url, application="tests")
        stack.callback(self.engine.dispose)

    def adopt(self) -> Registration:
        with self.engine.begin() as connection:
            return adopt_webhook(connection, load_settings(self.variables), "acme", number=1)

    def start(self, release: Release, process: str, *, port: int = 0) -> Running:
        """Start a process, and wait until a web process serves."""
        bound = {"PORT": str(port or self.front), "GUNICORN_CMD_ARGS": f"--bind {LOOPBACK}:{port or self.front}"}
        running = release.start(process, {**self.variables, **bound}, self.logs)
        self._stack.callback(running.stop)
        if process == "web":
            assert eventually(lambda: answers(f"http://{LOOPBACK}:{port}/readyz"), within=SECONDS), (
                running.log.read_text()
            )
        return running

    def start_proxy(self) -> None:
        configuration = self.logs / "haproxy.cfg"
        older, newer = self.ports
        configuration.write_text(HAPROXY.format(port=self.front, older=older, newer=newer))
        program = ["haproxy", "-q", "-f", str(configuration)]
        haproxy = self._stack.enter_context(subprocess.Popen(program))
        self._stack.callback(haproxy.terminate)
        assert eventually(lambda: answers(f"http://{LOOPBACK}:{self.front}/healthz"), within=SECONDS)

    def uses_both(self) -> bool:
        return answers(f"http://{LOOPBACK}:{self.front}/both")

    def column(self, query: str) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.scalars(text(query)))


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def half_sent(port: int, registration: Registration, reference_id: str) -> Iterator[Callable[[], int]]:
    """Send half of a delivery; yield what sends the rest and returns the status."""
    content = body(card_holder(reference_id))
    headers = {**registration.headers(EVENT, content), "Content-Length": str(len(content))}
    with closing(HTTPConnection(LOOPBACK, port, timeout=SECONDS)) as connection:
        connection.putrequest("POST", urlsplit(registration.url).path)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(content[:20])

        def finish() -> int:
            connection.send(content[20:])
            return connection.getresponse().status

        yield finish


def replace_processes(
    service: InstalledService,
    before: dict[str, Running],
    release: Release,
    port: int,
    registration: Registration,
    name: str,
) -> dict[str, Running]:
    """Start *release* in addition to *before*, and end that with SIGTERM when it has received half of a delivery."""
    with half_sent(service.front, registration, name) as finish:  # only one web process can have got it
        web = service.start(release, "web", port=port)
        assert eventually(service.uses_both, within=SECONDS)
        before["web"].terminate()
        assert eventually(lambda: "Handling signal: term" in before["web"].log.read_text(), within=SECONDS)
        assert finish() == 200
        assert before["web"].wait() == 0
    after = {"web": web}
    for process in ("worker", "scheduler"):
        after[process] = service.start(release, process)
        assert eventually(lambda: f"{process}.started" in after[process].log.read_text(), within=SECONDS)  # noqa: B023
        assert before[process].stop() == 0
    return after


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed: apt-get install haproxy")
def test_upgrade_and_rollback_under_load_answer_only_200(
    releases: tuple[Release, Release], new_database: Callable[[], str], redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    del redis  # asked for so that it is empty
    older, newer = releases
    with ExitStack() as stack:
        service = InstalledService(tmp_path, new_database(), redis_url, stack)
        older.run("receiver db upgrade", service.variables)
        registration = service.adopt()
        running = {"web": service.start(older, "web", port=service.ports[0])}
        running |= {process: service.start(older, process) for process in ("worker", "scheduler")}
        service.start_proxy()
        with ExitStack() as sending:
            senders = Senders(registration, service.front, sending, number=4)

            def let_some_arrive() -> None:
                before = senders.answers.total()
                assert eventually(lambda: senders.answers.total() >= before + SOME, within=SECONDS), senders.answers

            let_some_arrive()
            migrated = newer.run("receiver db upgrade", service.variables)
            assert PREVIOUS or "to 0099" in migrated
            assert "agree" in newer.run("receiver db check", service.variables)
            let_some_arrive()
            running = replace_processes(service, running, newer, service.ports[1], registration, "half-old")
            let_some_arrive()
            assert PREVIOUS or "nothing to migrate" in older.run("receiver db upgrade", service.variables)
            running = replace_processes(service, running, older, service.ports[0], registration, "half-new")
            let_some_arrive()
        assert set(senders.answers) == {200}, senders.answers
        sent = senders.sent | {"half-old", "half-new"}
        assert eventually(lambda: not service.column("SELECT 1 FROM receiver.queue LIMIT 1"), within=SECONDS)
        assert service.column("SELECT subject_id FROM ems.events ORDER BY 1") == sorted(sent)
        assert service.column("SELECT DISTINCT status FROM receiver.deliveries") == ["processed"]
        versions = service.column("SELECT version FROM receiver.deploys ORDER BY id")
        assert (set(versions), versions[-1]) == ({older.version, newer.version}, older.version)
        assert {process: each.stop() for process, each in running.items()} == dict.fromkeys(running, 0)
        lines = [line for log in tmp_path.glob("*.log") for line in log.read_text().splitlines()]
        assert [line for line in lines if '"level": "error"' in line and '"logger": "receiver' in line] == []
