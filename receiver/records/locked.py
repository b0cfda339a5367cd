"""Transactions under the feed's lock that a lost process cannot keep open.

What is to be written is sent first, as settings of the transaction. Only then follow the statements, in one message,
with the lock at its beginning and the commit at its end: however this process freezes or vanishes, PostgreSQL has all
that it needs to go on to the commit, and frees the lock by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
from psycopg import errors
from psycopg.pq import TransactionStatus

from receiver.counters import FEED_LOCK_TIMEOUTS
from receiver.locks import Lock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

log = structlog.stdlib.get_logger(__name__)

_GIVE: Final = """
SELECT count(set_config('receiver.' || name, value, true))
FROM unnest(CAST(%(names)s AS text[]), CAST(%(values)b AS text[])) AS given (name, value)
"""
_LOCK: Final = f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"


def write_under_lock(
    connection: psycopg.Connection[Any],
    given: Mapping[str, str],
    statements: Sequence[str],
    *,
    before: Sequence[tuple[str, dict[str, Any]]] = (),
) -> None:
    """Run *statements* in one transaction under the feed's lock, and *before* in the same one, before the lock.

    The statements have no parameters: they read what is *given* by ``current_setting('receiver.name')``.
    *connection* commits automatically. Raises psycopg's errors; nothing is written then.
    """
    try:
        with connection.pipeline():
            connection.execute("BEGIN")
            for statement, parameters in before:
                connection.execute(statement, parameters)
            if statements:
                connection.execute(_GIVE, {"names": list(given), "values": list(given.values())})
        script = ";".join([*([_LOCK] if statements else []), *statements, "COMMIT"])
        connection.execute(script.encode(), prepare=False)
    except errors.LockNotAvailable:
        FEED_LOCK_TIMEOUTS.inc()
        log.warning("feed.lock_not_available", see="receiver status names the process that holds it")
        raise
    finally:
        if connection.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
            connection.execute("ROLLBACK")
