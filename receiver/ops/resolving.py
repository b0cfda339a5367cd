"""Deliveries that need attention and need no replay: resolved with a reason, they count as open no longer.

Each is a row of ``receiver.acknowledged_gaps``, of kind ``delivery``: it also acknowledges the gap that the
delivery is in ``ems.completeness``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.deliveries.models import TEST
from receiver.errors import OperationRefused
from receiver.ops.audit import storable
from receiver.ops.deliveries import Filter, is_resolved
from receiver.ops.replay_selection import batches

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from receiver.ops.replay_selection import Selection

RESOLVABLE: Final = ("dead", "quarantined", "ignored")
"""Statuses of deliveries that need attention; a failed one is tried again by itself."""

_OPEN: Final = f"""
FROM receiver.deliveries AS delivery JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
WHERE delivery.id = ANY(:ids) AND delivery.status = ANY(:statuses) AND delivery.error IS DISTINCT FROM '{TEST}'
    AND NOT {is_resolved("delivery.id")}
"""
_COUNT: Final = text(f"SELECT count(*) {_OPEN}")
_RESOLVE: Final = text(
    f"""
INSERT INTO receiver.acknowledged_gaps (kind, id, organization_reference_id, occurred_at, acknowledged_by, reason)
SELECT 'delivery', delivery.id, webhook.organization_reference_id, delivery.occurred_at, :by, :reason
{_OPEN} ORDER BY delivery.id
ON CONFLICT DO NOTHING
"""
)
_REOPEN: Final = text("DELETE FROM receiver.acknowledged_gaps WHERE kind = 'delivery' AND id = ANY(:ids)")
_NOT_RESOLVABLE: Final = text(
    f"""
SELECT id, status FROM receiver.deliveries
WHERE id = ANY(:ids) AND (status <> ALL(:statuses) OR coalesce(error = '{TEST}', false)) ORDER BY id LIMIT 1
"""  # noqa: S608 - a constant
)


def count_resolvable(engine: Engine, wanted: Selection) -> int:
    """Return how many of *wanted* ``resolve_deliveries`` would resolve now. Changes nothing; raises the same."""
    number = 0
    with engine.connect() as connection:
        for ids in batches(connection, wanted):
            _check(connection, ids, wanted)
            number += connection.scalar(_COUNT, _parameters(ids)) or 0
    return number


def resolve_deliveries(engine: Engine, wanted: Selection, *, by: str, reason: str) -> int:
    """Resolve what is dead, quarantined or ignored of *wanted*; return how many were open until now.

    Raises ``OperationRefused`` without a reason, and for an id of no delivery or of one that needs no decision; then
    nothing is changed.
    """
    if not reason.strip():
        raise OperationRefused("resolving deliveries needs a reason: it is recorded with them")
    parameters = {"by": by, "reason": storable(reason.strip())}
    number = 0
    with engine.connect() as reading:
        for ids in batches(reading, wanted):
            _check(reading, ids, wanted)
            reading.rollback()  # no transaction stays open while others write
            with engine.begin() as connection:
                number += connection.execute(_RESOLVE, {**_parameters(ids), **parameters}).rowcount
    return number


def reopen_deliveries(engine: Engine, wanted: Selection) -> int:
    """Let resolved deliveries of *wanted* count as open again; return how many were resolved."""
    number = 0
    with engine.connect() as reading:
        for ids in batches(reading, wanted):
            reading.rollback()
            with engine.begin() as connection:
                number += connection.execute(_REOPEN, {"ids": ids}).rowcount
    return number


def _check(connection: Connection, ids: list[int], wanted: Selection) -> None:
    """Raise where a delivery that was asked for by its id needs no decision; a filter leaves those out."""
    if isinstance(wanted, Filter):
        return
    wrong = connection.execute(_NOT_RESOLVABLE, _parameters(ids)).one_or_none()
    if wrong is not None:
        what = "a test delivery" if wrong.status in RESOLVABLE else wrong.status
        raise OperationRefused(
            f"delivery {wrong.id} is {what}: only dead, quarantined and ignored deliveries can be resolved"
        )


def _parameters(ids: list[int]) -> dict[str, list[int] | list[str]]:
    return {"ids": ids, "statuses": list(RESOLVABLE)}
