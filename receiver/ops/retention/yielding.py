"""Transactions that yield to all others."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

LOCK_TIMEOUT: Final = "500ms"
"""Shorter than PostgreSQL waits before it looks for a deadlock: whatever the conflict, it is retention that yields."""

# what a crash of PostgreSQL takes back is done again
_YIELD: Final = text(
    "SELECT set_config('lock_timeout', :lock_timeout, true), set_config('synchronous_commit', 'off', true)"
)


@contextmanager
def yielding_transaction(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction that waits for no lock for long, and not for the disk."""
    with engine.begin() as connection:
        connection.execute(_YIELD, {"lock_timeout": LOCK_TIMEOUT})
        yield connection
