"""What some deliveries about erased card holders left behind, rewritten: in one transaction, so that it is all or none.

Every row of ``ems`` came from a delivery, so whoever goes through the deliveries comes by all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import text

from receiver.events.content import decode, encode
from receiver.events.erased import lives_in, rename_known
from receiver.events.payloads import Payload, TransactionPayload
from receiver.events.recognize import UNREADABLE
from receiver.events.redact import PERSONAL, named_card_holder, redact
from receiver.events.registry import load_handlers
from receiver.reconcile.identity import identify
from receiver.records.models import Event, Transaction, TransactionState
from receiver.records.upsert import rows_parameter, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row, Table

    from receiver.events.erased import Life, Pseudonyms

ERASED: Final = "its card holder was erased"
"""Takes the place of an error, which may name the person."""
BODIES_AT_ONCE: Final = 20

_THEIRS: Final = text(
    """
SELECT delivery.id, delivery.webhook_id, webhook.organization_reference_id AS organization, delivery.fingerprint,
    delivery.card_holder_reference_id AS reference, delivery.transaction_id, person.pseudonym
FROM receiver.deliveries AS delivery
JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
JOIN jsonb_to_recordset(CAST(:people AS jsonb)) AS person (
    organization text, reference text, pseudonym text, recreated_at timestamptz
) ON person.reference = delivery.card_holder_reference_id AND person.organization = webhook.organization_reference_id
WHERE delivery.id > :after AND delivery.id <= :until AND delivery.fingerprint IS NOT NULL
    AND (person.recreated_at IS NULL OR delivery.occurred_at < person.recreated_at)
ORDER BY delivery.id
FOR NO KEY UPDATE OF delivery
"""
)
_GONE: Final = """
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS gone (
    id bigint, webhook_id bigint, organization text, reference text, pseudonym text, transaction_id text,
    plain bytea, keyed bytea
)
"""
_FORGET_ATTEMPTS: Final = text("DELETE FROM receiver.processing_attempts WHERE delivery_id = ANY(:ids)")
_FORGET_ENTRIES: Final = text(
    "DELETE FROM receiver.delivery_log AS entry USING (SELECT DISTINCT webhook_id, plain "  # noqa: S608 - constants
    + _GONE
    + ") AS gone WHERE entry.webhook_id = gone.webhook_id AND entry.fingerprint = gone.plain"
)
_REPLACE_PAYLOADS: Final = """
UPDATE {table} AS stored SET payload = told.payload{more}
FROM json_to_recordset(CAST(:rows AS json)) AS told (delivery_id bigint, pseudonym text, payload jsonb)
WHERE stored.delivery_id = told.delivery_id
"""
_STATES: Final = table_of(TransactionState).fullname
_EVENTS: Final = table_of(Event).fullname
_READ_STATES: Final = text(
    f"SELECT delivery_id, payload::text AS payload FROM {_STATES} WHERE delivery_id = ANY(:ids)"  # noqa: S608
)
_READ_EVENTS: Final = text(
    f"SELECT delivery_id, type, payload::text AS payload FROM {_EVENTS} WHERE delivery_id = ANY(:ids)"  # noqa: S608
)
_REPLACE_STATES: Final = text(_REPLACE_PAYLOADS.format(table=_STATES, more=""))
_REPLACE_EVENTS: Final = text(
    _REPLACE_PAYLOADS.format(table=_EVENTS, more=", card_holder_reference_id = told.pseudonym")
)
# One that is being tried again keeps its body until it is settled, and loses it then.
_EMPTY: Final = text(
    f"""
UPDATE receiver.deliveries AS delivery
SET card_holder_reference_id = gone.pseudonym, fingerprint = coalesce(gone.keyed, delivery.fingerprint),
    body = CASE WHEN delivery.status IN ('pending', 'failed') THEN delivery.body END,
    headers = CASE WHEN delivery.status IN ('pending', 'failed') THEN delivery.headers ELSE '{{}}' END,
    error = CASE WHEN delivery.error IS NOT NULL THEN :erased END
{_GONE} WHERE delivery.id = gone.id
"""  # noqa: S608 - constants
)
_SET_ASIDE: Final = text(
    f"""
SELECT delivery.id, webhook.organization_reference_id AS organization, delivery.event, delivery.body,
    delivery.occurred_at
FROM receiver.deliveries AS delivery JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
WHERE delivery.id > :after AND delivery.id <= :until AND delivery.status IN ('dead', 'quarantined', 'ignored')
    AND delivery.body IS NOT NULL
ORDER BY delivery.id LIMIT {BODIES_AT_ONCE}
FOR NO KEY UPDATE OF delivery
"""  # noqa: S608 - a constant
)
_EMPTY_SET_ASIDE: Final = text(
    """
UPDATE receiver.deliveries AS delivery
SET body = NULL, headers = '{}', fingerprint = gone.keyed, card_holder_reference_id = gone.pseudonym, error = :erased
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS gone (id bigint, keyed bytea, pseudonym text)
WHERE delivery.id = gone.id
"""
)


@dataclass(frozen=True, slots=True)
class Person:
    """A card holder who is being erased."""

    organization: str
    reference: str
    pseudonym: str
    recreated_at: datetime | None


def erase_deliveries(
    connection: Connection, pseudonyms: Pseudonyms, people: Sequence[Person], *, after: int, until: int
) -> int:
    """Rewrite what the deliveries of a span about *people* left behind; return how many they were."""
    asked = {"people": rows_parameter([_row(person) for person in people]), "after": after, "until": until}
    theirs = connection.execute(_THEIRS, asked).all() if people else []
    if not theirs:
        return 0
    rows = {"rows": rows_parameter([_gone(delivery, pseudonyms) for delivery in theirs])}
    ids = {"ids": [delivery.id for delivery in theirs]}
    connection.execute(_FORGET_ATTEMPTS, ids)
    connection.execute(_FORGET_ENTRIES, rows)
    fingerprints = [bytes(delivery.fingerprint) for delivery in theirs if delivery.fingerprint is not None]
    rename_known(connection, pseudonyms, fingerprints)
    for statement in _records():
        connection.execute(statement, rows)
    by_id = {delivery.id: delivery.pseudonym for delivery in theirs}
    _replace_payloads(connection, by_id, _READ_STATES, _REPLACE_STATES)
    _replace_payloads(connection, by_id, _READ_EVENTS, _REPLACE_EVENTS)
    connection.execute(_EMPTY, {**rows, "erased": ERASED})
    return len(theirs)


def erase_set_aside(connection: Connection, pseudonyms: Pseudonyms, *, after: int, until: int) -> None:
    """Empty what was never applied and names somebody who is erased."""
    lives: dict[str, Mapping[str, Life]] = {}
    while True:
        found = connection.execute(_SET_ASIDE, {"after": after, "until": until}).all()
        rows = [
            {
                "id": each.id,
                "keyed": _bytea(pseudonyms.fingerprint(identify(each.event, each.body, each.organization))),
                "pseudonym": pseudonym,
            }
            for each in found
            if (pseudonym := _erased_pseudonym(connection, pseudonyms, lives, each))
        ]
        if rows:
            connection.execute(_FORGET_ATTEMPTS, {"ids": [row["id"] for row in rows]})
            connection.execute(_EMPTY_SET_ASIDE, {"rows": rows_parameter(rows), "erased": ERASED})
        if len(found) < BODIES_AT_ONCE:
            return
        after = found[-1].id


def _erased_pseudonym(
    connection: Connection, pseudonyms: Pseudonyms, lives: dict[str, Mapping[str, Life]], delivery: Row[Any]
) -> str | None:
    """Return the pseudonym of the card holder that *delivery* names; ``None`` if it names nobody who is erased."""
    try:
        reference = named_card_holder(decode(delivery.body))
    except UNREADABLE:
        return None
    if reference is None:
        return None
    if delivery.organization not in lives:
        lives[delivery.organization] = lives_in(connection, delivery.organization)
    pseudonym = pseudonyms.of(delivery.organization, reference)
    life = lives[delivery.organization].get(pseudonym)
    return pseudonym if life is not None and life.held(delivery.occurred_at) else None


def _records() -> list[Any]:
    """Return the statements that rewrite the tables which know a purchase and its card holder, in a fixed order."""
    statements = []
    for table in sorted(table_of(Transaction).metadata.tables.values(), key=lambda table: table.fullname):
        columns = table.columns.keys()
        is_purchase = table is table_of(Transaction)
        if table.schema != "ems" or "card_holder_reference_id" not in columns or table is table_of(Event):
            continue
        if is_purchase or "transaction_id" in columns:
            statements.append(_record(table, "id" if is_purchase else "transaction_id"))
    return statements


def _record(table: Table, key: str) -> Any:  # noqa: ANN401 - SQL
    settings = ["card_holder_reference_id = gone.pseudonym"]
    settings += [f"{name} = NULL" for name in PERSONAL if name in table.columns]
    if "updated_at" in table.columns:
        settings.append("updated_at = clock_timestamp()")
    return text(
        f"UPDATE {table.fullname} AS stored SET {', '.join(settings)} "  # noqa: S608 - names from the models
        f"FROM (SELECT DISTINCT organization, reference, pseudonym, transaction_id {_GONE}) AS gone "
        f"WHERE stored.organization_reference_id = gone.organization AND stored.{key} = gone.transaction_id "
        "AND stored.card_holder_reference_id = gone.reference"
    )


def _replace_payloads(connection: Connection, people: Mapping[int, str], read: Any, write: Any) -> None:  # noqa: ANN401
    """Rewrite the payloads of deliveries, of which *people* has the pseudonym."""
    handlers = load_handlers()
    rows = []
    for stored in connection.execute(read, {"ids": list(people)}).mappings():
        payload_type: type[Payload] = TransactionPayload
        if "type" in stored:
            payload_type = handlers[stored["type"]].payload_type
        pseudonym = people[stored["delivery_id"]]
        payload = encode(redact(decode(stored["payload"].encode()), payload_type, pseudonym))
        rows.append({"delivery_id": stored["delivery_id"], "pseudonym": pseudonym, "payload": msgspec.Raw(payload)})
    if rows:
        connection.execute(write, {"rows": rows_parameter(rows)})


def _row(person: Person) -> dict[str, object]:
    return {
        "organization": person.organization,
        "reference": person.reference,
        "pseudonym": person.pseudonym,
        "recreated_at": person.recreated_at,
    }


def _gone(delivery: Row[Any], pseudonyms: Pseudonyms) -> dict[str, object]:
    plain = None if delivery.fingerprint is None else bytes(delivery.fingerprint)
    return {
        "id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "organization": delivery.organization,
        "reference": delivery.reference,
        "pseudonym": delivery.pseudonym,
        "transaction_id": delivery.transaction_id,
        "plain": None if plain is None else _bytea(plain),
        "keyed": None if plain is None else _bytea(pseudonyms.fingerprint(plain)),
    }


def _bytea(value: bytes) -> str:
    return "\\x" + value.hex()
