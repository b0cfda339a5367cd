"""Transactions under the feed's lock that a lost process cannot keep open.

The values to write are sent first, as settings of the transaction. Then the statements follow in one message, which
begins with the lock and ends with the commit. If this process freezes or dies after sending it, PostgreSQL still
reaches the commit and releases the lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
from psycopg import errors
from psycopg.pq import TransactionStatus

from receiver.counters import FEED_LOCK_TIMEOUTS
from receiver.locks import Lock
from receiver.tracing import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

log = structlog.stdlib.get_logger(__name__)

_SET: Final = """
SELECT count(set_config('receiver.' || name, value, true))
FROM unnest(CAST(%(names)s AS text[]), CAST(%(values)b AS text[])) AS setting (name, value)
"""
_LOCK: Final = f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"


def write_under_lock(
    connection: psycopg.Connection[Any],
    settings: Mapping[str, str],
    statements: Sequence[str],
    *,
    before: Sequence[tuple[str, dict[str, Any]]] = (),
    step: str = "append to feed",
) -> None:
    """Run *before* and then, under the feed's lock, *statements*, all in one transaction.

    The statements have no parameters: they read the values of *settings* with ``current_setting('receiver.name')``.
    *connection* is in autocommit; *step* is what traces call it. Raises psycopg's errors; then nothing is written.
    """
    try:
        with connection.pipeline():
            connection.execute("BEGIN")
            for statement, parameters in before:
                connection.execute(statement, parameters)
            if statements:
                connection.execute(_SET, {"names": list(settings), "values": list(settings.values())})
        script = ";".join([*([_LOCK] if statements else []), *statements, "COMMIT"])
        with span(step if statements else "commit"):
            connection.execute(script.encode(), prepare=False)
    except errors.LockNotAvailable:
        FEED_LOCK_TIMEOUTS.inc()
        log.warning("feed.lock_not_available", see="receiver status names the process that holds it")
        raise
    finally:
        if connection.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
            connection.execute("ROLLBACK")
