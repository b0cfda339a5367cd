"""Rows, models and interfaces of the clients are true of every value: its type, whether it is null, every digit."""

from __future__ import annotations

import json
import runpy
from dataclasses import fields
from decimal import Decimal
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from opencard_ems import connect, exact_json, read, rows
from opencard_ems.models import Model, Transaction
from receiver.events.catalogue import EVENT_FLAGS
from receiver.ops.recover import recover
from tests.clients.conftest import CLIENTS, node
from tests.support.factories import card_holder, sample, snapshot
from tests.support.roles import libpq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg
    from sqlalchemy import Engine

    from receiver.readers.relations import Relation
    from tests.conftest import Acme

SCHEMAS = CLIENTS.parent / "docs" / "ems" / "schemas"
EXACT = Decimal("12345678901234567890.123456789")
"""An amount that no binary number has."""
KINDS = rows.Row.__subclasses__()
CLOSING = """
INSERT INTO ems.closings SELECT 'acme', date_trunc('month', booked_on), now(), 'operator@books', now(), now(), 0,
    (SELECT max(position) FROM ems.events), 1, '{}', '{}', '3b7f'
FROM ems.transactions WHERE booked_on IS NOT NULL GROUP BY date_trunc('month', booked_on)
"""
OF_EACH_COLUMN = """
import { connect, read } from '%s';
const kind = (value) => value === null ? 'null'
    : Array.isArray(value) ? `${typeof value[0]}[]`
    : value instanceof Date ? 'Date' : Buffer.isBuffer(value) ? 'Buffer'
    : typeof value === 'object' ? 'JsonObject' : typeof value;
const client = await connect(process.env.EMS_URL);
const found = {};
for (const table of JSON.parse(process.env.TABLES)) {
    found[table] = (await read(client, table)).map((row) =>
        Object.fromEntries(Object.entries(row).map(([name, value]) => [name, kind(value)])));
}
const [event] = await read(client, 'events', "WHERE transaction_id = 'full' AND type LIKE '%%cleared'");
const [line] = await read(client, 'ledger', "WHERE transaction_id = 'full'");
console.log(JSON.stringify({ found, payload: event.payload, amount: line.accounting_amount, day: line.booked_on }));
await client.end();
"""


def required(event: str) -> set[str]:
    names: list[str] = json.loads((SCHEMAS / f"{event}.json").read_text())["required"]
    return set(names)


@pytest.fixture
def stocked(acme: Acme) -> Acme:
    """Rows in every table and view: of payloads with all fields, and of payloads with those that they must have."""
    for event in EVENT_FLAGS:
        for name in ("full", "sparse", "twin"):
            payload = sample(event)
            if "transaction" in payload:
                payload["transaction"] = {"id": name}
            elif "state" in payload:
                payload["id"] = name
            if "accounting_amount" in payload:
                payload["accounting_amount"] = EXACT
            if name == "sparse":
                payload = {field: value if field in required(event) else None for field, value in payload.items()}
            if name != "twin" or event == "card.transaction.cleared":
                acme.deliver_ok(event, payload)
    acme.deliver_ok("card.transaction.authorized", snapshot("authorized", transaction="pending"))
    acme.deliver_ok("card.transaction.cleared", {**snapshot("cleared", transaction="no receipt"), "receiptable": True})
    acme.deliver_ok("card_holder.created", card_holder("new"))
    acme.process()
    acme.execute(CLOSING)
    acme.apply("card.transaction.invoiced", snapshot("invoiced", transaction="twin", accounting_amount=1))
    acme.apply("card.transaction.cleared", snapshot("cleared", transaction="late"))
    acme.execute("SELECT ems.commit_position('reader', 1)")
    assert recover(acme.engine).begun
    return acme


def fits(value: object, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(fits(value, each) for each in get_args(hint))
    return isinstance(value, get_origin(hint) or hint)


@pytest.fixture
def reading(stocked: Acme) -> Iterator[psycopg.Connection[Any]]:
    with connect(libpq(stocked.engine.url)) as connection:
        yield connection


def test_every_value_has_the_type_of_its_field(reading: psycopg.Connection[Any]) -> None:
    wrong, empty = [], []
    for kind in KINDS:
        hints = get_type_hints(kind)
        found = read(reading, kind)
        empty += [] if found else [kind.TABLE]
        wrong += [
            f"{kind.TABLE}.{name}: {getattr(row, name)!r}"
            for row in found
            for name in (field.name for field in fields(kind))
            if not fits(getattr(row, name), hints[name])
        ]
    assert empty == []
    assert wrong == []


def test_amounts_have_every_digit(reading: psycopg.Connection[Any]) -> None:
    (line,) = read(reading, rows.Ledger, "WHERE transaction_id = %s", ["full"])
    assert line.accounting_amount == EXACT
    (event,) = read(
        reading, rows.Event, "WHERE transaction_id = %s AND type = %s", ["full", "card.transaction.cleared"]
    )
    assert event.payload["accounting_amount"] == EXACT


def test_columns_of_a_later_release_change_nothing(reading: psycopg.Connection[Any]) -> None:
    with reading.transaction(force_rollback=True):
        reading.execute("ALTER TABLE ems.tpas ADD COLUMN of_a_later_release text")
        assert read(reading, rows.Tpa)


@pytest.fixture
def session(stocked: Acme) -> Iterator[Session]:
    engine = create_engine(stocked.engine.url, json_deserializer=exact_json)
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_the_keys_of_the_models_are_unique(session: Session) -> None:
    for mapper in Model.registry.mappers:
        number = session.scalar(select(func.count()).select_from(mapper.class_))
        assert len(set(session.scalars(select(mapper.class_)))) == number, mapper
        session.expunge_all()


def test_models_lead_to_what_belongs_together(session: Session) -> None:
    (full,) = session.scalars(select(Transaction).filter_by(id="full"))
    assert full.ledger is not None
    assert full.ledger.accounting_amount == full.accounting_amount == EXACT
    assert [receipt.transaction for receipt in full.receipts] == [full]
    assert full.card_holder is not None
    assert full.card_holder.reference_id == full.card_holder_reference_id
    cleared = [event for event in full.events if event.type == "card.transaction.cleared"]
    assert [event.payload["accounting_amount"] for event in cleared] == [EXACT]
    for relationship in Transaction.__mapper__.relationships:
        assert getattr(full, relationship.key) is not Ellipsis, relationship


def test_interfaces_of_typescript_fit_every_value(stocked: Acme, typescript: Path) -> None:
    names = runpy.run_path(str(CLIENTS / "generate.py"))
    described = described_by(stocked.engine, names["relations"])
    reader = {"EMS_URL": libpq(stocked.engine.url), "TABLES": json.dumps(list(described))}
    shown = node(OF_EACH_COLUMN % (typescript / "index.js"), **reader)
    wrong = []
    for table, found in shown["found"].items():
        declared = {column.name: names["typescript_type"](column).split(" | ") for column in described[table].columns}
        assert found, table
        wrong += [(table, name, kind) for row in found for name, kind in row.items() if kind not in declared[name]]
        assert {name for row in found for name in row} == set(declared)
    assert wrong == []
    assert (shown["amount"], shown["payload"]["accounting_amount"]) == (str(EXACT), str(EXACT))
    assert shown["payload"]["purchase_merchant"] == sample("card.transaction.cleared")["purchase_merchant"]
    assert shown["day"] == sample("card.transaction.cleared")["purchase_date"]


def described_by(engine: Engine, relations: Any) -> dict[str, Relation]:
    with engine.connect() as connection:
        return {relation.name: relation for relation in relations(connection)}
