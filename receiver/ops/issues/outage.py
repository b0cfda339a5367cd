"""An outage of PostgreSQL, which keeps the issues: the scheduler itself sends the message, and records the issue later.

Redis prevents several schedulers from sending it; when Redis is unavailable too, each of them does.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog
from redis import RedisError
from sqlalchemy import text

from receiver.ops.findings import Finding, FindingKind
from receiver.ops.issues.lifecycle import State
from receiver.ops.issues.notifications import TYPES
from receiver.queue import SHORT_TIMEOUT, connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis import Redis
    from sqlalchemy import Connection

    from receiver.ops.issues.notifications import Target
    from receiver.ops.issues.store import StoredIssue
    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

OUTAGE_SECONDS: Final = 30
"""How long PostgreSQL fails before it is an issue: a restart is quicker."""
SUBJECT: Final = "PostgreSQL"
REMIND_AFTER: Final = timedelta(days=1)

_IS_RECORDED: Final = text(
    "SELECT EXISTS (SELECT FROM receiver.issues WHERE kind = :kind AND subject = :subject AND last_seen_at >= :since)"
)
_SENT: Final = text(
    """
UPDATE receiver.notifications SET sent_state = state, sent_opened_at = opened_at, sent_at = :at,
    due_at = greatest(due_at, CAST(:at AS timestamptz) + interval '1 minute')
WHERE issue_id = :issue_id AND target = :target
"""
)


class StorageOutage:
    """What one scheduler knows of PostgreSQL's outage while it lasts, or that there is none."""

    def __init__(self, settings: Settings, targets: Sequence[Target]) -> None:
        self._settings = settings
        self._targets = targets
        self._began = 0.0
        self._lasted = False
        self._is_stale = True  # Redis may have what a scheduler left that was stopped during an outage
        self._sent: dict[str, datetime] = {}
        self.since: datetime | None = None
        """When PostgreSQL failed first; ``None`` while it does not."""
        self.error = ""

    def failed(self, error: str) -> None:
        """Note that PostgreSQL failed; once it has for a while, send the message to each address until it is taken."""
        self.error = error
        if self.since is None:
            self.since, self._began = datetime.now(UTC), time.monotonic()
        self._lasted = time.monotonic() - self._began >= OUTAGE_SECONDS
        if self._lasted:
            for target in self._targets:
                self._send(target)

    def finding(self, connection: Connection) -> Finding | None:
        """Return what is to be recorded, once PostgreSQL answers again; nothing if another scheduler has done so."""
        if self.since is None or not self._lasted:
            return None
        parameters = {"kind": str(FindingKind.STORAGE), "subject": SUBJECT, "since": self.since}
        if connection.scalar(_IS_RECORDED, parameters):
            return None
        words = f"PostgreSQL could not be used for {round(time.monotonic() - self._began)} seconds: {self._words()}"
        return Finding(FindingKind.STORAGE, words, SUBJECT, since=self.since)

    def note_sent(self, connection: Connection, changed: Iterable[StoredIssue]) -> None:
        """Note what was sent, in the transaction that records the issue."""
        for stored in changed:
            opened = stored.issue.state == State.OPEN  # another scheduler may have recorded it, so that now it ends
            if opened and (stored.issue.kind, stored.issue.subject) == (FindingKind.STORAGE, SUBJECT):
                for target, at in self._sent.items():
                    connection.execute(_SENT, {"issue_id": stored.id, "target": target, "at": at})

    def ended(self) -> None:
        """Reset: PostgreSQL answers again, and the issue, if any, is committed."""
        if self._targets and (self._is_stale or self.since is not None):
            with suppress(RedisError), closing(self._redis()) as redis:
                redis.delete(*map(_key, self._targets))
        self._is_stale = self._lasted = False
        self.since, self.error = None, ""
        self._sent.clear()

    def _send(self, target: Target) -> None:
        now = datetime.now(UTC)
        if target.key in self._sent and now - self._sent[target.key] < REMIND_AFTER:
            return
        if self._is_ours(target):
            try:
                target.send(
                    title=f"OpenCard receiver: {FindingKind.STORAGE} open",
                    body=f"PostgreSQL cannot be used: {self._words()}\nsince {self.since:%Y-%m-%d %H:%M:%S} UTC",
                    message_type=TYPES[Finding(FindingKind.STORAGE, "").severity],
                )
            except OSError as error:
                log.warning("notification.failed", target=target.name, issue=None, error=str(error))
                with suppress(RedisError), closing(self._redis()) as redis:
                    redis.delete(_key(target))
                return
        self._sent[target.key] = now

    def _is_ours(self, target: Target) -> bool:
        """Return whether no other scheduler sends it."""
        try:
            with closing(self._redis()) as redis:
                return bool(redis.set(_key(target), "sent", nx=True, ex=REMIND_AFTER))
        except RedisError:
            return True

    def _redis(self) -> Redis:
        return connect(self._settings.redis_url, timeout=SHORT_TIMEOUT)

    def _words(self) -> str:
        return f"{self.error}. Deliveries that cannot be stored are answered 503, and OpenCard sends them again"


def _key(target: Target) -> str:
    return f"receiver:outage:{target.key}"
