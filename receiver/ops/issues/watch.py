"""Checks every few seconds what needs attention, stores the issues, and sends the messages: threads in the scheduler.

In separate threads, so that a slow address delays neither a job nor the next check.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import httpx
import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from receiver.db import engine_for
from receiver.locks import Lock
from receiver.ops.activity import failures_by_error
from receiver.ops.attention import what_needs_attention
from receiver.ops.deploys import note_version
from receiver.ops.findings import Severity
from receiver.ops.issues.notifications import note_changes, send_due, targets_of
from receiver.ops.issues.outage import StorageOutage
from receiver.ops.issues.store import accepted, compare
from receiver.ops.status import read_status
from receiver.ops.storing import storage_error
from receiver.ops.workers import seen_workers
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Engine

    from receiver.ops.findings import Finding
    from receiver.ops.issues.notifications import Target
    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

CHECK_SECONDS: Final = 15
"""How often the checks run; a problem is known within twice that time."""
SEND_SECONDS: Final = 1
"""How often messages that are due are sent."""
HEARTBEAT_SECONDS: Final = 60
HEARTBEAT_TIMEOUT: Final = 10

POSTGRESQL_FAILS: Final = (SQLAlchemyError, psycopg.Error)

_ALONE: Final = text("SELECT pg_try_advisory_xact_lock(:key)")
_NOW: Final = text("SELECT clock_timestamp()")


@contextmanager
def watching(settings: Settings, *, check_seconds: float = CHECK_SECONDS) -> Iterator[None]:
    """Watch for as long as the block runs. Raises ``ConfigurationError`` for an address that Apprise does not know."""
    targets = targets_of(settings)
    stop = threading.Event()
    engine = engine_for(settings.database_url, application="issues")
    heartbeat = Heartbeat(settings.heartbeat_url)
    outage = StorageOutage(settings, targets)
    noted: list[str] = []

    def check_once() -> None:
        try:
            if not noted and note_version(engine):
                noted.append("version")
            well = check(engine, settings, targets, outage)
        except POSTGRESQL_FAILS as error:
            outage.failed(_first_line(error))
            raise
        heartbeat.beat(well=well)

    tasks = [(check_once, check_seconds), (lambda: send_due(engine, targets, link=settings.public_url), SEND_SECONDS)]
    threads = [
        threading.Thread(target=_repeat, args=(task, seconds, stop), daemon=True)
        for task, seconds in (tasks if targets else tasks[:1])
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=HEARTBEAT_TIMEOUT)
        engine.dispose()


def find_all(connection: Connection, settings: Settings) -> list[Finding]:
    """Return what needs attention now; the same as ``receiver status`` shows."""
    service = read_status(lambda query: [*map(dict, connection.execute(text(query)).mappings())])
    return what_needs_attention(
        service,
        settings,
        failures=failures_by_error(connection),
        refusal=storage_error(connection),
        workers=seen_workers(settings.redis_url) if settings.redis_url else None,
    )


def check(engine: Engine, settings: Settings, targets: Sequence[Target], outage: StorageOutage | None = None) -> bool:
    """Compare the issues with what is found, if no other process does; return whether it did, and nothing is critical.

    A critical finding that an operator acknowledged or resolved does not count. *outage*: the last one of PostgreSQL,
    which is recorded now that it is over.
    """
    outage = outage or StorageOutage(settings, targets)
    with engine.begin() as connection:
        if not connection.scalar(_ALONE, {"key": Lock.ISSUES}):
            return False  # another scheduler checks, and fetches the URL
        findings = find_all(connection, settings)
        if (over := outage.finding(connection)) is not None:
            findings.append(over)
        at = connection.execute(_NOW).scalar_one()
        changed = compare(connection, findings, at=at)
        note_changes(connection, changed, targets)
        outage.note_sent(connection, changed)
        known = accepted(connection, findings, at=at)
    outage.ended()
    for each in changed:
        issue = each.issue
        log.info("issue.changed", issue=each.id, kind=issue.kind, state=str(issue.state))
    return not any(each.severity is Severity.CRITICAL and each not in known for each in findings)


class Heartbeat:
    """Fetches a URL each minute while no critical issue is open, so that an outside monitor notices when it stops."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._next = 0.0

    def beat(self, *, well: bool) -> None:
        """Fetch the URL if it is due and *well*: no critical issue is open."""
        if not (self._url and well and time.monotonic() >= self._next):
            return
        self._next = time.monotonic() + HEARTBEAT_SECONDS
        try:
            httpx.get(
                self._url, verify=tls_context(), timeout=HEARTBEAT_TIMEOUT, follow_redirects=True
            ).raise_for_status()
        except httpx.HTTPError as error:
            log.warning("heartbeat.failed", error=f"{type(error).__name__}: {error}")


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).partition("\n")[0]


def _repeat(task: Callable[[], object], seconds: float, stop: threading.Event) -> None:
    """Run a task every *seconds* seconds. It survives outages of PostgreSQL, and logs each of them once."""
    unavailable = False
    while not stop.is_set():
        try:
            task()
            unavailable = False
        except POSTGRESQL_FAILS as error:
            if not unavailable:
                log.warning("issues.postponed", error=_first_line(error))
            unavailable = True
        except Exception:
            log.exception("issues.failed")
        stop.wait(seconds)
