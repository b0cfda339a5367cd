"""Replays: stored deliveries are processed again when a person asks for it. Command line and console both call these.

A replay is a record: who requested it, when, why, for which deliveries, and the outcome of each. They are selected
here, batch by batch; once all are, workers queue them, a batch at a time when they keep up with what arrives
(``receiver.processing.replays``). Until then each keeps the status that it has.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.ops.audit import storable
from receiver.ops.deliveries import Filter
from receiver.ops.replay_selection import batches, check_ids, select_batch
from receiver.progress import Progress

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.ops.replay_selection import Selection

SILENT: Final = Progress()

_CREATE: Final = text(
    "INSERT INTO receiver.replays (requested_by, reason, filter) "
    "VALUES (:requested_by, :reason, CAST(:filter AS jsonb)) RETURNING id"
)
_COUNT_IN: Final = text(
    "UPDATE receiver.replays SET selected = selected + :number, selecting_at = clock_timestamp() "
    "WHERE id = :id AND cancelled_at IS NULL RETURNING selected"
)
_SELECTED: Final = text(
    "UPDATE receiver.replays SET selected_at = clock_timestamp() WHERE id = :id AND cancelled_at IS NULL"
)
_DISCARD: Final = text("DELETE FROM receiver.replays WHERE id = :id AND selected = 0 AND cancelled_at IS NULL")
_CANCEL: Final = text(
    "UPDATE receiver.replays SET cancelled_at = clock_timestamp(), cancelled_by = :cancelled_by "
    "WHERE id = :id AND cancelled_at IS NULL AND ended_at IS NULL"
)
_REPLAY_TIMES: Final = text("SELECT cancelled_at, ended_at FROM receiver.replays WHERE id = :id")


def start_replay(
    engine: Engine,
    wanted: Selection,
    *,
    requested_by: str,
    reason: str,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> int | None:
    """Select what is *wanted*, hand it to the workers, and return the replay's id. The caller wakes a worker.

    With a *limit*, only the newest *limit* deliveries.

    ``None``, without a record, when nothing was selected. Interrupted anywhere, nothing of it is processed, and the
    replay shows that. Raises ``OperationRefused`` without a reason, and for an id of no delivery.
    """
    if not reason.strip():
        raise OperationRefused("a replay needs a reason: it is recorded with it")
    if isinstance(wanted, Filter) and not wanted.restricts:
        raise OperationRefused("a replay needs ids or a filter: refusing to replay everything")
    with engine.begin() as connection:
        if not isinstance(wanted, Filter):
            check_ids(connection, wanted)
        parameters = {
            "requested_by": _text(requested_by),
            "reason": _text(reason.strip()),
            "filter": selection_as_json(wanted, limit),
        }
        replay_id = int(connection.execute(_CREATE, parameters).scalar_one())
    try:
        selected = _select(engine, replay_id, wanted, limit, progress)
    except BaseException:
        with engine.begin() as connection:
            connection.execute(_CANCEL, {"id": replay_id, "cancelled_by": _text(requested_by)})
        raise
    return replay_id if selected else None


def cancel_replay(engine: Engine, replay_id: int, *, cancelled_by: str) -> None:
    """Have nothing more of a replay processed; a worker finishes what it has at hand, and ends the replay.

    Raises ``OperationRefused`` when there is no such replay, or it has ended.
    """
    with engine.begin() as connection:
        if connection.execute(_CANCEL, {"id": replay_id, "cancelled_by": _text(cancelled_by)}).rowcount:
            return
        replay = connection.execute(_REPLAY_TIMES, {"id": replay_id}).one_or_none()
    if replay is None:
        raise OperationRefused(f"there is no replay {replay_id}; receiver replay --list shows them")
    if replay.cancelled_at is None:
        raise OperationRefused(f"replay {replay_id} has ended already, at {replay.ended_at:%Y-%m-%d %H:%M:%S %Z}")


def selection_as_json(wanted: Selection, limit: int | None = None) -> str:
    """Return what is *wanted* as JSON: ``ids``, or the fields of the filter that restrict; and the ``limit``."""
    if not isinstance(wanted, Filter):
        fields: dict[str, Any] = {"ids": sorted(set(wanted))}
    else:
        fields = {name: value for name, value in asdict(wanted).items() if value}
    if limit is not None:
        fields["limit"] = limit
    return _text(msgspec.json.encode(fields).decode().replace("\\u0000", "\N{REPLACEMENT CHARACTER}"))


def _select(engine: Engine, replay_id: int, wanted: Selection, limit: int | None, progress: Progress) -> bool:
    """Return whether anything was selected; if not, the replay is deleted."""
    progress.stage("selecting")
    selected = 0
    with engine.connect() as reading:
        for ids in batches(reading, wanted):
            reading.rollback()  # no transaction stays open while others write
            with engine.begin() as connection:
                most = len(ids) if limit is None else limit - selected
                number = select_batch(connection, replay_id, ids, most)
                if connection.scalar(_COUNT_IN, {"id": replay_id, "number": number}) is None:
                    raise OperationRefused(f"replay {replay_id} was cancelled while it was being selected")
            for _ in range(number):
                progress.advance()
            selected += number
            if selected == limit:
                break
    with engine.begin() as connection:
        if connection.execute(_DISCARD, {"id": replay_id}).rowcount:
            return False
        if not connection.execute(_SELECTED, {"id": replay_id}).rowcount:
            raise OperationRefused(f"replay {replay_id} was cancelled while it was being selected")
    return True


def _text(words: str) -> str:
    """Return *words* as PostgreSQL takes them."""
    return storable(words) or ""
