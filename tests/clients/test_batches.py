"""``follow()`` as a function: batches, the end, and what it raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from opencard_ems import follow, rows
from tests.clients.conftest import node
from tests.support.factories import card_holder, snapshot
from tests.support.roles import libpq

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import URL

    from tests.conftest import Acme


def test_batches_are_no_larger_than_asked_for(acme: Acme, ems: URL) -> None:
    for number in range(5):
        acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction=f"transaction-{number}"))
    acme.process()
    batches = list(follow(libpq(ems), 0, batch_size=2, wait=False))
    assert [len(batch.events) for batch in batches] == [2, 2, 1]
    assert [event.position for batch in batches for event in batch.events] == [
        row["position"] for row in acme.rows("SELECT position FROM ems.events ORDER BY position")
    ]
    assert [batch.position for batch in batches] == [batch.events[-1].position for batch in batches]
    assert list(follow(libpq(ems), batches[-1].position, wait=False)) == []


def test_a_batch_reads_each_changed_purchase_once(acme: Acme, ems: URL) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", transaction="before"))
    position = acme.value("SELECT max(position) FROM ems.events")
    for state in ("authorized", "cleared", "invoiced"):
        acme.apply(f"card.transaction.{state}", snapshot(state, transaction="one"))
    acme.apply("card_holder.created", card_holder())
    for batch in follow(libpq(ems), position, wait=False):
        assert [(line.transaction_id, line.state) for line in batch.read(rows.Ledger)] == [("one", "invoiced")]
        assert [purchase.id for purchase in batch.read(rows.Transaction)] == ["one"]
        assert batch.read(rows.Receipt) == []


def test_a_position_is_committed_when_the_next_is_asked_for(acme: Acme, ems: URL) -> None:
    for number in range(2):
        acme.apply("card.transaction.cleared", snapshot("cleared", transaction=f"transaction-{number}"))
    committed = "SELECT position FROM ems.consumers"
    batches = follow(libpq(ems), 0, batch_size=1, wait=False)
    first = next(batches)
    assert acme.value(committed) == 0
    next(batches)
    assert acme.value(committed) == first.position


def test_a_consumer_that_is_not_granted_is_an_error(ems: URL) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="grant-reader"):
        next(follow(libpq(ems), 0, consumer="of another"))


def test_a_first_connection_that_fails_is_an_error(nowhere: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        next(follow(nowhere.replace("http", "postgresql"), 0))


IN_TYPESCRIPT = """
import { follow } from '%s';
const url = process.env.EMS_URL;
const batches = [];
for await (const batch of follow({ url, position: 0n, batchSize: 2, wait: false })) batches.push(batch.events.length);
const read = [];
for await (const batch of follow({ url, position: 0n, wait: false })) {
    read.push((await batch.read('transactions')).map((row) => row.id).sort(), (await batch.read('receipts')).length);
}
const controller = new AbortController();
const { signal } = controller;
for await (const _batch of follow({ url, position: 0n, signal })) setTimeout(() => controller.abort(), 50);
const failure = async (options) => {
    try {
        for await (const _batch of follow({ position: 0n, ...options })) break;
    } catch (error) {
        return error.code;
    }
};
const errors = [await failure({ url, consumer: 'of another' }), await failure({ url: process.env.NOWHERE })];
console.log(JSON.stringify({ batches, read, errors }));
"""


def test_typescript_has_batches_ends_and_throws(acme: Acme, ems: URL, typescript: Path, nowhere: str) -> None:
    for number in range(3):
        acme.deliver_ok("card.transaction.authorized", snapshot("authorized", transaction=f"transaction-{number}"))
    acme.process()
    addresses = {"EMS_URL": libpq(ems), "NOWHERE": nowhere.replace("http", "postgresql")}
    assert node(IN_TYPESCRIPT % (typescript / "index.js"), **addresses) == {
        "batches": [2, 1],
        "read": [["transaction-0", "transaction-1", "transaction-2"], 0],
        "errors": ["42501", "ECONNREFUSED"],
    }
