"""As many of the claimed deliveries as one batch can hold: few bodies of a megabyte, many of a kilobyte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.events.event import StoredDelivery

if TYPE_CHECKING:
    from sqlalchemy import Row, TextClause

MAX_BYTES: Final = 4 * 1024**2
"""After as many bytes of bodies a batch is full. One that is parsed takes some twenty times its size."""

# A large body is a pointer here: PostgreSQL reads only those that are returned.
_WITHIN: Final = """
WITH claimed AS MATERIALIZED ({claim}), placed AS (
    SELECT *, count(*) OVER () AS found,
        sum(octet_length(body)) OVER (ORDER BY {order}) - octet_length(body) AS bytes_before
    FROM claimed
)
SELECT * FROM placed WHERE coalesce(bytes_before, 0) < {bytes} ORDER BY {order}
"""
_COLUMNS: Final = len(StoredDelivery.__slots__)


def within_bytes(claim: str, *, order: str) -> TextClause:
    """Return the statement that reads what *claim* locks, in the *order* of its columns, up to ``MAX_BYTES``.

    *claim* selects the columns of ``StoredDelivery`` first. The rows have ``found``, too: how many were locked.
    """
    return text(_WITHIN.format(claim=claim, order=order, bytes=MAX_BYTES))


def stored_delivery(row: Row[Any]) -> StoredDelivery:
    """Return the delivery in a row of such a statement."""
    return StoredDelivery(*row[:_COLUMNS])
