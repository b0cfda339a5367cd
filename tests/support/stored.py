"""Deliveries as they may be stored, in the tables that ``receiver.deliveries`` is a view of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Engine

_STORE = text(
    """
WITH arrived AS MATERIALIZED (
    SELECT nextval('receiver.stored_deliveries_id_seq') AS id, webhook.id AS webhook_id,
        coalesce(CAST(:received_at AS timestamptz), now()) AS at, CASE
            WHEN CAST(:position AS bigint) IS NOT NULL THEN CAST(:position AS bigint)
            WHEN CAST(:status AS text) IN ('processed', 'duplicate') AND CAST(:subject AS text) IS NOT NULL
                THEN nextval('ems.events_position_seq')
        END AS position
    FROM (
        SELECT min(id) AS id FROM receiver.webhooks WHERE organization_reference_id = :organization
    ) AS webhook, generate_series(1, CAST(:number AS integer))
), stored AS (
    INSERT INTO receiver.stored_deliveries (id, webhook_id, event, verification, source, received_at, occurred_at)
    SELECT id, webhook_id, CAST(:event AS text), 'signature', CAST(:source AS text), at, at FROM arrived
), bodies AS (
    INSERT INTO receiver.bodies (delivery_id, body, headers)
    SELECT id, CAST(:body AS bytea), '{}' FROM arrived WHERE CAST(:body AS bytea) IS NOT NULL
), queued AS (
    INSERT INTO receiver.queue (delivery_id, due_at, attempts)
    SELECT id, at, CAST(:attempts AS integer) FROM arrived WHERE CAST(:status AS text) IN ('pending', 'failed')
), events AS (
    INSERT INTO ems.events (position, type, organization_reference_id, card_holder_reference_id, transaction_id,
        occurred_at, source, delivery_id, payload, subject_id, fingerprint)
    SELECT position, CAST(:event AS text), :organization, CAST(:card_holder_reference_id AS text),
        CAST(:transaction_id AS text), at, CAST(:source AS text), id, '{}', CAST(:subject AS text),
        sha256(CAST(CAST(id AS text) AS bytea))
    FROM arrived WHERE position IS DISTINCT FROM CAST(:position AS bigint)
)
INSERT INTO receiver.outcomes
    (delivery_id, status, attempts, processed_at, error, position, transaction_id, card_holder_reference_id)
SELECT id, CAST(:status AS text), CAST(:attempts AS integer), CASE WHEN CAST(:status AS text) <> 'failed' THEN at END,
    CAST(:error AS text), position,
    CASE WHEN position IS NULL THEN CAST(:transaction_id AS text) END,
    CASE WHEN position IS NULL THEN CAST(:card_holder_reference_id AS text) END
FROM arrived WHERE CAST(:status AS text) <> 'pending'
"""
)
_NEWEST = text("SELECT id FROM receiver.stored_deliveries ORDER BY id DESC LIMIT :number")
_UNQUEUE = text("DELETE FROM receiver.queue WHERE delivery_id = ANY(:ids) AND CAST(:status AS text) <> 'failed'")
_BECOME = text(
    """
INSERT INTO receiver.outcomes AS outcome (delivery_id, status, attempts, processed_at, error)
SELECT id, CAST(:status AS text), coalesce(CAST(:attempts AS integer), 1),
    CASE WHEN CAST(:status AS text) <> 'failed' THEN now() END, CAST(:error AS text)
FROM unnest(CAST(:ids AS bigint[])) AS stored (id)
ON CONFLICT (delivery_id) DO UPDATE SET status = excluded.status, error = excluded.error,
    attempts = coalesce(CAST(:attempts AS integer), outcome.attempts), processed_at = excluded.processed_at
"""
)
_QUEUE = text(
    """
INSERT INTO receiver.queue AS queued (delivery_id, attempts) SELECT unnest(CAST(:ids AS bigint[])), :attempts
ON CONFLICT (delivery_id) DO UPDATE SET due_at = now(), attempts = excluded.attempts, leased_until = NULL, alone = false
"""
)


def store(
    engine: Engine,
    *,
    organization: str = "acme",
    event: str = "card_holder.created",
    status: str = "processed",
    source: str = "push",
    received_at: datetime | None = None,
    body: bytes | None = b"{}",
    attempts: int = 1,
    error: str | None = None,
    position: int | None = None,
    transaction_id: str | None = None,
    card_holder_reference_id: str | None = None,
    number: int = 1,
) -> list[int]:
    """Store a *number* of deliveries to a webhook of *organization*, as they are when they have *status*.

    With a transaction or a card holder, what was applied brought an event of it, unless it repeats that at *position*;
    what was not names it in its outcome.
    """
    values = {name: value for name, value in locals().items() if name != "engine"}
    with engine.begin() as connection:
        connection.execute(_STORE, {**values, "subject": transaction_id or card_holder_reference_id})
        return sorted(connection.scalars(_NEWEST, values))


def become(
    engine: Engine, status: str, ids: Iterable[int], *, attempts: int | None = None, error: str | None = None
) -> None:
    """Let stored deliveries have an outcome; *attempts*: as many as before if none is given."""
    values = {"status": status, "ids": list(ids), "attempts": attempts, "error": error}
    with engine.begin() as connection:
        connection.execute(_UNQUEUE, values)
        connection.execute(_BECOME, values)


def queue_again(engine: Engine, ids: Iterable[int], *, attempts: int = 0) -> None:
    """Let stored deliveries be due now; an outcome that they have stays."""
    with engine.begin() as connection:
        connection.execute(_QUEUE, {"ids": list(ids), "attempts": attempts})
