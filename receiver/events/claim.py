"""Claiming deliveries to work on, so that each is worked on by one worker, and one that kills its worker is isolated.

Claimed rows are locked by the transaction that will write their outcome; if its process dies, PostgreSQL gives them
back at once. So that the death leaves a trace, the claim is also noted in ``processing_batches``, in a transaction of
its own; the note is deleted together with the outcome. A note whose deliveries nobody holds any more is abandoned:
its deliveries are *suspects* and are worked on one at a time, like those of a batch that failed. A suspect that is
abandoned alone has failed, and after ``DEATHS`` times it is dead. A process that lost its connection and is alive
deletes its note itself: it has ``GRACE_SECONDS`` for that.

What may be an awaited test delivery is held: nobody claims it until ``awaited_tests`` has resolved what it is.

What waits is a ``Backlog``, claimed from its oldest end. A lane that takes what is fresh first keeps a new purchase
from waiting behind a hundred thousand old ones.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import stamina
import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from receiver.deliveries.models import ABANDONED
from receiver.events.outcomes import counted_when_committed
from receiver.events.portion import stored_delivery, within_bytes
from receiver.events.replayed import replay_alone, settle_replayed
from receiver.events.settle import Failure, settle_failures
from receiver.records.upsert import ids_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine, Row

    from receiver.events.event import StoredDelivery

log = structlog.stdlib.get_logger(__name__)

DEATHS: Final = 3
"""How often a delivery may end the work on it alone without an outcome before it is left to a person."""
GRACE_SECONDS: Final = 2.0
"""How long a note must have been abandoned before its process counts as dead."""
TAKE_BACK_SECONDS: Final = 20.0
"""How long a process whose connection was lost tries to delete its note."""
FRESH: Final = timedelta(seconds=30)
"""How long after its arrival a delivery counts as fresh: longer than a lane takes to come round."""
_BEGINNING: Final[dict[str, Any]] = {"due_at": "-infinity", "id": 0}

# The columns are those of StoredDelivery, in its order, and one for Backlog. The list of awaited tests is read once for
# the statement; only deliveries of a webhook and event in it are looked at again.
_CLAIM: Final = """
SELECT delivery.id, webhook.organization_reference_id, delivery.event, delivery.version, delivery.body,
    delivery.source, delivery.occurred_at, delivery.attempts, delivery.attempts_before_replay, delivery.next_attempt_at
FROM receiver.deliveries AS delivery JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
WHERE delivery.status IN ('pending', 'failed') AND delivery.next_attempt_at <= now() AND {which}
    AND delivery.id NOT IN (SELECT unnest(delivery_ids) FROM receiver.processing_batches)
    AND ((delivery.webhook_id, delivery.event) NOT IN (
        SELECT webhook_id, unnest(events) FROM receiver.awaited_tests WHERE resolved_at IS NULL
    ) OR NOT EXISTS (
        SELECT FROM receiver.awaited_tests AS awaited
        WHERE awaited.resolved_at IS NULL AND awaited.webhook_id = delivery.webhook_id
            AND delivery.event = ANY(awaited.events)
            AND delivery.received_at >= awaited.requested_at AND delivery.received_at < awaited.expires_at
    ))
ORDER BY delivery.next_attempt_at {order}, delivery.id {order}
LIMIT :limit
FOR UPDATE OF delivery SKIP LOCKED
"""
_OLD: Final = (
    "NOT delivery.suspect AND (delivery.next_attempt_at, delivery.id) > (CAST(:due_at AS timestamptz), :id) "
    "AND delivery.next_attempt_at <= now() - CAST(:fresh AS interval)"
)
_CLAIM_OLD: Final = within_bytes(_CLAIM.format(which=_OLD, order="ASC"), order="next_attempt_at, id")
_FRESH: Final = "NOT delivery.suspect AND delivery.next_attempt_at > now() - CAST(:fresh AS interval)"
_CLAIM_FRESH: Final = within_bytes(_CLAIM.format(which=_FRESH, order="DESC"), order="next_attempt_at DESC, id DESC")
_CLAIM_SUSPECT: Final = within_bytes(_CLAIM.format(which="delivery.suspect", order="ASC"), order="next_attempt_at, id")
# the server's start tells a note that a restart of PostgreSQL left behind from one that a process left behind
_NOTE: Final = text(
    "INSERT INTO receiver.processing_batches (delivery_ids, server_started_at) "
    "SELECT CAST(:delivery_ids AS bigint[]), pg_postmaster_start_time() "
    "FROM set_config('synchronous_commit', 'off', true) RETURNING id"
)
_DELETE_NOTE: Final = text("DELETE FROM receiver.processing_batches WHERE id = :id")
_NOTES: Final = text(
    "SELECT id, delivery_ids, server_started_at = pg_postmaster_start_time() AS same_server "
    "FROM receiver.processing_batches ORDER BY id FOR UPDATE SKIP LOCKED"
)
# of a replayed one the attempts before the replay do not count any more
_REPLAYED: Final = "EXISTS (SELECT FROM receiver.replay_deliveries WHERE delivery_id = delivery.id AND outcome IS NULL)"
_TO_BE_DONE: Final = (
    f"FROM receiver.deliveries AS delivery WHERE id = ANY(:ids) AND (status IN ('pending', 'failed') OR {_REPLAYED})"
)
_WAITING: Final = text(f"SELECT count(*) {_TO_BE_DONE}")
_LOCKABLE: Final = text(
    f"SELECT id, event, attempts, CASE WHEN {_REPLAYED} THEN attempts ELSE attempts_before_replay END AS before_replay "
    f"{_TO_BE_DONE} FOR UPDATE SKIP LOCKED"
)
_SUSPECT: Final = text("UPDATE receiver.deliveries SET suspect = true WHERE id = ANY(:ids)")
# what has not failed is due from its arrival on: due in the future, it arrived before the clock was set back; the
# seconds are for what arrives while this statement runs
_PLAN_ANEW: Final = text(
    """
UPDATE receiver.deliveries SET next_attempt_at = now()
WHERE id IN (
    SELECT id FROM receiver.deliveries
    WHERE status IN ('pending', 'failed') AND NOT suspect AND next_attempt_at > now() + interval '5 seconds'
    FOR UPDATE SKIP LOCKED
)
"""
)
_DEATHS: Final = text(
    "SELECT count(*) FROM receiver.processing_attempts "
    "WHERE delivery_id = :id AND error = :abandoned AND number > :before_replay"
)


class Backlog:
    """What waits, suspects apart, as one lane claims it: the oldest first, with *fresh_first* the newest before that.

    It remembers how far it has come, so that a claim does not read again what was claimed before: PostgreSQL keeps
    entries of an index for as long as somebody's old snapshot may look for them. At the end it starts anew.
    """

    def __init__(self, *, fresh_first: bool = False) -> None:
        self._fresh = FRESH if fresh_first else timedelta()
        self._reached = _BEGINNING

    def claim(self, connection: Connection, limit: int) -> list[StoredDelivery]:
        """Lock and return up to *limit* deliveries whose time has come; empty when there are none."""
        rows: list[Row[Any]] = []
        if self._fresh:
            rows += connection.execute(_CLAIM_FRESH, {"fresh": self._fresh, "limit": limit})
        if not rows or (rows[0].found < limit and len(rows) == rows[0].found):
            rows += self._claim_old(connection, limit - len(rows))
        return [stored_delivery(row) for row in rows]

    def _claim_old(self, connection: Connection, limit: int) -> Sequence[Row[Any]]:
        rows = self._beyond(connection, self._reached, limit)
        if not rows and self._reached is not _BEGINNING:
            rows = self._beyond(connection, _BEGINNING, limit)
        at_the_end = not rows or len(rows) == rows[0].found < limit
        self._reached = _BEGINNING if at_the_end else {"due_at": rows[-1].next_attempt_at, "id": rows[-1].id}
        return rows

    def _beyond(self, connection: Connection, reached: dict[str, Any], limit: int) -> Sequence[Row[Any]]:
        return connection.execute(_CLAIM_OLD, {**reached, "fresh": self._fresh, "limit": limit}).all()


def claim_suspect(connection: Connection) -> list[StoredDelivery]:
    """Lock and return one suspect whose time has come; empty when there is none."""
    return [stored_delivery(row) for row in connection.execute(_CLAIM_SUSPECT, {"limit": 1})]


def note_claim(notes: Connection, claimed: list[StoredDelivery]) -> int:
    """Leave the trace of a claim on *notes*, an autocommitting connection; return its id.

    It need not outlive PostgreSQL, so this one statement does not wait for the disk.
    """
    return int(notes.scalar(_NOTE, {"delivery_ids": ids_parameter(delivery.id for delivery in claimed)}) or 0)


def delete_note(connection: Connection, note_id: int) -> None:
    """Take the trace back, together with the outcome that *connection* commits."""
    connection.execute(_DELETE_NOTE, {"id": note_id})


def take_back(engine: Engine, note_id: int) -> None:
    """Delete the trace of a claim whose connection was lost: its process is alive, and no delivery is to blame.

    Raises SQLAlchemy's errors when PostgreSQL cannot be reached for long; then the trace stays.
    """
    for attempt in stamina.retry_context(on=DBAPIError, attempts=None, timeout=TAKE_BACK_SECONDS, wait_max=1.0):
        with attempt, engine.begin() as connection:
            delete_note(connection, note_id)


def mark_suspects(connection: Connection, delivery_ids: list[int]) -> None:
    """Let deliveries be processed alone from now on."""
    connection.execute(_SUSPECT, {"ids": delivery_ids})
    replay_alone(connection, delivery_ids)


def plan_anew(engine: Engine) -> None:
    """Make due what arrived before the clock was set back."""
    with engine.begin() as connection:
        connection.execute(_PLAN_ANEW)


def recover_abandoned(engine: Engine) -> None:
    """Look after the deliveries of workers that died over them."""
    abandoned = _recover(engine, seen_before=frozenset())
    if abandoned:
        time.sleep(GRACE_SECONDS)
        _recover(engine, seen_before=abandoned)


def _recover(engine: Engine, *, seen_before: frozenset[int]) -> frozenset[int]:
    """Recover what was abandoned before, and return the notes that are abandoned but were not *seen_before*."""
    new: set[int] = set()
    with counted_when_committed(), engine.begin() as connection:
        for note in connection.execute(_NOTES).mappings().all():
            waiting = connection.scalar(_WAITING, {"ids": note["delivery_ids"]})
            lockable = connection.execute(_LOCKABLE, {"ids": note["delivery_ids"]}).mappings().all()
            if len(lockable) != waiting:
                continue  # another process is working on them
            to_blame = note["same_server"] and lockable
            if to_blame and note["id"] not in seen_before:
                new.add(note["id"])
                continue
            delete_note(connection, note["id"])
            if to_blame:
                _blame(connection, note["delivery_ids"], [dict(row) for row in lockable])
    return frozenset(new)


def _blame(connection: Connection, noted: list[int], abandoned: list[dict[str, Any]]) -> None:
    ids = [row["id"] for row in abandoned]
    mark_suspects(connection, ids)
    if len(noted) > 1:
        log.warning("batch abandoned; its deliveries are processed one at a time", deliveries=len(ids))
        return
    (row,) = abandoned
    counted = {"id": row["id"], "abandoned": ABANDONED, "before_replay": row["before_replay"]}
    deaths = 1 + (connection.scalar(_DEATHS, counted) or 0)
    log.error("delivery abandoned", delivery_id=row["id"], times=deaths)
    settle_failures(
        connection,
        [
            Failure(
                row["id"],
                row["event"],
                row["attempts"] + 1,
                ABANDONED,
                trace=None,
                retryable=deaths < DEATHS,
                before_replay=row["before_replay"],
            )
        ],
    )
    settle_replayed(connection, {row["id"]: row["attempts"]})
