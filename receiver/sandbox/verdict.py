"""Does ``ems`` hold what OpenCard sent? Compares the tables with a story, event by event and row by row."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import text

from receiver.sandbox.story_events import comparable, read

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from sqlalchemy import Connection

    from receiver.sandbox.story import Story

COMPARED: Final = (
    "state",
    "accounting_amount",
    "original_amount",
    "card_issuer_reference",
    "cleared_card_issuer_reference",
)
SHOWN: Final = 20
"""How many differences of a kind are named."""

_DELIVERIES: Final = text(
    """
SELECT delivery.id, delivery.event, delivery.source, delivery.status, delivery.received_at, delivery.occurred_at,
    delivery.position
FROM receiver.deliveries AS delivery
JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
WHERE webhook.organization_reference_id = :organization AND (
    delivery.transaction_id = :transaction
    OR delivery.card_holder_reference_id = :card_holder AND delivery.event LIKE 'card\\_holder.%'
)
ORDER BY delivery.occurred_at, delivery.id
"""
)
_OF_OPENCARD: Final = {"events": " WHERE type <> 'receiver.changed'"}
# as text, because a driver that reads JSON for us would round its numbers
_EVENTS: Final = text(
    f"SELECT type, organization_reference_id, payload::text FROM ems.events{_OF_OPENCARD['events']}"  # noqa: S608 - a constant
)

_Key: TypeAlias = "tuple[str, str]"
_Identity: TypeAlias = "tuple[str, str, Hashable]"
"""Type, organization and payload by value: what makes an event the same as another."""


def count_rows(connection: Connection, tables: list[str]) -> dict[str, int]:
    """Return the number of rows of each table of schema ``ems``; of the feed, that of OpenCard's events."""
    return {
        table: connection.scalar(text(f"SELECT count(*) FROM ems.{table}{_OF_OPENCARD.get(table, '')}")) or 0  # noqa: S608 - names are ours
        for table in tables
    }


def differences(connection: Connection, story: Story) -> list[str]:
    """Return what differs between the tables and what *story* expects, one line each; empty when nothing does.

    Of each kind of difference the first are named, and the rest is counted.
    """
    missing, excess = _events(connection, story)
    kinds = (
        _row_counts(connection, story),
        missing,
        excess,
        list(_transactions(connection, story)),
        list(_card_holders(connection, story)),
    )
    return [line for lines in kinds for line in _first(lines)]


def _first(lines: Sequence[str]) -> list[str]:
    return list(lines) if len(lines) <= SHOWN else [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more like these"]


def _row_counts(connection: Connection, story: Story) -> list[str]:
    expected_rows = story.expected_rows()
    found_rows = count_rows(connection, list(expected_rows))
    return [
        f"ems.{table}: {found_rows[table]} rows, {expected} expected"
        for table, expected in expected_rows.items()
        if found_rows[table] != expected
    ]


def _events(connection: Connection, story: Story) -> tuple[list[str], list[str]]:
    """Return a line for each event that the feed lacks, and for each that it has once too often."""
    names: dict[_Identity, str] = {}
    bodies: dict[_Identity, dict[str, Any]] = {}

    def identity(kind: str, organization: str, payload: bytes) -> _Identity:
        fields = read(payload)
        identity = (kind, organization, comparable(fields))
        names.setdefault(identity, f"{kind} of organization {organization}{_subject(fields)}")
        bodies.setdefault(identity, fields)
        return identity

    expected_events = Counter(
        identity(sent.event, sent.organization_reference_id, sent.payload) for sent in story.events
    )
    feed = connection.execute(_EVENTS)
    found = Counter(identity(kind, organization, payload.encode()) for kind, organization, payload in feed)
    return (
        [f"ems.events: missing {names[one]}" for one in (expected_events - found).elements()],
        [
            f"ems.events: too many of {names[one]}: {_history(connection, one[1], bodies[one])}"
            for one in (found - expected_events).elements()
        ],
    )


def _history(connection: Connection, organization: str, payload: dict[str, Any]) -> str:
    """Return every delivery about the transaction, or else about the card holder, that *payload* names."""
    transaction = (payload.get("transaction") or {}).get("id") or (payload.get("id") if "state" in payload else None)
    subject = {
        "organization": organization,
        "transaction": transaction,
        "card_holder": None if transaction else (payload.get("card_holder") or {}).get("reference_id"),
    }
    return "; ".join(
        f"{row.event} by {row.source} as delivery {row.id}, {row.status}, received {row.received_at:%H:%M:%S.%f}, "
        f"occurred {row.occurred_at:%H:%M:%S.%f}" + (f", position {row.position}" if row.position else "")
        for row in connection.execute(_DELIVERIES, subject)
    )


def _subject(fields: dict[str, Any]) -> str:
    """Return whom or what an event is about, as far as its payload says."""
    transaction = fields.get("transaction") or {}
    for what, value in (
        ("transaction", transaction.get("id") or (fields.get("id") if "state" in fields else None)),
        ("card holder", (fields.get("card_holder") or {}).get("reference_id")),
        ("id", fields.get("id")),
    ):
        if value is not None:
            return f", {what} {value}"
    return ""


def _transactions(connection: Connection, story: Story) -> Iterator[str]:
    expected = story.expected_transactions()
    stored = _rows(connection, "transactions", "id", COMPARED)
    for key, row in expected.items():
        if key not in stored:
            yield f"transaction {key}: missing"
            continue
        for name, value in row.items():
            if stored[key][name] != value:
                yield f"transaction {key}: {name} is {stored[key][name]!r}, {value!r} expected"
    for key in stored.keys() - expected.keys():
        yield f"transaction {key}: never reported"


def _card_holders(connection: Connection, story: Story) -> Iterator[str]:
    expected = story.expected_card_holders()
    columns = list(next(iter(expected.values()), ()))
    stored = _rows(connection, "card_holders", "reference_id", columns)
    for key, known in expected.items():
        if key not in stored:
            yield f"card holder {key}: missing"
            continue
        for name, is_known in known.items():
            if (stored[key][name] is not None) != is_known:
                yield f"card holder {key}: {name} is {stored[key][name]}, {'a time' if is_known else 'null'} expected"
    for key in stored.keys() - expected.keys():
        yield f"card holder {key}: never reported"


def _rows(connection: Connection, table: str, key: str, columns: Sequence[str]) -> dict[_Key, dict[str, Any]]:
    """Return the rows of a table of ``ems``, by organization and *key*."""
    names = ", ".join(("organization_reference_id", key, *columns))
    rows = connection.execute(text(f"SELECT {names} FROM ems.{table}")).mappings()  # noqa: S608 - names are ours
    return {(row["organization_reference_id"], row[key]): dict(row) for row in rows}
