"""A practised restore: what a restored copy of the database lacks, and what would bring it back.

All that is written is written to the copy. OpenCard is only asked for its delivery log and webhooks, production's
PostgreSQL and Redis are not connected to, and no notification is sent.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from receiver.connections import RECONCILE
from receiver.counters import unstored_counts
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import DownloadsImpossible, OpenCardError, OperationRefused
from receiver.migrate import current_revision, differences, head_revision, is_newer, upgrade
from receiver.opencard.auth import Access
from receiver.opencard.client import OpenCard
from receiver.opencard.routes import LIST_ORGANIZATIONS, LIST_WEBHOOKS, TOKEN_PATH
from receiver.opencard.scopes import scopes_of
from receiver.opencard.tokens import MemoryTokens
from receiver.opencard.webhooks import Webhooks
from receiver.ops.doctor_findings import CheckResult, CheckResults, CheckState
from receiver.ops.keys import count_by_key
from receiver.ops.recover import recover
from receiver.processing.drain import drain
from receiver.reconcile.run import Reconciler
from receiver.reconcile.schedule import run_due
from receiver.webhooks.addresses import ENDPOINT_PATH

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Connection, Engine

    from receiver.files.store import FileStore
    from receiver.ops.drill.server import RestoredServer
    from receiver.progress import Progress
    from receiver.settings import Settings

RESTORE: Final = "restore"
SCHEMA: Final = "schema"
NEWEST: Final = "newest delivery"
KEYS: Final = "encryption keys"
LOG: Final = "delivery log"
WEBHOOKS: Final = "webhooks"
FILES: Final = "files"
COPY: Final = "copy"
"""Reported only if the restored server fails while it is examined."""
AFTER_RESTORE: Final = (SCHEMA, NEWEST, KEYS, LOG, WEBHOOKS, FILES)
NO_WAIT: Final = timedelta(seconds=1)
"""An interval of reconcile: after a restore every webhook is due."""
PARALLEL_FILES: Final = 16
PARALLEL_REQUESTS: Final = 8
NAMED: Final = 3
"""How many missing files or webhooks are named."""

_NEWEST: Final = text(
    """
SELECT now() AS at, (SELECT max(id) FROM receiver.stored_deliveries) AS last_id,
    (SELECT max(received_at) FROM receiver.stored_deliveries WHERE source = 'push') AS delivery_at,
    (SELECT max(recorded_at) FROM ems.events) AS event_at
"""
)
# from here on the mirror has what this reading of the log found, and no entry of the backup
_CLEAR_MIRROR: Final = text("TRUNCATE receiver.delivery_log")
_KNOWN_UNTIL: Final = text(
    """
SELECT webhook.id, greatest(state.checked_until, last.received_at) AS known_until, last.received_at
FROM receiver.webhooks AS webhook
LEFT JOIN receiver.reconcile_state AS state ON state.webhook_id = webhook.id
LEFT JOIN LATERAL (
    SELECT max(stored.received_at) AS received_at FROM receiver.stored_deliveries AS stored
    WHERE stored.webhook_id = webhook.id AND stored.source = 'push'
) AS last ON true
"""
)
_FOUND: Final = text(
    """
SELECT webhook.id AS webhook_id, webhook.organization_reference_id, run.log_entries, run.unrecoverable,
    coalesce(run.error, CASE WHEN run.id IS NULL THEN 'the log was not read' END) AS error,
    recovered.number AS recoverable, recovered.first_at, recovered.held, log.begins_at
FROM receiver.webhooks AS webhook
LEFT JOIN LATERAL (
    SELECT * FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.id > :last_run_id ORDER BY run.id DESC LIMIT 1
) AS run ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS number, min(occurred_at) AS first_at,
        count(*) FILTER (WHERE status NOT IN ('processed', 'duplicate')) AS held
    FROM receiver.deliveries
    WHERE webhook_id = webhook.id AND id > :last_id AND source = 'log'
) AS recovered
CROSS JOIN LATERAL (
    SELECT min(attempted_at) AS begins_at FROM receiver.delivery_log WHERE webhook_id = webhook.id
) AS log
WHERE webhook.enabled AND webhook.opencard_webhook_id IS NOT NULL AND webhook.deleted_at IS NULL AND NOT webhook.test
ORDER BY webhook.id
"""
)
_REGISTERED: Final = text("SELECT opencard_webhook_id FROM receiver.webhooks WHERE opencard_webhook_id IS NOT NULL")
_FILES: Final = text(
    """
SELECT file_key, file_size FROM ems.receipts WHERE file_key IS NOT NULL
UNION SELECT file_key, file_size FROM ems.tpas WHERE file_key IS NOT NULL
"""
)


@dataclass(frozen=True, slots=True)
class WebhookDrill:
    """What OpenCard's log has of one webhook, compared with the restored database."""

    webhook_id: int
    organization_reference_id: str
    log_entries: int
    recoverable: int
    """Events that the log has and the restored database lacks."""
    first_at: datetime | None
    """When the first of them occurred."""
    held: int
    """Those of them that could not be applied."""
    unrecoverable: int
    """Events that are missing and have no payload in the log."""
    lost_from: datetime | None
    """From then on events may be lost: the database knows nothing later, and the log begins later still."""
    lost_until: datetime | None
    error: str | None


@dataclass(slots=True)
class Drill:
    """The result of a restore."""

    backup: str
    kind: str
    restore_seconds: float = 0.0
    recover_seconds: float | None = None
    """How long reading the log and applying what it has took."""
    newest_delivery_at: datetime | None = None
    newest_event_at: datetime | None = None
    age_seconds: float | None = None
    """Of the newest delivery, when it was restored."""
    revision: str | None = None
    """That of the backup's schema."""
    unreadable_values: int = 0
    files: int = 0
    missing_files: list[str] = field(default_factory=list)
    webhooks: list[WebhookDrill] = field(default_factory=list)
    later_webhooks: list[str] = field(default_factory=list)
    """The organizations of webhooks that OpenCard has and the backup lacks."""
    checks: list[CheckResult] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether every check passed."""
        return not any(each.state in {CheckState.BROKEN, CheckState.NOT_CHECKED} for each in self.checks)


class ReadingAccess(Access):
    """Access that only reads: every request but that for a token is refused unless it is a GET."""

    __slots__ = ()

    def limit(self, request: httpx.Request) -> None:
        """Refuse what could change something at OpenCard."""
        if request.method != "GET" and request.url.path != TOKEN_PATH:
            raise OperationRefused(f"a drill does not send {request.method} {request.url.path}")
        super().limit(request)


def examine(server: RestoredServer, settings: Settings, files: FileStore, drill: Drill, progress: Progress) -> None:
    """Fill *drill*: examine the restored database, and recover it as after a real restore.

    *settings* are production's; of them the database's and Redis's addresses are not used. Raises ``OperationRefused``
    if the restored server fails.
    """
    try:
        _examine(server, settings, files, drill, progress)
    except (DBAPIError, psycopg.Error) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise OperationRefused(f"PostgreSQL failed in the copy: {' '.join(str(reason).split())}") from error


def stopped(drill: Drill, error: Exception) -> None:
    """Note in *drill* why the restore or its examination failed, and what was not checked."""
    findings = CheckResults(drill.checks)
    failed = COPY if any(each.check == RESTORE for each in drill.checks) else RESTORE
    findings.broken(failed, str(error))
    for check in AFTER_RESTORE:
        if not any(each.check.startswith(check) for each in drill.checks):
            findings.not_checked(check, f"{failed} is broken")


def _examine(server: RestoredServer, settings: Settings, files: FileStore, drill: Drill, progress: Progress) -> None:
    findings = CheckResults(drill.checks)
    drill.restore_seconds = server.seconds
    _report_restore(server, findings)
    engine = engine_for(server.url, application="drill", timeouts=RECONCILE)
    try:
        progress.stage("checking the schema")
        if not _fits(engine, drill, findings):
            for check in AFTER_RESTORE[1:]:
                findings.not_checked(check, f"{SCHEMA} is broken")
            return
        encryption = Encryption(settings.encryption_keys)
        with engine.connect() as connection:
            last_id = _report_newest(connection, drill, findings)
            progress.stage("decrypting")
            _check_keys(connection, encryption, drill, findings)
        progress.stage("reading the delivery log")
        access = ReadingAccess(
            settings.opencard_api_url,
            settings.opencard_account_id,
            settings.opencard_client_id,
            settings.opencard_client_secret,
        )
        grace = timedelta(seconds=settings.reconcile_grace)
        _recover(engine, Reconciler(engine, encryption, access, grace=grace), encryption, drill, last_id)
        _report_log(drill, findings)
        progress.stage("listing webhooks")
        check_later_webhooks(engine, access, settings.public_url, drill, findings)
        progress.stage("looking for files")
        _check_files(engine, files, drill, findings)
    finally:
        engine.dispose()
        unstored_counts.take()  # production's counters do not count what happened to the copy


def _report_restore(server: RestoredServer, findings: CheckResults) -> None:
    took = f"took {server.seconds:.1f} s"
    if server.errors:
        findings.broken(RESTORE, f"{took}, with {len(server.errors)} errors; the first: {server.errors[0]}")
    elif server.missing_roles:
        roles = ", ".join(server.missing_roles)
        findings.note(RESTORE, f"{took}; the dump names roles that it does not have, create them before: {roles}")
    else:
        findings.ok(RESTORE, took)


def _fits(engine: Engine, drill: Drill, findings: CheckResults) -> bool:
    """Return whether the schema is this release's, or could be migrated to it."""
    head = head_revision()
    with engine.connect() as connection:
        drill.revision = current_revision(connection)
        if drill.revision is None:
            findings.broken(SCHEMA, "the backup has no tables of this service")
            return False
        if is_newer(drill.revision):
            findings.broken(
                SCHEMA, f"at {drill.revision}, newer than this release's {head}: restore with the release that wrote it"
            )
            return False
        if drill.revision != head:
            connection.rollback()
            upgrade(connection)
        differs = differences(connection)
    if differs:
        findings.broken(SCHEMA, f"{len(differs)} differences from the models; the first: {differs[0]}")
        return False
    findings.ok(
        SCHEMA, f"at {head}" if drill.revision == head else f"at {drill.revision}, migrated to this release's {head}"
    )
    return True


def _report_newest(connection: Connection, drill: Drill, findings: CheckResults) -> int:
    """Report how old the backup's data are; return the id of its last delivery, 0 if it has none."""
    row = connection.execute(_NEWEST).one()
    drill.newest_delivery_at, drill.newest_event_at = row.delivery_at, row.event_at
    if row.delivery_at is None:
        findings.note(NEWEST, "the backup has no delivery")
    else:
        drill.age_seconds = (row.at - row.delivery_at).total_seconds()
        age = timedelta(seconds=round(drill.age_seconds))
        findings.ok(NEWEST, f"received at {row.delivery_at:%Y-%m-%d %H:%M:%S} UTC, {age} before the drill")
    return row.last_id or 0


def _check_keys(connection: Connection, encryption: Encryption, drill: Drill, findings: CheckResults) -> None:
    states = count_by_key(connection, encryption)
    unreadable = [f"{state.unreadable} of {state.name}" for state in states if state.unreadable]
    drill.unreadable_values = sum(state.unreadable for state in states)
    if unreadable:
        findings.broken(KEYS, f"no key in ENCRYPTION_KEYS decrypts {', '.join(unreadable)}: back up the keys, too")
    else:
        findings.ok(KEYS, f"{sum(state.newest + state.older for state in states)} values can be decrypted")


def _recover(engine: Engine, reconciler: Reconciler, encryption: Encryption, drill: Drill, last_id: int) -> None:
    """Do what the service does after a restore, in the copy: reconcile every webhook, and process what is due."""
    began = time.monotonic()
    with engine.begin() as connection:
        known = {row.id: row for row in connection.execute(_KNOWN_UNTIL)}
        last_run_id = connection.scalar(text("SELECT coalesce(max(id), 0) FROM receiver.reconcile_runs"))
        connection.execute(_CLEAR_MIRROR)
    recover(engine)
    run_due(engine, reconciler, interval=NO_WAIT, wake=lambda: None)
    while not drain(engine, encryption=encryption):
        pass
    with engine.connect() as connection:
        found = connection.execute(_FOUND, {"last_id": last_id, "last_run_id": last_run_id}).all()
        now = connection.scalar(text("SELECT now()"))
    log_begins_at = min((row.begins_at for row in found if row.begins_at is not None), default=None)
    drill.webhooks = [_webhook(row, known[row.webhook_id], log_begins_at, now) for row in found]
    drill.recover_seconds = time.monotonic() - began


def _webhook(row: Any, known: Any, log_begins_at: datetime | None, now: datetime | None) -> WebhookDrill:  # noqa: ANN401 - rows
    lost = row.error is None and may_have_lost(known.known_until, known.received_at, log_begins_at)
    return WebhookDrill(
        row.webhook_id,
        row.organization_reference_id,
        log_entries=row.log_entries or 0,
        recoverable=row.recoverable,
        first_at=row.first_at,
        held=row.held,
        unrecoverable=row.unrecoverable or 0,
        lost_from=known.known_until if lost else None,
        lost_until=(row.begins_at or now) if lost else None,
        error=row.error,
    )


def may_have_lost(known_until: datetime | None, received_at: datetime | None, log_begins_at: datetime | None) -> bool:
    """Return whether the log begins after what a restored database knows of a webhook. Pure.

    *received_at*: its last delivery, which the log had once. *log_begins_at*: the oldest entry of any webhook, because
    OpenCard keeps the entries of all webhooks equally long.
    """
    if received_at is None or known_until is None:
        return False
    return log_begins_at is None or log_begins_at > known_until


def _report_log(drill: Drill, findings: CheckResults) -> None:
    if not drill.webhooks:
        findings.broken(LOG, "the backup has no registered webhook, so nothing can be recovered")
    for webhook in drill.webhooks:
        check = f"{LOG} ({webhook.organization_reference_id})"
        lost = []
        if webhook.error is not None:
            lost.append(f"not read: {webhook.error}")
        if webhook.lost_from is not None:
            lost.append(
                f"begins at {webhook.lost_until:%Y-%m-%d %H:%M:%S} UTC, what was sent after "
                f"{webhook.lost_from:%Y-%m-%d %H:%M:%S} UTC and before is lost"
            )
        if webhook.unrecoverable:
            lost.append(f"{webhook.unrecoverable} events are lost: the log has them without payload")
        if webhook.held:
            lost.append(f"{webhook.held} of the recovered events cannot be applied")
        recovered = "0 events to recover"
        if webhook.recoverable:
            recovered = f"{webhook.recoverable} to recover, the first of {webhook.first_at:%Y-%m-%d %H:%M:%S} UTC"
        if lost:
            findings.broken(check, "; ".join([*lost, recovered]))
        else:
            findings.ok(check, f"{recovered}; {webhook.log_entries} attempts read")


def check_later_webhooks(engine: Engine, access: Access, public_url: str, drill: Drill, findings: CheckResults) -> None:
    """Report webhooks of this service that were registered after the backup: their logs are not read."""
    with engine.connect() as connection:
        known = set(connection.scalars(_REGISTERED))
    scopes = scopes_of([LIST_ORGANIZATIONS, LIST_WEBHOOKS])
    try:
        with (
            OpenCard(access, scopes, MemoryTokens()) as api,
            ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="webhooks") as executor,
        ):
            webhooks = Webhooks(api)
            organizations = webhooks.organizations()
            registered = list(executor.map(lambda organization: webhooks.of(organization.id), organizations))
    except OpenCardError as error:
        findings.not_checked(WEBHOOKS, str(error))
        return
    ours = [
        (webhook.id, organization.reference_id or str(organization.id))
        for organization, found in zip(organizations, registered, strict=True)
        for webhook in found
        if webhook.url.startswith(public_url + ENDPOINT_PATH) and webhook.enabled is not False
    ]
    drill.later_webhooks = sorted(reference for number, reference in ours if number not in known)
    if drill.later_webhooks:
        named = ", ".join(drill.later_webhooks[:NAMED])
        more = ", …" if len(drill.later_webhooks) > NAMED else ""
        findings.broken(
            WEBHOOKS,
            f"{len(drill.later_webhooks)} of {len(ours)} under PUBLIC_URL are not in the backup, and their logs were "
            f"not read ({named}{more}): after a restore, run receiver bootstrap and receiver reconcile",
        )
    else:
        findings.ok(WEBHOOKS, f"all {len(ours)} that are switched on under PUBLIC_URL are in the backup")


def _check_files(engine: Engine, store: FileStore, drill: Drill, findings: CheckResults) -> None:
    with engine.connect() as connection:
        wanted = connection.execute(_FILES).all()
    drill.files = len(wanted)
    with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="files") as executor:
        try:
            found = list(executor.map(lambda row: store.has(row.file_key, row.file_size), wanted))
        except DownloadsImpossible as error:
            findings.broken(FILES, str(error))
            return
    drill.missing_files = sorted(row.file_key for row, there in zip(wanted, found, strict=True) if not there)
    if drill.missing_files:
        named = ", ".join(drill.missing_files[:NAMED])
        findings.broken(
            FILES, f"{len(drill.missing_files)} of {drill.files} are missing at FILES_URL or cut off: {named}, …"
        )
    else:
        findings.ok(FILES, f"all {drill.files} that the tables name are at FILES_URL")
