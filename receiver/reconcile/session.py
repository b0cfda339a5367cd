"""Reconcile one webhook after another on one PostgreSQL connection, which owns the temporary tables.

Another connection holds the webhook's lock during its run, and loses it a minute after this process died or hung.
"""

from __future__ import annotations

import logging
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
from receiver.reconcile.clock import correction, last_clock_offset
from receiver.reconcile.outcome import ReconcileOutcome
from receiver.reconcile.prefetch import prefetch
from receiver.reconcile.workspace import Workspace
from receiver.reconcile.write import count_missing, count_unconfirmed, write_comparison
from receiver.tracing import span

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from receiver.encryption import Encryption
    from receiver.opencard.client import OpenCard

log = structlog.stdlib.get_logger(__name__)

RUN_OVERLAP: Final = timedelta(minutes=10)
"""By how much runs overlap, in addition to the grace: clocks differ, and an entry may appear a little late."""
CLOCK_SLACK: Final = timedelta(minutes=15)
"""How much older than the oldest attempt a compared delivery may be: clocks differ."""
OPEN_PERIOD: Final = timedelta(days=8)
"""How long an unconfirmed delivery or unrecoverable event counts as open: a little more than the daily look-back."""
COUNTED: Final = ("log_entries", "matched", "recovered", "unconfirmed", "unrecoverable")
"""The fields of an outcome that a trace has."""
EXPECTED_ERRORS: Final = (ReceiverError, SQLAlchemyError, psycopg.Error)
BUSY: Final = "another run or a retraction is busy with this webhook at this moment: wait for it, or run again"
_SET_TIMEOUT: Final = text(f"SELECT set_config('idle_in_transaction_session_timeout', '{HELD_SECONDS}s', false)")
"""A run that hangs in a transaction keeps its row locks no longer than its advisory lock."""


@dataclass(frozen=True, slots=True)
class ReconciledWebhook:
    """The columns of a webhook that a run needs."""

    id: int
    opencard_webhook_id: int
    organization_id: int
    organization_reference_id: str

    def failed(self, error: str) -> ReconcileOutcome:
        """Return an outcome without counts, with *error*."""
        return ReconcileOutcome(self.id, self.opencard_webhook_id, self.organization_reference_id, error=error)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The same for all webhooks of one call of ``Reconciler.run``."""

    encryption: Encryption
    """Decrypts the key of the pseudonyms, by which erased card holders are recognized."""
    grace: timedelta
    since: datetime | None
    """How far back the log is read; ``None``: as far as is needed."""
    write: bool


@dataclass(frozen=True, slots=True)
class _StartedRun:
    run_id: int | None
    """``None`` in a dry run."""
    started_at: datetime
    checked_earlier: datetime | None
    """``checked_until`` of the earlier runs."""
    since: datetime | None
    """How far back the log is read; ``None``: to its beginning."""

    @property
    def covers_all(self) -> bool:
        """Whether everything from the log's beginning to this run's start is checked when it ends."""
        return self.since is None or (self.checked_earlier is not None and self.since <= self.checked_earlier)

    @property
    def checked_until(self) -> datetime | None:
        return self.started_at if self.covers_all else self.checked_earlier


class ReconcileSession:
    """Owns one connection, which is replaced after a failure; not thread-safe."""

    def __init__(self, engine: Engine, api: OpenCard, options: RunOptions) -> None:
        self._engine = engine
        self._api = api
        self._options = options
        self._open: Connection | None = None
        self._dbapi_connection: DBAPIConnection | None = None
        self._run: _StartedRun | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._close()

    def reconcile(self, webhook: ReconciledWebhook) -> ReconcileOutcome:
        """Reconcile *webhook*; a failure becomes the ``error`` of the outcome and of the run."""
        with span("reconcile", **{"receiver.webhook_id": webhook.id}) as run:
            outcome = self._reconcile_or_fail(webhook)
            run.set_attributes({f"receiver.{name}": getattr(outcome, name) for name in COUNTED})
            run.set_attributes({"receiver.failed": outcome.error is not None})
        return outcome

    def _reconcile_or_fail(self, webhook: ReconciledWebhook) -> ReconcileOutcome:
        self._run = None
        try:
            with RECONCILE_SECONDS.time():
                outcome = self._reconcile_alone(webhook)
        except Exception as error:  # one webhook's failure stops no other
            self._close()
            RECONCILE_RUNS.labels("failed").inc()
            message = _error_message(error)
            if not isinstance(error, EXPECTED_ERRORS):
                log.exception("reconcile.webhook_failed")
            else:
                log.warning("reconcile.webhook_failed", webhook_id=webhook.id, error=message)
            self._record_failure(message)
            return webhook.failed(message)
        except BaseException:
            self._close()
            raise
        RECONCILE_RUNS.labels("busy" if outcome.error == BUSY else "ended").inc()
        has_findings = outcome.recovered or outcome.unconfirmed or outcome.unrecoverable
        checked_until = outcome.checked_until and outcome.checked_until.isoformat()
        log.log(
            logging.INFO if has_findings else logging.DEBUG,  # hundreds of runs without findings, every few minutes
            "reconcile.webhook_reconciled",
            **{**asdict(outcome), "checked_until": checked_until},
        )
        return outcome

    def _reconcile_alone(self, webhook: ReconciledWebhook) -> ReconcileOutcome:
        with held_lock(self._engine, key_of(LockFamily.RECONCILE, webhook.id)) as acquired:
            return self._reconcile(self._connection(), webhook) if acquired else webhook.failed(BUSY)

    def _reconcile(self, connection: Connection, webhook: ReconciledWebhook) -> ReconcileOutcome:
        with connection.begin():
            self._run = run = self._begin(connection, webhook)
        workspace = Workspace(connection, webhook.organization_reference_id, self._options.encryption)
        self._read(connection, webhook, workspace, run)
        with connection.begin():
            if run.run_id is not None and not runs.still_runs(connection, run.run_id):
                raise OperationRefused(runs.INTERRUPTED)
            counts = self._compare(connection, webhook, workspace, run)
            if run.run_id is not None:
                write_comparison(
                    connection,
                    webhook.id,
                    missing=counts.recovered,
                    started_at=run.started_at,
                    open_since=run.started_at - OPEN_PERIOD,
                    oldest=workspace.oldest,
                    clock_offset=workspace.clock_offset,
                )
                workspace.require_no_new_erasure()
                runs.end(
                    connection,
                    run.run_id,
                    counts,
                    checked_until=run.started_at if run.covers_all else None,
                    unconfirmed_before=run.started_at - self._options.grace,
                )
        checked_until = run.checked_earlier if run.run_id is None else run.checked_until
        return ReconcileOutcome(
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

    def _begin(self, connection: Connection, webhook: ReconciledWebhook) -> _StartedRun:
        started_at = runs.now(connection)
        checked_earlier = runs.checked_until(connection, webhook.id)
        since = self._options.since
        if since is None and checked_earlier is not None:
            since = checked_earlier - RUN_OVERLAP - self._options.grace
        run_id = None
        if self._options.write:
            run_id = runs.begin(connection, webhook.id, started_at=started_at, since=since)
        return _StartedRun(run_id, started_at, checked_earlier, since)

    def _read(self, connection: Connection, webhook: ReconciledWebhook, workspace: Workspace, run: _StartedRun) -> None:
        """Read the log; no transaction waits for OpenCard."""
        delivery_log = DeliveryLog.of(
            self._api, organization_id=webhook.organization_id, webhook=webhook.opencard_webhook_id, since=run.since
        )
        with connection.begin():
            workspace.prepare()
        with prefetch(delivery_log.pages()) as pages:
            for page in pages:
                with connection.begin():
                    if page.starts_over:
                        workspace.clear()
                    workspace.add(page.entries)
        with connection.begin():
            workspace.deduplicate(merge_equal=delivery_log.merge_equal)

    def _compare(
        self, connection: Connection, webhook: ReconciledWebhook, workspace: Workspace, run: _StartedRun
    ) -> runs.Counts:
        workspace.load_deliveries(webhook.id, since=run.since, slack=CLOCK_SLACK, window=WINDOW)
        matched, seen = workspace.compare_single()
        offset = last_clock_offset(connection) if seen is None else seen
        workspace.clock_offset = correction(offset)
        open_since = run.started_at - OPEN_PERIOD
        matched += workspace.compare_several()
        also_matched, unrecoverable = workspace.compare_without_payload(webhook.id, open_since=open_since)
        after = run.since
        if after is not None:
            after = min(after, open_since) if run.covers_all else after + CLOCK_SLACK
        return runs.Counts(
            log_entries=workspace.entries,
            matched=matched + also_matched,
            recovered=count_missing(connection),
            unconfirmed=count_unconfirmed(
                connection, webhook.id, after=after, before=run.started_at - self._options.grace
            ),
            unrecoverable=unrecoverable,
            clock_ahead=seen,
        )

    def _connection(self) -> Connection:
        if self._open is None:
            self._open = self._engine.connect()
            self._dbapi_connection = self._open.connection.dbapi_connection
            self._open.detach()  # from the pool: closing it drops its temporary tables
            with self._open.begin():
                self._open.execute(_SET_TIMEOUT)
        return self._open

    def _close(self) -> None:
        if self._open is None:
            return
        with suppress(SQLAlchemyError, psycopg.Error):
            self._open.close()
        if self._dbapi_connection is not None:
            self._dbapi_connection.close()  # after an interrupt SQLAlchemy drops a detached connection without closing
        self._open = self._dbapi_connection = None

    def _record_failure(self, message: str) -> None:
        if self._run is None or self._run.run_id is None:
            return
        with suppress(SQLAlchemyError), self._engine.begin() as connection:  # else the next run marks it
            runs.fail(connection, self._run.run_id, message)


def _error_message(error: Exception) -> str:
    """Return the error in one line."""
    if isinstance(error, ReceiverError):
        return str(error)
    if isinstance(error, EXPECTED_ERRORS):
        return "PostgreSQL (DATABASE_URL): " + str(getattr(error, "orig", None) or error).partition("\n")[0]
    return f"{type(error).__name__}: the service's log has the details"
