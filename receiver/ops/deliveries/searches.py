"""By which index a list of deliveries is read, so that none of them reads the table.

A search that no index answers is read backwards from the newest; a page reads ``MAX_EXAMINED`` deliveries at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.deliveries.models import TEST
from receiver.ops.deliveries.filter import IS_UNCONFIRMED, NO_VERSION, error_pattern, is_resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from receiver.ops.deliveries.filter import Filter

MAX_EXAMINED: Final = 10_000
"""How many deliveries are looked at for one page."""
OUT_OF_ORDER: Final = timedelta(minutes=15)
"""By how much a delivery may have been received before one with a smaller id: as long as a transaction lasts."""
END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
INDEXED_STATUSES: Final = ("duplicate", "ignored", "quarantined", "failed", "dead")
"""Statuses that have an index of their own."""
WITH_ERRORS: Final = ("ignored", "quarantined", "failed", "dead")
"""Those of them that have an error."""
WEBHOOKS_APART: Final = 20
"""The number of webhooks up to which each is read separately, by its index."""

BY_ID: Final = "delivery_id DESC"
BY_TIME: Final = "at DESC, delivery_id DESC"

_NONE: Final = "SELECT id AS delivery_id, received_at AS at FROM receiver.stored_deliveries WHERE false"
_ALL: Final = "SELECT id AS delivery_id FROM receiver.stored_deliveries WHERE id < :before"
_ORGANIZATIONS: Final = "ARRAY(SELECT DISTINCT organization_reference_id FROM receiver.webhooks)"
# an event's first delivery, and its retries
_OF_EVENTS: Final = """
SELECT event.delivery_id FROM event WHERE event.delivery_id < :before
UNION
SELECT outcome.delivery_id FROM event
JOIN receiver.outcomes AS outcome ON outcome.position = event.position AND outcome.status = 'duplicate'
WHERE outcome.delivery_id < :before
"""
# what was never applied has no event, but names what it is of
_OF_TRANSACTION: Final = f"""
WITH event AS MATERIALIZED (
    SELECT position, delivery_id FROM ems.events
    WHERE organization_reference_id = ANY({_ORGANIZATIONS}) AND subject_id = :transaction_id
)
{_OF_EVENTS}
UNION
SELECT delivery_id FROM receiver.outcomes WHERE transaction_id = :transaction_id AND delivery_id < :before
"""  # noqa: S608 - a constant
_OF_CARD_HOLDER: Final = f"""
WITH subject AS MATERIALIZED (
    SELECT unnest({_ORGANIZATIONS}) AS organization_reference_id, CAST(:card_holder AS text) AS id
    UNION
    SELECT organization_reference_id, id FROM ems.transactions
    WHERE card_holder_reference_id = :card_holder AND organization_reference_id = ANY({_ORGANIZATIONS})
), event AS MATERIALIZED (
    SELECT event.position, event.delivery_id FROM subject JOIN ems.events AS event
        ON event.organization_reference_id = subject.organization_reference_id AND event.subject_id = subject.id
    WHERE event.card_holder_reference_id = :card_holder
)
{_OF_EVENTS}
UNION
SELECT delivery_id FROM receiver.outcomes WHERE card_holder_reference_id = :card_holder AND delivery_id < :before
"""  # noqa: S608 - a constant
_WAITING: Final = "SELECT delivery_id FROM receiver.queue WHERE delivery_id < :before"
_OF_STATUS: Final = "SELECT delivery_id FROM receiver.outcomes WHERE delivery_id < :before"
_WITH_ERRORS: Final = ", ".join(f"'{status}'" for status in WITH_ERRORS)
_UNRESOLVED: Final = (
    f"status IN ({_WITH_ERRORS}) AND error IS DISTINCT FROM '{TEST}' AND NOT {is_resolved('delivery.id')}"
)
_RECEIVED_AT: Final = text(
    "SELECT received_at FROM receiver.stored_deliveries WHERE id <= :id ORDER BY id DESC LIMIT 1"
)
_WEBHOOKS: Final = text("SELECT id FROM receiver.webhooks WHERE organization_reference_id = ANY(:references)")
# ids grow with time, nearly: so the first of a time is found by halving, without an index of times
_FIRST_SINCE: Final = text(
    """
WITH RECURSIVE narrowed (low, high) AS (
    SELECT min(id), max(id) + 1 FROM receiver.stored_deliveries
    UNION ALL
    SELECT CASE WHEN probe.received_at < :moment THEN probe.id + 1 ELSE low END,
        CASE WHEN probe.received_at < :moment THEN high ELSE halved.middle END
    FROM narrowed
    CROSS JOIN LATERAL (SELECT (low + high) / 2 AS middle) AS halved
    CROSS JOIN LATERAL (
        SELECT id, received_at FROM receiver.stored_deliveries WHERE id >= halved.middle ORDER BY id LIMIT 1
    ) AS probe
    WHERE low < high
)
SELECT low FROM narrowed WHERE low >= high
"""
)


@dataclass(frozen=True, slots=True)
class Search:
    """How one page is found: what is looked at, in which order, and what of it is wanted."""

    source: str
    """The query of what may be looked at: ``delivery_id``, and ``at`` where it is in the order of that."""
    order: str
    arrived: str
    """Conditions on what is stored of the arrival; they are checked first, because a whole delivery is dear to read."""
    conditions: str
    """The other conditions."""
    parameters: Mapping[str, Any] = field(repr=False)

    def select(self, columns: str) -> str:
        """Return the query of what is wanted among what is looked at, newest first."""
        # with OFFSET 0 each delivery is read by its id, whatever the conditions are
        return (
            f"SELECT {columns} FROM ({self.looked_at()}) AS found CROSS JOIN LATERAL ("  # noqa: S608 - this module's own words
            "SELECT id AS arrived_id FROM receiver.stored_deliveries "
            f"WHERE id = found.delivery_id AND {self.arrived} OFFSET 0"
            ") AS arrived CROSS JOIN LATERAL ("
            "SELECT * FROM receiver.deliveries AS one WHERE one.id = arrived_id OFFSET 0"
            f") AS delivery WHERE {self.conditions} ORDER BY {self.order} LIMIT :limit"
        )

    def looked_at(self) -> str:
        """Return the query of what is looked at."""
        return f"SELECT * FROM ({self.source}) AS stored ORDER BY {self.order} LIMIT :max_examined"  # noqa: S608 - likewise

    def last(self) -> str:
        """Return the query of the last delivery that is looked at, of none when there are no more."""
        last = f"SELECT delivery_id FROM ({self.looked_at()}) AS found ORDER BY {self.order} OFFSET :max_examined - 1"  # noqa: S608 - likewise
        return f"SELECT id, received_at FROM receiver.stored_deliveries WHERE id = ({last})"  # noqa: S608 - likewise


def search(connection: Connection, wanted: Filter, *, before: int | None, max_examined: int = MAX_EXAMINED) -> Search:
    """Return how deliveries are found that have an id below *before*, newest first."""
    webhooks = _webhooks_of(connection, wanted)
    parameters = {
        **_parameters(wanted, webhooks),
        "max_examined": max_examined,
        "before": _below(connection, wanted, before),
    }
    source, order = _source(connection, wanted, webhooks, parameters)
    return Search(source, order, _arrived(wanted), _conditions(wanted), parameters)


def _parameters(wanted: Filter, webhooks: list[int] | None) -> dict[str, Any]:
    return {
        "statuses": list(wanted.statuses),
        "events": list(wanted.events),
        "version": wanted.version,
        "webhooks": webhooks,
        "since": wanted.since,
        "until": wanted.until,
        "error": None if wanted.error is None else error_pattern(wanted.error),
        "transaction_id": wanted.transaction_id,
        "card_holder": wanted.card_holder_reference_id,
    }


def _arrived(wanted: Filter) -> str:
    return _all_of(
        {
            "event = ANY(:events)": wanted.events,
            f"coalesce(version, '{NO_VERSION}') = :version": wanted.version,
            "webhook_id = ANY(:webhooks)": wanted.organizations,
            "received_at >= :since": wanted.since,
            "received_at < :until": wanted.until,
        }
    )


def _conditions(wanted: Filter) -> str:
    return _all_of(
        {
            "status = ANY(:statuses)": wanted.statuses,
            r"split_part(error, E'\n', 1) ILIKE :error": wanted.error,
            "transaction_id = :transaction_id": wanted.transaction_id,
            "card_holder_reference_id = :card_holder": wanted.card_holder_reference_id,
            _UNRESOLVED: wanted.unresolved,
            IS_UNCONFIRMED: wanted.unconfirmed,
        }
    )


def _all_of(conditions: Mapping[str, object]) -> str:
    """Return the conditions whose values are given, as one."""
    return " AND ".join(condition for condition, value in conditions.items() if value) or "true"


def _source(
    connection: Connection, wanted: Filter, webhooks: list[int] | None, parameters: dict[str, Any]
) -> tuple[str, str]:
    """Return the narrowest source that holds everything wanted, and its order."""
    if wanted.transaction_id is not None:
        return _OF_TRANSACTION, BY_ID
    if wanted.card_holder_reference_id is not None:
        return _OF_CARD_HOLDER, BY_ID
    statuses = wanted.statuses or (WITH_ERRORS if wanted.error or wanted.unresolved else ())
    if statuses and "processed" not in statuses:
        # one that is to be processed again waits, and has an outcome
        return " UNION ".join(_of_status(status) for status in statuses), BY_ID
    if webhooks is not None and len(webhooks) <= WEBHOOKS_APART:
        parameters["before_at"] = connection.scalar(_RECEIVED_AT, {"id": parameters["before"]})
        return " UNION ALL ".join(_of_webhook(webhook, wanted) for webhook in webhooks) or _NONE, BY_TIME
    return _ALL, BY_ID


def _of_status(status: str) -> str:
    if status == "pending":
        return _newest(_WAITING, BY_ID)
    assert status in INDEXED_STATUSES  # noqa: S101 - it becomes a word of the query
    return _newest(f"{_OF_STATUS} AND status = '{status}'", BY_ID)


def _of_webhook(webhook: int, wanted: Filter) -> str:
    since = " AND received_at >= :since" if wanted.since else ""
    until = " AND received_at < :until" if wanted.until else ""
    mine = f"webhook_id = {int(webhook)}{since}{until} AND (received_at, id) < (:before_at, :before)"
    return _newest(f"SELECT id AS delivery_id, received_at AS at FROM receiver.stored_deliveries WHERE {mine}", BY_TIME)  # noqa: S608 - a number


def _newest(source: str, order: str) -> str:
    return f"({source} ORDER BY {order} LIMIT :max_examined)"


def _webhooks_of(connection: Connection, wanted: Filter) -> list[int] | None:
    if not wanted.organizations:
        return None
    return sorted(connection.scalars(_WEBHOOKS, {"references": list(wanted.organizations)}))


def _below(connection: Connection, wanted: Filter, before: int | None) -> int:
    """Return the id below which to look: what was received too late is not even looked at."""
    bounds = [2**63 - 1 if before is None else before]
    if wanted.until is not None:
        until = min(wanted.until, END_OF_TIME - OUT_OF_ORDER) + OUT_OF_ORDER
        bounds.append(first_received_since(connection, until) or bounds[0])
    return min(bounds)


def first_received_since(connection: Connection, moment: datetime) -> int | None:
    """Return the id from which on everything was received at *moment* or later, give or take ``OUT_OF_ORDER``."""
    found: int | None = connection.scalar(_FIRST_SINCE, {"moment": moment})
    return found
