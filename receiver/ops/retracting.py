"""Retracting forged deliveries, and undoing that: ``ems`` is computed without what they brought, or with it again.

A delivery is stored for good, and so is the entry of its event in the feed. What is retracted is marked, announced in
the feed, and left out wherever events are folded. An event that has another delivery is not lost: that delivery is
processed again, and brings it.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from receiver.db import HELD_SECONDS
from receiver.errors import OperationRefused
from receiver.events.kinds import KIND_OF
from receiver.locks import LockFamily, key_of
from receiver.ops.audit import storable
from receiver.ops.decisions import COUNT_AGAIN
from receiver.ops.deliveries import IS_NOT_IN_THE_LOG
from receiver.ops.replay_selection import check_ids
from receiver.processing.decide import decide
from receiver.processing.downloads import note_downloads
from receiver.records.folds import fold
from receiver.records.history import Subject, read_history
from receiver.records.write import ChangeReason, LogChange, read_marked, writing_connection
from receiver.verify.difference import until_written

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import psycopg
    from sqlalchemy import Engine

    from receiver.events.event import Event
    from receiver.processing.decide import Decided

RETRACTED_AT_ONCE: Final = 100
"""How many deliveries are retracted in one transaction."""

_WRONG: Final = f"""
SELECT * FROM (
    SELECT id, source, confirmed_at, decision, status IN ('pending', 'failed') AS is_queued, EXISTS (
            SELECT FROM receiver.replay_deliveries AS member
            WHERE member.delivery_id = delivery.id AND member.outcome IS NULL
        ) AS is_replayed, coalesce({IS_NOT_IN_THE_LOG}, false) AS is_not_in_the_log
    FROM receiver.deliveries AS delivery WHERE id = ANY(%(ids)s)
) AS asked
WHERE is_queued OR is_replayed OR decision = 'retracted' OR NOT is_not_in_the_log ORDER BY id LIMIT 1
"""  # noqa: S608 - a constant
_NOT_RETRACTED: Final = """
SELECT id FROM receiver.deliveries WHERE id = ANY(%(ids)s) AND decision IS DISTINCT FROM 'retracted' ORDER BY id LIMIT 1
"""
_RETRACT: Final = f"""
WITH decided AS (
    SELECT id AS delivery_id FROM unnest(CAST(%(ids)s AS bigint[])) AS passed (id)
    WHERE NOT EXISTS (SELECT FROM receiver.delivery_decisions AS decision WHERE decision.delivery_id = id)
), {COUNT_AGAIN.format(sign="-")}
INSERT INTO receiver.delivery_decisions AS known (delivery_id, decision, decided_by, reason)
SELECT id, 'retracted', %(by)s, %(reason)s FROM unnest(CAST(%(ids)s AS bigint[])) AS passed (id) ORDER BY id
ON CONFLICT (delivery_id) DO UPDATE SET decision = excluded.decision, decided_at = excluded.decided_at,
    decided_by = excluded.decided_by, reason = excluded.reason
"""  # noqa: S608 - a constant
_TAKE_BACK: Final = f"""
WITH decided AS (
    DELETE FROM receiver.delivery_decisions WHERE delivery_id = ANY(%(ids)s) RETURNING delivery_id
), {COUNT_AGAIN.format(sign="+")}
SELECT count(*) FROM decided
"""  # noqa: S608 - a constant
# a process that hangs does not keep it for longer than a run would
_LOCK: Final = "SELECT pg_try_advisory_lock_shared(%(key)s), set_config('idle_session_timeout', %(held)s, false)"
_EVENTS: Final = """
SELECT outcome.delivery_id, outcome.position, event.type, event.organization_reference_id, event.subject_id
FROM receiver.outcomes AS outcome JOIN ems.events AS event ON event.position = outcome.position
WHERE outcome.delivery_id = ANY(%(ids)s) ORDER BY outcome.delivery_id
"""
# A retry is retracted before the first delivery of its event, so that it is not processed again meanwhile.
_IN_ORDER: Final = """
SELECT id, webhook_id FROM receiver.deliveries WHERE id = ANY(%(ids)s)
ORDER BY (status = 'duplicate') <> %(retract)s, id
"""
_PASSED: Final = """
json_to_recordset(CAST(current_setting('receiver.retracted') AS json)) AS passed (position bigint, retracted boolean)
"""
_MARK: Final = f"""
UPDATE ems.events AS event SET retracted_at = CASE WHEN passed.retracted THEN clock_timestamp() END
FROM {_PASSED} WHERE event.position = passed.position AND (event.retracted_at IS NOT NULL) <> passed.retracted
    AND event.position = ANY(CAST(current_setting('receiver.positions') AS bigint[]))
"""  # noqa: S608 - a constant
# before the feed's lock is taken, because a worker deletes rows of the queue before it takes that
_PROCESS_RETRIES: Final = """
INSERT INTO receiver.queue (delivery_id, attempts)
SELECT outcome.delivery_id, outcome.attempts FROM receiver.outcomes AS outcome
WHERE outcome.position = ANY(%(retracted)s) AND outcome.status = 'duplicate' AND NOT EXISTS (
    SELECT FROM receiver.delivery_decisions AS decision
    WHERE decision.delivery_id = outcome.delivery_id AND decision.decision = 'retracted'
)
ORDER BY outcome.delivery_id
ON CONFLICT (delivery_id) DO NOTHING
"""
# a file that is of no receipt or TPA any more
_FORGET_DOWNLOADS: Final = """
DELETE FROM receiver.receipt_downloads AS noted
USING json_to_recordset(CAST(current_setting('receiver.subjects') AS json)) AS subject (organization text, id text)
WHERE noted.organization_reference_id = subject.organization AND (
    noted.transaction_id = subject.id AND NOT EXISTS (
        SELECT FROM ems.receipts AS receipt WHERE receipt.organization_reference_id = subject.organization
            AND receipt.transaction_id = subject.id AND receipt.url = noted.url
    ) OR noted.tpa_id = subject.id AND NOT EXISTS (
        SELECT FROM ems.tpas AS tpa
        WHERE tpa.organization_reference_id = subject.organization AND tpa.id = subject.id AND tpa.url = noted.url
    )
)
"""


def retract_deliveries(engine: Engine, ids: Sequence[int], *, by: str, reason: str) -> int:
    """Retract forged deliveries; return how many that were.

    Raises ``OperationRefused`` without a reason, and for a delivery that OpenCard's log has, that was not compared with
    it yet, that is being processed, or that is retracted already, and while reconcile runs; then nothing is changed.
    """
    return _each(engine, ids, {"by": by, "reason": storable(reason.strip())}, retract=True)


def undo_retraction(engine: Engine, ids: Sequence[int], *, reason: str) -> int:
    """Let retracted deliveries count again: they are unconfirmed; return how many were retracted.

    Raises ``OperationRefused`` without a reason, for a delivery that is not retracted, and while reconcile runs;
    then nothing is changed.
    """
    return _each(engine, ids, {"reason": reason.strip()}, retract=False)


def _each(engine: Engine, ids: Sequence[int], parameters: dict[str, Any], *, retract: bool) -> int:
    if not parameters["reason"]:
        raise OperationRefused("retracting deliveries, and undoing that, needs a reason: it is recorded")
    asked = sorted(set(ids))
    with engine.connect() as connection:
        check_ids(connection, asked)
    with closing(writing_connection(engine)) as connection:
        in_order = connection.execute(_IN_ORDER, {"ids": asked, "retract": retract}).fetchall()
        _keep_from_reconcile(connection, {webhook_id for _, webhook_id in in_order})
        _check(connection, asked, retract=retract)
        for start in range(0, len(in_order), RETRACTED_AT_ONCE):
            some = {**parameters, "ids": [id_ for id_, _ in in_order[start : start + RETRACTED_AT_ONCE]]}
            until_written(connection, partial(_change, connection, some, retract=retract))
    return len(asked)


def _keep_from_reconcile(connection: psycopg.Connection[Any], webhook_ids: Collection[int]) -> None:
    """Let no run of reconcile begin while *connection* is open, as a run relies on what it read from its beginning on.

    Raises ``OperationRefused`` when one is at work.
    """
    for webhook_id in webhook_ids:
        asked = {"key": key_of(LockFamily.RECONCILE, webhook_id), "held": f"{HELD_SECONDS}s"}
        taken = connection.execute(_LOCK, asked).fetchone()
        if not taken or not taken[0]:
            raise OperationRefused(f"reconcile is busy with webhook {webhook_id} at this moment: try again in a minute")


def _check(connection: psycopg.Connection[Any], ids: list[int], *, retract: bool) -> None:
    """Raise for the first delivery that cannot be retracted, or whose retraction cannot be undone."""
    wrong = connection.execute(_WRONG if retract else _NOT_RETRACTED, {"ids": ids}).fetchone()
    if wrong is None:
        return
    if not retract:
        raise OperationRefused(f"delivery {wrong[0]} is not retracted")
    delivery_id, source, confirmed_at, decision, is_queued, is_replayed, _ = wrong
    if confirmed_at is not None or source == "log":
        why = "OpenCard's log has it, so it is genuine"
    elif decision == "retracted":
        why = "it is retracted already"
    elif is_queued:
        why = "it is still to be processed; try again once it is"
    elif is_replayed:
        why = "a replay that has not ended processes it; try again once it has, or cancel it"
    else:
        why = "it was not compared with OpenCard's log yet"
    raise OperationRefused(f"delivery {delivery_id} cannot be retracted: {why}")


def _change(connection: psycopg.Connection[Any], parameters: dict[str, Any], *, retract: bool) -> LogChange:
    """Return the change that retracts the deliveries ``ids``, or undoes that."""
    ids: list[int] = parameters["ids"]
    marked = read_marked(connection)
    _check(connection, ids, retract=retract)
    positions: dict[Subject, list[int]] = {}
    for _, position, type_, organization, subject_id in connection.execute(_EVENTS, {"ids": ids}):
        positions.setdefault(Subject(KIND_OF[type_], organization, subject_id), []).append(position)
    # an event may have the time of a delivery that is no longer a delivery of it
    history = read_history(connection, list(positions), all_times=True)
    change = LogChange(list(positions), history, marked=marked)
    retracted: dict[int, bool] = {}
    restored: list[Event] = []
    for (subject, own), known in zip(positions.items(), history.known, strict=True):
        then = known.without(ids) if retract else known.restored(ids)
        decided = decide(subject.kind, then, [])
        _fold(change, subject, decided)
        counting = {event.position for event in then.events}
        retracted |= {position: position not in counting for position in own}
        about = next(event for event in (*known.events, *known.retracted) if event.position == own[-1])
        reason = ChangeReason.EVENT_RETRACTED if retract else ChangeReason.RETRACTION_UNDONE
        change.announced.append((subject, about, reason))
        restored += [event for event in decided.events if event.delivery_id in ids or event in decided.new]
    positions_left_out = [position for position, is_retracted in retracted.items() if is_retracted]
    change.before.append((_RETRACT if retract else _TAKE_BACK, parameters))
    change.before.append((_PROCESS_RETRIES, {"retracted": positions_left_out}))
    marks = [{"position": position, "retracted": is_retracted} for position, is_retracted in retracted.items()]
    change.after = [(_MARK, "retracted", marks)]
    change.after += [(_FORGET_DOWNLOADS, "retracted", marks)] if retract else note_downloads(restored)
    return change


def _fold(change: LogChange, subject: Subject, decided: Decided) -> None:
    """Add the rows of a subject to *change*, and the events that other deliveries turn out to have brought."""
    change.corrected_times |= decided.corrected_times
    change.events += decided.new
    change.outcomes += [{**row, "attempts": None} for row in decided.outcomes]
    for model, rows in fold(subject.kind, decided.events).items():
        change.rows.setdefault(model, []).extend(rows)
