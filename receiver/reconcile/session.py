"""Reconciling one webhook after another in a session of PostgreSQL, which holds the temporary tables.

Another session holds the webhook's lock, and shows all the while that this process lives.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from receiver.counters import RECONCILE_RUNS, RECONCILE_SECONDS
from receiver.db import HELD_SECONDS, held_lock
from receiver.errors import OperationRefused, ReceiverError
from receiver.events.deduplicate import WINDOW
from receiver.locks import LockFamily, key_of
from receiver.opencard.delivery_log import DeliveryLog
from receiver.reconcile import runs
from receiver.reconcile.clock import last_seen_clock, see_clock, tell_in_our_time
from receiver.reconcile.outcome import Outcome
from receiver.reconcile.workspace import Workspace
from receiver.reconcile.write import count_missing, count_unconfirmed, write_outcome

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from receiver.encryption import Encryption
    from receiver.opencard.client import OpenCard

log = structlog.stdlib.get_logger(__name__)

OVERLAP: Final = timedelta(minutes=10)
"""By how much runs overlap, beside the grace: OpenCard's clock may differ, and an entry may appear a little late."""
SLACK: Final = timedelta(minutes=15)
"""How much older than the attempts stored deliveries may be to be among them: clocks differ."""
OPEN: Final = timedelta(days=8)
"""How long what needs attention counts as open: a little longer than the week that is looked back every day."""
EXPECTED: Final = (ReceiverError, SQLAlchemyError, psycopg.Error)
BUSY: Final = "another run is busy with this webhook at this moment: it finds the same; wait for it, or run again"
_BOUND: Final = text(f"SELECT set_config('idle_in_transaction_session_timeout', '{HELD_SECONDS}s', false)")
"""A run that hangs in a transaction holds its rows no longer than its lock."""


@dataclass(frozen=True, slots=True)
class ReconciledWebhook:
    """A webhook as a run needs it."""

    id: int
    opencard_webhook_id: int
    organization_id: int
    organization_reference_id: str

    def failed(self, error: str) -> Outcome:
        """Return the outcome of a run that did not end well."""
        return Outcome(self.id, self.opencard_webhook_id, self.organization_reference_id, error=error)


@dataclass(frozen=True, slots=True)
class Options:
    """What a run shall do."""

    encryption: Encryption
    """For what recognizes erased card holders."""
    grace: timedelta
    since: datetime | None
    """How far back the log is read; ``None``: as far as is needed."""
    write: bool


@dataclass(frozen=True, slots=True)
class _Begun:
    """A run that has begun."""

    run_id: int | None
    """``None`` in a dry run."""
    started_at: datetime
    watermark: datetime | None
    """That of the runs before."""
    since: datetime | None
    """How far back the log is read; ``None``: to its beginning."""

    @property
    def proves_all(self) -> bool:
        """Whether everything from the beginning up to its start is checked when it ends."""
        return self.since is None or (self.watermark is not None and self.since <= self.watermark)

    @property
    def checked_until(self) -> datetime | None:
        return self.started_at if self.proves_all else self.watermark


class Session:
    """One session, made anew after a failure; not for several threads at once."""

    def __init__(self, engine: Engine, api: OpenCard, options: Options) -> None:
        self._engine = engine
        self._api = api
        self._options = options
        self._open: Connection | None = None
        self._driver: DBAPIConnection | None = None
        self._begun: _Begun | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._close()

    def reconcile(self, webhook: ReconciledWebhook) -> Outcome:
        """Reconcile *webhook*; a failure becomes the outcome's ``error``, and the run's."""
        self._begun = None
        try:
            with RECONCILE_SECONDS.time():
                outcome = self._reconcile_alone(webhook)
        except Exception as error:  # one webhook's failure stops no other
            self._close()
            RECONCILE_RUNS.labels("failed").inc()
            words = _words(error)
            if not isinstance(error, EXPECTED):
                log.exception("webhook could not be reconciled")
            else:
                log.warning("webhook could not be reconciled", webhook_id=webhook.id, error=words)
            self._note_failure(words)
            return webhook.failed(words)
        except BaseException:
            self._close()
            raise
        RECONCILE_RUNS.labels("busy" if outcome.error == BUSY else "ended").inc()
        news = outcome.recovered or outcome.unconfirmed or outcome.unrecoverable
        say = log.info if news else log.debug  # hundreds of quiet webhooks every few minutes say nothing
        checked_until = outcome.checked_until and outcome.checked_until.isoformat()
        say("webhook reconciled", **{**asdict(outcome), "checked_until": checked_until})
        return outcome

    def _reconcile_alone(self, webhook: ReconciledWebhook) -> Outcome:
        with held_lock(self._engine, key_of(LockFamily.RECONCILE, webhook.id)) as held:
            return self._reconcile(self._connection(), webhook) if held else webhook.failed(BUSY)

    def _reconcile(self, connection: Connection, webhook: ReconciledWebhook) -> Outcome:
        with connection.begin():
            self._begun = begun = self._begin(connection, webhook)
        workspace = Workspace(connection, webhook.organization_reference_id, self._options.encryption)
        self._read(connection, webhook, workspace, begun)
        with connection.begin():
            if begun.run_id is not None and not runs.still_runs(connection, begun.run_id):
                raise OperationRefused(runs.CUT_OFF)
            counts = self._compare(connection, webhook, workspace, begun)
            if begun.run_id is not None:
                write_outcome(connection, webhook.id, started_at=begun.started_at, open_since=begun.started_at - OPEN)
                runs.end(
                    connection,
                    begun.run_id,
                    counts,
                    watermark=begun.started_at if begun.proves_all else None,
                    unconfirmed_before=begun.started_at - self._options.grace,
                )
        checked_until = begun.watermark if begun.run_id is None else begun.checked_until
        return Outcome(
            webhook.id,
            webhook.opencard_webhook_id,
            webhook.organization_reference_id,
            log_entries=counts.log_entries,
            matched=counts.matched,
            recovered=counts.recovered,
            unconfirmed=counts.unconfirmed,
            unrecoverable=counts.unrecoverable,
            checked_until=checked_until,
        )

    def _begin(self, connection: Connection, webhook: ReconciledWebhook) -> _Begun:
        started_at = runs.now(connection)
        watermark = runs.watermark(connection, webhook.id)
        since = self._options.since
        if since is None and watermark is not None:
            since = watermark - OVERLAP - self._options.grace
        run_id = None
        if self._options.write:
            run_id = runs.begin(connection, webhook.id, started_at=started_at, since=since)
        return _Begun(run_id, started_at, watermark, since)

    def _read(self, connection: Connection, webhook: ReconciledWebhook, workspace: Workspace, begun: _Begun) -> None:
        """Read the log; no transaction is open while OpenCard is asked."""
        reading = DeliveryLog.of(
            self._api, organization=webhook.organization_id, webhook=webhook.opencard_webhook_id, since=begun.since
        )
        with connection.begin():
            workspace.prepare()
        for page in reading.pages():
            with connection.begin():
                if page.starts_over:
                    workspace.clear()
                workspace.add(page.entries)
        with connection.begin():
            workspace.tell_apart(alike_are_one=reading.alike_are_one)

    def _compare(
        self, connection: Connection, webhook: ReconciledWebhook, workspace: Workspace, begun: _Begun
    ) -> runs.Counts:
        workspace.lay_beside(webhook.id, since=begun.since, slack=SLACK, known_within=WINDOW)
        seen = see_clock(connection)
        ahead = last_seen_clock(connection) if seen is None else seen
        tell_in_our_time(connection, ahead)
        matched = workspace.compare()
        open_since = begun.started_at - OPEN
        also_matched, unrecoverable = workspace.compare_without_payload(
            webhook.id, open_since=open_since, clock_ahead=ahead
        )
        after = begun.since
        if after is not None:
            after = min(after, open_since) if begun.proves_all else after + SLACK
        return runs.Counts(
            log_entries=workspace.count_attempts(),
            matched=matched + also_matched,
            recovered=count_missing(connection),
            unconfirmed=count_unconfirmed(
                connection, webhook.id, after=after, before=begun.started_at - self._options.grace
            ),
            unrecoverable=unrecoverable,
            clock_ahead=seen,
        )

    def _connection(self) -> Connection:
        if self._open is None:
            self._open = self._engine.connect()
            self._driver = self._open.connection.dbapi_connection
            self._open.detach()  # from the pool: to close it ends its tables
            with self._open.begin():
                self._open.execute(_BOUND)
        return self._open

    def _close(self) -> None:
        if self._open is None:
            return
        with suppress(SQLAlchemyError, psycopg.Error):
            self._open.close()
        if self._driver is not None:
            self._driver.close()  # SQLAlchemy forgets a detached connection, open as it is, after an interrupt
        self._open = self._driver = None

    def _note_failure(self, words: str) -> None:
        if self._begun is None or self._begun.run_id is None:
            return
        with suppress(SQLAlchemyError), self._engine.begin() as connection:  # else the next run says it was cut off
            runs.fail(connection, self._begun.run_id, words)


def _words(error: Exception) -> str:
    """Return what went wrong in one line."""
    if isinstance(error, ReceiverError):
        return str(error)
    if isinstance(error, EXPECTED):
        return "PostgreSQL (DATABASE_URL): " + str(getattr(error, "orig", None) or error).partition("\n")[0]
    return f"{type(error).__name__}: the service's log has the details"
