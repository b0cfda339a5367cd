"""Steps of the tests of reconcile: deliver, lose, reconcile, process, read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.processing.drain import drain
from receiver.reconcile.run import ReconcileOutcome, Reconciler
from receiver.sandbox.provider import LogStyle, deliver_story
from receiver.sandbox.sender import RetryLimits
from receiver.sandbox.tally import DeliveryAttempt
from receiver.sandbox.verdict import differences
from tests.support.factories import body, card_holder, snapshot
from tests.support.world import World

if TYPE_CHECKING:
    from receiver.sandbox.faults import Faults
    from receiver.sandbox.provider import Delivered
    from receiver.sandbox.story import Story
    from tests.support.world import World

DELIVERIES = ("stored_deliveries", "bodies", "queue", "outcomes", "confirmations")
"""The tables that hold deliveries."""
GRACE = timedelta(minutes=15)
RETRY_UNTIL_ACCEPTED = RetryLimits(attempts=None, seconds=None, first_pause=0, longest_pause=0)
THREE_ATTEMPTS = RetryLimits(attempts=3, seconds=None, first_pause=0, longest_pause=0)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def ago(span: timedelta) -> datetime:
    return datetime.now(UTC) - span


def reconciler(world: World, grace: timedelta = GRACE) -> Reconciler:
    return Reconciler(
        world.engine,
        Encryption(world.settings.encryption_keys),
        Access(world.api_url, str(world.client.account_id), world.client.id, world.client.secret),
        grace=grace,
        transport=world.transport,
    )


def reconcile(world: World, *, grace: timedelta = GRACE, **options: Any) -> ReconcileOutcome:
    """Reconcile the one webhook, and insist that it ends well."""
    (outcome,) = reconciler(world, grace).run(**options)
    assert outcome.error is None
    return outcome


def process(world: World) -> None:
    """Process everything that is due."""
    assert drain(world.engine, encryption=Encryption(world.settings.encryption_keys))


def reconcile_and_process(world: World) -> ReconcileOutcome:
    """Reconcile, and process the recovered deliveries."""
    outcome = reconcile(world)
    process(world)
    return outcome


def deliver(
    world: World, story: Story, faults: Faults, *, seed: int = 1, limits: RetryLimits = RETRY_UNTIL_ACCEPTED
) -> Delivered:
    """Let OpenCard deliver a story to all webhooks, and process what arrived."""
    delivered = asyncio.run(deliver_story(world.provider, story, faults=faults, seed=seed, give_up_after=limits))
    process(world)
    return delivered


def attempts(event: str, payload: object, *statuses: int | None, at: datetime) -> list[DeliveryAttempt]:
    """Return attempts of one event, a second apart."""
    content = body(payload)
    return [
        DeliveryAttempt("acme", event, status, at + timedelta(seconds=number), content)
        for number, status in enumerate(statuses)
    ]


def append_log(world: World, *attempts: list[DeliveryAttempt]) -> list[int]:
    """Write attempts into OpenCard's log of the one webhook, without any delivery; return their ids in it."""
    together = [each for some in attempts for each in some]
    return world.provider.state.log_attempts(world.registered().id, together)


def store_delivery(world: World, event: str, payload: object, *, at: datetime) -> int:
    """Have a delivery stored that arrived some time ago; return its id."""
    with world.engine.begin() as connection:
        return int(
            connection.execute(
                text(
                    "WITH stored AS (INSERT INTO receiver.stored_deliveries"
                    " (webhook_id, event, verification, received_at, occurred_at)"
                    " SELECT id, :event, 'signature', :at, :at FROM receiver.webhooks RETURNING id),"
                    " queued AS (INSERT INTO receiver.queue (delivery_id, due_at) SELECT id, :at FROM stored)"
                    " INSERT INTO receiver.bodies (delivery_id, body, headers) SELECT id, :body, '{}' FROM stored"
                    " RETURNING delivery_id"
                ),
                {"event": event, "body": body(payload), "at": at},
            ).scalar_one()
        )


def rows(world: World, query: str, **parameters: object) -> list[dict[str, Any]]:
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), parameters).mappings()]


def value(world: World, query: str, **parameters: object) -> Any:
    (row,) = rows(world, query, **parameters)
    (found,) = row.values()
    return found


def execute(world: World, statement: str, **parameters: object) -> None:
    with world.engine.begin() as connection:
        connection.execute(text(statement), parameters)


def ledger_differences(world: World, story: Story) -> list[str]:
    with world.engine.connect() as connection:
        return differences(connection, story)


def feed_types(world: World) -> list[str]:
    return [row["type"] for row in rows(world, "SELECT type FROM ems.events ORDER BY position")]


def count_log_requests(world: World) -> int:
    return len(world.provider.requests.all(method="GET", path="/events"))


def database_content(world: World) -> dict[str, list[Any]]:
    """Return what the database holds but for tokens, as it was written last."""
    tables = (*DELIVERIES, "delivery_log", "reconcile_runs", "webhooks", "oauth_tokens")
    return {table: rows(world, f"SELECT xmin, * FROM receiver.{table} ORDER BY 2, 3") for table in tables}  # noqa: S608


CREATED = "card_holder.created"


CLEARED = "card.transaction.cleared"


def reset_with_a_log(world: World) -> None:
    """OpenCard's log has events lost, stored and without a payload; the receiver has a forged delivery, too."""
    names = (*DELIVERIES, "delivery_log", "reconcile_runs", "oauth_tokens")
    execute(world, f"TRUNCATE {', '.join(f'receiver.{name}' for name in names)}, ems.events CASCADE")
    webhook = world.registered()
    world.provider.state.log_of(webhook.id).entries.clear()  # type: ignore[attr-defined]
    for number in range(4):
        payload = card_holder(f"employee-{number}")
        append_log(world, attempts(CREATED, payload, 503, 200, at=ago(HOUR - number * MINUTE)))
        if number % 2:
            store_delivery(world, CREATED, payload, at=ago(HOUR - number * MINUTE))
    without_payload = append_log(world, attempts(CLEARED, snapshot("cleared"), 200, at=ago(MINUTE)))
    world.provider.behaviour.log_style = LogStyle(without_payload=frozenset(without_payload))
    store_delivery(world, CREATED, card_holder("forged"), at=ago(HOUR))
