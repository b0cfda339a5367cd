"""The rows of an export, by its window of time."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.exports.export import columns_of
from receiver.exports.source import SOURCES, By, Format, Window, rows_query
from tests.support.factories import enrichment, sample, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from tests.conftest import Acme


def exported(export: Callable[..., Result], *arguments: str) -> list[str]:
    shown = export(*arguments, "--format", "jsonl").stdout_bytes.decode().splitlines()
    return [json.loads(line).get("transaction_id") or json.loads(line)["id"] for line in shown]


def test_from_since_on_and_before_until(filled: Acme, export: Callable[..., Result]) -> None:
    for number in range(4):
        filled.execute(
            "UPDATE ems.transactions SET updated_at = CAST(:day AS timestamptz) WHERE id = :id",
            day=f"2020-01-0{number + 1}T00:00:00Z",
            id=f"transaction-{number}",
        )
    window = ("--since", "2020-01-02", "--until", "2020-01-04T00:00:00Z", "--organization", "acme")
    for name in ("transactions", "ledger"):
        assert exported(export, name, "--by", "updated", *window) == ["transaction-1", "transaction-2"]
    assert len(exported(export, "transactions", "--since", "1h", "--organization", "acme")) == 12
    assert len(exported(export, "ledger", "--by", "updated", "--until", "2020-01-03")) == 2


FEBRUARY = ("--since", "2026-02-01", "--until", "2026-03-01")


def test_a_booked_month_stays_the_same_when_it_is_invoiced(acme: Acme, export: Callable[..., Result]) -> None:
    for number, day in enumerate(("2026-01-31", "2026-02-01", "2026-02-28", "2026-03-01")):
        acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction=f"t{number}", purchase_date=day))
    acme.process()
    before = exported(export, "ledger", *FEBRUARY)
    acme.apply("card.transaction.invoiced", snapshot("invoiced", transaction="t1", purchase_date="2026-02-01"))
    assert exported(export, "ledger", *FEBRUARY) == before == ["t1", "t2"]
    assert exported(export, "ledger_vat", "--by", "booked", *FEBRUARY) == ["t1", "t2"]
    assert sorted(exported(export, "transactions", "--by", "purchase", *FEBRUARY)) == ["t1", "t2"]


def test_a_day_counts_as_its_midnight(acme: Acme, export: Callable[..., Result]) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", transaction="t", purchase_date="2026-02-13"))
    for since, until, found in (
        ("2026-02-13", "2026-02-14", ["t"]),
        ("2026-02-12T12:00:00Z", "2026-02-13T12:00:00Z", ["t"]),
        ("2026-02-13T00:00:01Z", "2026-02-14", []),
        ("2026-02-12", "2026-02-13", []),
    ):
        assert exported(export, "ledger", "--since", since, "--until", until) == found, since


@pytest.mark.parametrize(("name", "event"), [("line_items", "transaction.line.items"), ("receipts", "receipt.fetched")])
def test_rows_of_a_purchase_are_found_by_its_day(
    acme: Acme, export: Callable[..., Result], name: str, event: str
) -> None:
    for transaction, day in (("transaction-1", "2026-02-13"), ("transaction-2", "2026-03-13")):
        acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction=transaction, purchase_date=day))
        acme.deliver_ok(event, enrichment(event, transaction=transaction))
    acme.process()
    assert set(exported(export, name, *FEBRUARY)) == {"transaction-1"}
    assert set(exported(export, name)) == {"transaction-1", "transaction-2"}
    assert set(exported(export, name, "--by", "updated", "--until", "2020-01-01")) == set()


@pytest.mark.parametrize("name", SOURCES)
def test_each_table_is_exported_with_all_its_columns(acme: Acme, export: Callable[..., Result], name: str) -> None:
    for event in ("card.transaction.cleared", "card_holder.created", "invoice.created"):
        acme.deliver_ok(event, sample(event))
    acme.process()
    heading = export(name).stdout_bytes.decode().splitlines()[0].split(",")
    with acme.engine.connect() as connection:
        assert heading == list(columns_of(connection, SOURCES[name]))
    assert export(name, "--until", "2020-01-01", "--by", SOURCES[name].default).exit_code == 0


def test_date_that_a_table_lacks_is_refused(export: Callable[..., Result]) -> None:
    refused = export("card_holders", "--by", "booked")
    assert (refused.exit_code, "'updated'" in refused.stderr) == (2, True)


def test_excel_gets_its_own_csv(acme: Acme, export: Callable[..., Result]) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", purchase_merchant_common="A;B, C"))
    written = export("ledger", "--excel").stdout_bytes
    assert written.startswith(b"\xef\xbb\xbf")
    (row,) = csv.DictReader(io.StringIO(written.decode("utf-8-sig"), newline=""), delimiter=";")
    assert (row["accounting_amount"], row["merchant"], row["booked_on"]) == ("1249,06", "A;B, C", "2026-02-13")
    assert export("ledger", "--excel", "--format", "jsonl").exit_code == 2


def test_feed_export_is_ordered_by_when_events_took_effect(filled: Acme, export: Callable[..., Result]) -> None:
    filled.execute("UPDATE ems.events SET recorded_at = '2020-01-01' WHERE transaction_id = 'transaction-7'")
    assert exported(export, "events", "--until", "2020-01-02") == ["transaction-7"]
    shown = export("events", "--format", "jsonl").stdout_bytes.decode().splitlines()
    positions = [json.loads(line)["position"] for line in shown]
    assert positions == sorted(positions)


def test_only_the_organizations_that_are_named(filled: Acme, export: Callable[..., Result]) -> None:
    del filled
    assert exported(export, "transactions", "--organization", "globex") == ["transaction-1"]
    assert len(exported(export, "transactions", "--organization", "globex", "--organization", "acme")) == 17


@pytest.mark.parametrize("name", ["transactions", "ledger", "events"])
def test_a_window_is_found_by_an_index(acme: Acme, name: str) -> None:
    window = Window(by=By.UPDATED)
    time = SOURCES[name].times[By.UPDATED]
    with acme.engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_indexscan = off"))
        query = rows_query(SOURCES[name], window, columns_of(connection, SOURCES[name]), Format.CSV)
        query = query.replace(" ORDER BY", f" AND {time} >= now() - interval '1 day' ORDER BY")
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {query}")))
    assert f"{time} >=" in "\n".join(line for line in plan.splitlines() if "Index Cond" in line), plan
