"""Puts the deliveries that replays selected into the queue, a batch at a time, and stores their outcomes.

From the queue on they are processed like every other delivery. What is not in it yet keeps its status, so cancelling a
replay means marking its waiting rows in ``replay_deliveries`` as cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from receiver.sql import read_sql

if TYPE_CHECKING:
    import psycopg

log = structlog.stdlib.get_logger(__name__)

CANCELLED: Final = "cancelled"
WITHOUT_BODY: Final = "without-body"
INTERRUPTED_AFTER: Final = "10 minutes"
"""How long after its last progress a selection counts as interrupted."""
INTERRUPTED: Final = "the service: the selection was interrupted"
CANCELLED_AT_ONCE: Final = 5000

# at random, so that a small replay does not wait for a large one
_TURNS: Final = (
    "SELECT id FROM receiver.replays WHERE ended_at IS NULL AND selected_at IS NOT NULL AND cancelled_at IS NULL "
    "ORDER BY random()"
)
_QUEUE: Final = read_sql(__package__, "queue_replayed")
_NOTE: Final = read_sql(__package__, "note_replayed")
_CANCEL_INTERRUPTED: Final = f"""
UPDATE receiver.replays SET cancelled_at = clock_timestamp(), cancelled_by = %(interrupted)s
WHERE ended_at IS NULL AND selected_at IS NULL AND cancelled_at IS NULL
    AND selecting_at < clock_timestamp() - interval '{INTERRUPTED_AFTER}'
"""  # noqa: S608 - a constant
_OPEN: Final = (
    "SELECT id, cancelled_at IS NOT NULL AS cancelled FROM receiver.replays "
    "WHERE ended_at IS NULL AND (selected_at IS NOT NULL OR cancelled_at IS NOT NULL) ORDER BY id"
)
_CANCEL: Final = """
WITH closed AS MATERIALIZED (
    SELECT replay_id, delivery_id FROM receiver.replay_deliveries
    WHERE replay_id = %(replay_id)s AND outcome IS NULL AND queued_at IS NULL
    LIMIT %(at_once)s FOR UPDATE SKIP LOCKED
)
UPDATE receiver.replay_deliveries AS member SET outcome = %(cancelled)s, completed_at = clock_timestamp()
FROM closed WHERE member.replay_id = closed.replay_id AND member.delivery_id = closed.delivery_id
"""
_END_REPLAY: Final = """
UPDATE receiver.replays AS replay
SET ended_at = clock_timestamp(), processed = counted.processed, failed = counted.failed
FROM (
    SELECT count(*) FILTER (WHERE outcome IN ('processed', 'duplicate')) AS processed,
        count(*) FILTER (WHERE outcome IN ('failed', 'dead', 'quarantined', 'ignored')) AS failed
    FROM receiver.replay_deliveries WHERE replay_id = %(replay_id)s
) AS counted
WHERE replay.id = %(replay_id)s AND replay.ended_at IS NULL AND NOT EXISTS (
    SELECT FROM receiver.replay_deliveries WHERE replay_id = %(replay_id)s AND outcome IS NULL
)
RETURNING replay.selected, replay.processed, replay.failed
"""


def queue_replayed(connection: psycopg.Connection[Any], limit: int) -> bool:
    """Queue up to *limit* deliveries of one replay; return whether there were any."""
    for (replay_id,) in connection.execute(_TURNS).fetchall():
        parameters = {"replay_id": replay_id, "limit": limit, "without_body": WITHOUT_BODY}
        (queued,) = connection.execute(_QUEUE, parameters, prepare=False).fetchone() or (0,)
        if queued:
            return True
    return False


def end_replays(connection: psycopg.Connection[Any]) -> None:
    """Store the outcomes of the deliveries of replays, and end the replays that have no delivery left to process."""
    connection.execute(_CANCEL_INTERRUPTED, {"interrupted": INTERRUPTED})
    unfinished = connection.execute(_OPEN).fetchall()
    if unfinished:
        connection.execute(_NOTE, prepare=False)
    for replay_id, cancelled in unfinished:
        _end_replay(connection, replay_id, cancelled=cancelled)


def _end_replay(connection: psycopg.Connection[Any], replay_id: int, *, cancelled: bool) -> None:
    """End a replay, with its totals, if nothing of it waits any more; of a *cancelled* one nothing more is queued."""
    parameters = {"replay_id": replay_id, "cancelled": CANCELLED, "at_once": CANCELLED_AT_ONCE}
    while cancelled and connection.execute(_CANCEL, parameters, prepare=False).rowcount == CANCELLED_AT_ONCE:
        pass
    ended = connection.execute(_END_REPLAY, {"replay_id": replay_id}).fetchone()
    if ended is not None:
        selected, processed, failed = ended
        log.info("replay.ended", replay_id=replay_id, selected=selected, processed=processed, failed=failed)
