"""``receiver recover``: an epoch of the feed begun by hand, or the one that began acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.ops.feed_epochs import FeedEpoch, read_feed_epoch
from receiver.records.epochs import BY_HAND, begin_epoch
from receiver.records.feed import lock_feed

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

_ACKNOWLEDGE: Final = text(
    """
UPDATE receiver.feed_epochs
SET recovered_at = clock_timestamp(), last_run_id = coalesce((SELECT max(id) FROM receiver.reconcile_runs), 0)
WHERE epoch = (SELECT max(epoch) FROM receiver.feed_epochs)
"""
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What ``receiver recover`` did."""

    epoch: int
    epoch_start: int
    begun: bool
    """Whether it began an epoch; otherwise it acknowledged one."""
    begun_at: datetime
    reason: str
    webhooks_to_reconcile: int


def recover(connection: Connection) -> Recovery:
    """Acknowledge the epoch that needs attention, or begin one by hand; every webhook is due to be reconciled."""

    def read() -> FeedEpoch | None:
        return read_feed_epoch(lambda query: [*map(dict, connection.execute(text(query)).mappings())])

    with connection.begin():
        lock_feed(connection)
        present = read()
        begun = present is None or not present.needs_attention
        if begun:
            begin_epoch(connection, BY_HAND)
        connection.execute(_ACKNOWLEDGE)
        present = read()
    assert present is not None  # noqa: S101 - it has begun
    return Recovery(
        present.epoch,
        present.epoch_start,
        begun,
        present.begun_at,
        present.reason,
        present.webhooks_to_reconcile,
    )
