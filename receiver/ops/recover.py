"""``receiver recover``: an epoch of the feed begun by hand, or the one that began acknowledged."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import dict_row

from receiver.db import dedicated_connection
from receiver.ops.feed_epochs import EpochState, read_feed_epoch
from receiver.records.epochs import BY_HAND, begin_epoch, notice_branch

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg
    from sqlalchemy import Engine

_ACKNOWLEDGE: Final = """
UPDATE receiver.feed_epochs
SET recovered_at = clock_timestamp(), last_run_id = coalesce((SELECT max(id) FROM receiver.reconcile_runs), 0)
WHERE epoch = %(epoch)s
"""


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


def recover(engine: Engine) -> Recovery:
    """Acknowledge the epoch that needs attention, or begin one by hand; every webhook is due to be reconciled.

    Raises psycopg's errors.
    """
    notice_branch(engine)
    with closing(dedicated_connection(engine)) as connection:
        known = _read(connection)
        begun = (known is None or not known.needs_attention) and begin_epoch(connection, BY_HAND) is not None
        present = _read(connection)
        assert present is not None  # noqa: S101 - it has begun, by this process or by another
        connection.execute(_ACKNOWLEDGE, {"epoch": present.epoch})
        present = _read(connection)
    assert present is not None  # noqa: S101 - likewise
    return Recovery(
        present.epoch,
        present.epoch_start,
        begun,
        present.begun_at,
        present.reason,
        present.webhooks_to_reconcile,
    )


def _read(connection: psycopg.Connection[Any]) -> EpochState | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        return read_feed_epoch(lambda query: cursor.execute(query.encode()).fetchall())
