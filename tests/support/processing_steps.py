"""Steps of tests with stored deliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from receiver.processing.claim import LEASE
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from tests.conftest import Acme

NOON = datetime(2026, 2, 13, 12, tzinfo=UTC)
UP_FOR_A_LEASE = "SELECT now() - interval '1 second' - CAST(:lease AS interval) > pg_postmaster_start_time()"


def occurred(acme: Acme, delivery: int, moment: datetime) -> None:
    """Say when the *delivery*-th delivery (from 1) occurred, before it is processed."""
    acme.execute(
        "UPDATE receiver.stored_deliveries SET occurred_at = :moment "
        "WHERE id = (SELECT id FROM receiver.stored_deliveries ORDER BY id OFFSET :skip LIMIT 1)",
        moment=moment,
        skip=delivery - 1,
    )


def feed(acme: Acme) -> list[str]:
    """Return the types of the events that OpenCard sent, in the order of the feed."""
    events = acme.rows("SELECT type FROM ems.events WHERE type <> 'receiver.changed' ORDER BY position")
    return [row["type"] for row in events]


def process_in_order(acme: Acme, order: list[int]) -> None:
    """Process the deliveries (from 1) one by one in this order, as workers side by side may come to do."""
    ids = [row["id"] for row in acme.rows("SELECT id FROM receiver.stored_deliveries ORDER BY id")]
    acme.execute("UPDATE receiver.queue SET alone = true, due_at = now() + interval '1 day'")
    for number in order:
        acme.execute(
            "UPDATE receiver.queue SET alone = false, due_at = now() WHERE delivery_id = :id", id=ids[number - 1]
        )
        acme.process()


def plans(connection: Connection, act: Callable[[], object]) -> list[str]:
    """Return how PostgreSQL carries out each statement of *act*."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    act()
    event.remove(connection, "before_cursor_execute", note)
    return [
        "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
        for statement, parameters in statements
    ]


def process_again(acme: Acme, status: str = "%") -> None:
    """Have deliveries that were processed before, those with *status*, processed again, as reconcile does."""
    acme.execute(
        "INSERT INTO receiver.queue (delivery_id, attempts) "
        "SELECT delivery_id, attempts FROM receiver.outcomes WHERE status LIKE :status",
        status=status,
    )
    acme.process()


def delete_bodies(acme: Acme) -> None:
    """Delete the bodies of all deliveries, as retention does."""
    acme.execute("DELETE FROM receiver.bodies")


def end_leases(acme: Acme) -> None:
    """Let the time pass that a worker has for what it claimed; they have begun after PostgreSQL did."""
    assert eventually(lambda: bool(acme.value(UP_FOR_A_LEASE, lease=LEASE)), within=2 * LEASE.total_seconds())
    acme.execute("UPDATE receiver.queue SET leased_until = now() - interval '1 ms' WHERE leased_until IS NOT NULL")
