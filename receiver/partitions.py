"""Makes partitions ahead of time for the tables that only grow.

Each is partitioned by ranges of a number that a sequence gives out. The partition that holds the sequence's present
value exists, and the next one. Where one is missing, its rows go to the table's default partition: nothing stops.
Partitions are in the schema ``receiver``, where readers of ``ems`` have no rights: what they may see of ``ems.events``
they see through the table, whose policies hold there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from receiver.db import EMS, RECEIVER

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

log = structlog.stdlib.get_logger(__name__)

LOCK_TIMEOUT: Final = "5s"
"""How long to wait for a lock: whatever else wants the table queues behind, so not for long."""
SCAN_TIMEOUT: Final = "60s"
"""How long PostgreSQL may look for rows of a new partition in the default one, which is locked meanwhile."""

_BOUNDS: Final = text(
    "SELECT set_config('lock_timeout', :lock, true), set_config('statement_timeout', :statement, true)"
)
_IS_ATTACHED: Final = text(
    "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = CAST(:table AS regclass)"
    " AND inhrelid = to_regclass(:partition))"
)


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A table that is partitioned by ranges of *size* numbers, which *sequence* gives out."""

    schema: str
    name: str
    key: str
    sequence: str
    size: int

    @property
    def table(self) -> sql.Identifier:
        """The quoted name of the table."""
        return sql.Identifier(self.schema, self.name)

    def partition(self, of: int | str) -> sql.Identifier:
        """Return the quoted name of the partition that begins at a number, or of the ``default`` one."""
        return sql.Identifier(RECEIVER, f"{self.name}_{of}")


PARTITIONED: Final = (
    Partitioned(RECEIVER, "stored_deliveries", "id", "receiver.stored_deliveries_id_seq", 2**22),
    Partitioned(RECEIVER, "bodies", "delivery_id", "receiver.stored_deliveries_id_seq", 2**22),
    Partitioned(EMS, "events", "position", "ems.events_position_seq", 2**24),
)


def ensure_partitions(engine: Engine) -> list[str]:
    """Create the partition of each sequence's current value and the next one; return the names of the new ones.

    If the default partition already has rows of the current range, no partition is created for that range, and its
    rows stay in the default partition. Each partition is created in a separate transaction. One that cannot be created
    now, because a lock is not free, is logged; the next call tries again.
    """
    made = []
    for table in PARTITIONED:
        with engine.connect() as connection:
            present = connection.scalar(text(f"SELECT last_value FROM {table.sequence}")) or 0  # noqa: S608 - our names
        first = present // table.size * table.size
        for lower in (first, first + table.size):
            name = f"{RECEIVER}.{table.name}_{lower}"
            try:
                with engine.begin() as connection:
                    if _make(connection, table, lower):
                        made.append(name)
            except DBAPIError as error:
                reason = str(error.orig).partition("\n")[0]
                log.warning("partition.postponed", partition=name, reason=reason, see="docs/operate/scale.md")
    for name in made:
        log.info("partition.made", partition=name)
    return made


def _make(connection: Connection, table: Partitioned, lower: int) -> bool:
    """Create the partition that begins at *lower*; return whether it was missing, also from the default partition."""
    names = {"table": table.table.as_string(), "partition": table.partition(lower).as_string()}
    if connection.scalar(_IS_ATTACHED, names):
        return False
    connection.execute(_BOUNDS, {"lock": LOCK_TIMEOUT, "statement": SCAN_TIMEOUT})
    # the lock of ATTACH does not block reading and writing; another process may be creating the same partition
    _run(connection, "LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE", table, lower)
    if connection.scalar(_IS_ATTACHED, names) or _is_in_default(connection, table, lower):
        return False
    _run(
        connection,
        "CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)",
        table,
        lower,
    )
    _run(
        connection,
        "ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ({lower}) TO ({upper})",
        table,
        lower,
    )
    return True


def _is_in_default(connection: Connection, table: Partitioned, lower: int) -> bool:
    query = "SELECT EXISTS (SELECT FROM {default} WHERE {key} >= {lower} AND {key} < {upper})"
    return bool(connection.exec_driver_sql(_statement(query, table, lower)).scalar_one())


def _run(connection: Connection, statement: str, table: Partitioned, lower: int) -> None:
    connection.exec_driver_sql(_statement(statement, table, lower))


def _statement(statement: str, table: Partitioned, lower: int) -> str:
    return (
        sql.SQL(statement)
        .format(
            table=table.table,
            partition=table.partition(lower),
            default=table.partition("default"),
            key=sql.Identifier(table.key),
            lower=sql.Literal(lower),
            upper=sql.Literal(lower + table.size),
        )
        .as_string()
    )
