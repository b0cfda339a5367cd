"""Deliveries that OpenCard's log does not have: an operator decides about them, with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.ops.audit import storable
from receiver.ops.deliveries import IS_UNCONFIRMED
from receiver.ops.replay_selection import check_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine

_NOT_UNCONFIRMED: Final = text(
    f"""
SELECT id, source, confirmed_at, decision FROM receiver.deliveries AS delivery
WHERE id = ANY(:ids) AND NOT coalesce({IS_UNCONFIRMED}, false) ORDER BY id LIMIT 1
"""  # noqa: S608 - a constant
)
COUNT_AGAIN: Final = """
counted AS (
    SELECT stored.webhook_id, count(*) AS number
    FROM decided JOIN receiver.stored_deliveries AS stored ON stored.id = decided.delivery_id
    WHERE stored.received_at >= now() - interval '8 days' GROUP BY stored.webhook_id ORDER BY stored.webhook_id
), recounted AS (
    UPDATE receiver.reconcile_runs AS run SET unconfirmed = greatest(run.unconfirmed {sign} counted.number, 0)
    FROM counted
    WHERE run.id = (
        SELECT last.id FROM receiver.reconcile_runs AS last
        WHERE last.webhook_id = counted.webhook_id AND last.ended_at IS NOT NULL AND last.error IS NULL
        ORDER BY last.started_at DESC LIMIT 1
    )
)
"""
"""Corrects the last run's number, which is of eight days, before the next run counts the ``decided`` again."""
_CONFIRM: Final = text(
    f"""
WITH decided AS (
    INSERT INTO receiver.delivery_decisions (delivery_id, decision, decided_by, reason)
    SELECT id, 'accepted', :by, :reason FROM unnest(CAST(:ids AS bigint[])) AS passed (id) ORDER BY id
    ON CONFLICT DO NOTHING
    RETURNING delivery_id
), {COUNT_AGAIN.format(sign="-")}
SELECT count(*) FROM decided
"""  # noqa: S608 - a constant
)


def accept_deliveries(engine: Engine, ids: Sequence[int], *, by: str, reason: str) -> int:
    """Accept unconfirmed deliveries as genuine; return how many that were.

    They no longer count as unconfirmed; ``confirmed_at`` stays null, as OpenCard's log does not have them. Raises
    ``OperationRefused`` without a reason, and for an id of a delivery that is not unconfirmed; then nothing is changed.
    """
    if not reason.strip():
        raise OperationRefused("accepting deliveries needs a reason: it is recorded with them")
    unique_ids = sorted(set(ids))
    with engine.begin() as connection:
        _check(connection, unique_ids)
        parameters = {"ids": unique_ids, "by": by, "reason": storable(reason.strip())}
        return connection.scalar(_CONFIRM, parameters) or 0


def _check(connection: Connection, ids: list[int]) -> None:
    """Raise for the first delivery that is not unconfirmed."""
    check_ids(connection, ids)
    wrong = connection.execute(_NOT_UNCONFIRMED, {"ids": ids}).one_or_none()
    if wrong is None:
        return
    if wrong.confirmed_at is not None or wrong.source == "log":
        why = "OpenCard's log has it"
    elif wrong.decision is not None:
        why = f"an operator decided about it already: {wrong.decision}"
        if wrong.decision == "retracted":
            why = f"{why} (undo that first)"
    else:
        why = "it was not compared with OpenCard's log yet"
    raise OperationRefused(f"delivery {wrong.id} is not unconfirmed: {why}")
