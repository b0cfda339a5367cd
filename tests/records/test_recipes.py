"""The recipes that the EMS's developers read: each runs as a reader, and answers what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from tests.support.factories import enrichment, sample, snapshot
from tests.support.filled_tables import nodes
from tests.support.program import db
from tests.support.roles import new_role, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from sqlalchemy import Engine

    from tests.conftest import Acme, Organizations

PAGES = sorted((Path(__file__).parents[2] / "docs" / "ems").glob("*.md"))
RECIPES = [recipe for page in PAGES for recipe in re.findall(r"```sql\n(.*?)```", page.read_text(), flags=re.DOTALL)]
MONTHS = [recipe for recipe in RECIPES if re.search(r"FROM ems.ledger(_vat)?\s.*booked_on >=", recipe, flags=re.DOTALL)]
"""Those that read a month of the ledger."""
EMPTY = {"consumers", "feed_horizon"}
"""What has no row as long as nothing was deleted, no epoch began, and no reader has registered."""

CLOSE_JANUARY = """
INSERT INTO ems.closings (organization_reference_id, month, closed_at, closed_by, complete_from, complete_through,
    acknowledged_gaps, position, lines, sums, vat_sums, sha256)
SELECT 'nordlys-as', '2026-01-01', now(), 'operator', '2026-01-01 00:00Z', now(), 0,
    max(position), 1, '{}', '{}', '' FROM ems.events
"""

RECONCILED = """
UPDATE ems.organizations SET log_begins_at = '2026-01-01 00:00Z';
INSERT INTO receiver.reconcile_runs (webhook_id, started_at, ended_at, checked_until)
SELECT id, times.at, times.at, times.at FROM receiver.webhooks, (SELECT now() + interval '10 years' AS at) AS times
"""

YEARS_OF_PURCHASES = """
INSERT INTO ems.transactions (organization_reference_id, id, state, card_holder_reference_id,
    original_amount, original_currency, accounting_amount, accounting_currency, vat_amount, vat_currency, booked_on,
    snapshot_at, delivery_id, updated_at)
SELECT 'nordlys-as', 'transaction-' || n, 'cleared', 'employee-' || n % 500, n, 'SEK', n, 'NOK', 1, 'NOK',
    date '2023-01-01' + n % 1400, now(), n, now()
FROM generate_series(1, 200000) AS n
"""


@pytest.fixture
def nordlys(organizations: Organizations) -> Acme:
    """The organization of the recipes: purchases complete, twice, billed, refunded, late, and open for long."""
    nordlys = organizations.adopt("nordlys-as")
    owner = {"organization": {"reference_id": "nordlys-as"}}
    for transaction in ("transaction-1", "transaction-2"):
        cleared = snapshot("cleared", transaction=transaction, receiptable=True, purchase_date="2026-01-13")
        nordlys.deliver_ok("card.transaction.cleared", cleared | owner)
    nordlys.deliver_ok("card.transaction.authorized", snapshot("authorized", transaction="open") | owner)
    for event in ("receipt.fetched", "transaction.true.vat"):
        nordlys.deliver_ok(event, enrichment(event) | owner)
    nordlys.deliver_ok("tpa.signed", sample("tpa.signed") | owner)
    nordlys.deliver_ok("invoice.created", sample("invoice.created"))
    nordlys.deliver_ok("card.transaction.invoiced", snapshot("invoiced", transaction="billed") | owner)
    nordlys.deliver_ok(
        "card.transaction.cleared", snapshot("cleared", transaction="billed", accounting_amount=99) | owner
    )
    refund = snapshot("cleared", transaction="refund", original_amount=-109.38, accounting_amount=-1249.06)
    nordlys.deliver_ok("card.transaction.cleared", refund | owner)
    nordlys.deliver_ok(
        "card.transaction.cleared", snapshot("cleared", transaction="late", purchase_date="2026-01-13") | owner
    )
    nordlys.process()
    nordlys.execute(CLOSE_JANUARY)
    changed = snapshot("cleared", transaction="late", purchase_date="2026-01-13", purchase_city=None, vat_amount=None)
    nordlys.apply("card.transaction.cleared", changed | owner)
    nordlys.execute("UPDATE ems.transactions SET cleared_at = now() - interval '5 days' WHERE id = 'transaction-2'")
    nordlys.execute("UPDATE ems.transactions SET authorized_at = now() - interval '11 days' WHERE id = 'open'")
    return nordlys


@pytest.fixture
def reader(nordlys: Acme) -> Iterator[str]:
    with new_role(nordlys.engine.url) as role:
        assert db(nordlys.engine.url, "grant-reader", role).exit_code == 0
        yield role


def test_there_are_recipes() -> None:
    assert len(RECIPES) > 8


def test_month_may_be_closed_when_nothing_speaks_against_it(nordlys: Acme, reader: str) -> None:
    [recipe] = [each for each in RECIPES if "may_close" in each]

    def answer() -> list[object]:
        [row] = read(nordlys.engine.url, reader, recipe)
        return [row[0], row[1], row[6] is None, row[7]]

    assert answer() == [False, False, False, None], "the log is not read, and January is closed"
    nordlys.execute("DELETE FROM ems.closings")
    nordlys.execute(RECONCILED)
    assert answer() == [True, True, True, None]
    nordlys.execute("UPDATE ems.organizations SET log_begins_at = '2026-01-01 00:00:01Z'")
    assert answer() == [False, False, True, None], "the log begins within January"
    nordlys.execute("UPDATE ems.organizations SET log_begins_at = '2026-01-01 00:00Z'")
    nordlys.execute("UPDATE ems.invoices SET invoice_date = '2026-01-31', invoice_number = 'F-7', invoice_amount = 1")
    assert answer() == [False, True, True, ["F-7"]]


def test_change_of_a_closed_month_counts_moved_lines_on_one_side(nordlys: Acme, reader: str) -> None:
    [recipe] = [each for each in RECIPES if "AS change" in each]

    def january() -> dict[str, Decimal]:
        rows = nordlys.rows(
            "SELECT accounting_currency, sum(accounting_amount) AS sum FROM ems.ledger "
            "WHERE booked_on >= '2026-01-01' AND booked_on < '2026-02-01' GROUP BY 1"
        )
        return {row["accounting_currency"]: row["sum"] for row in rows}

    def send(transaction: str, day: str, amount: float) -> None:
        sent = snapshot("cleared", transaction=transaction, purchase_date=day, accounting_amount=amount)
        nordlys.apply("card.transaction.cleared", sent | {"organization": {"reference_id": "nordlys-as"}})

    nordlys.execute("DELETE FROM ems.closings")
    send("moves-in", "2026-02-02", 300)
    nordlys.execute(CLOSE_JANUARY)
    before = january()
    send("transaction-1", "2026-02-01", 1000)  # leaves January
    send("moves-in", "2026-01-31", 300.5)
    send("transaction-2", "2026-01-20", 7)
    send("new", "2026-01-05", 11)
    after = january()
    answer = {currency: change for currency, change in read(nordlys.engine.url, reader, recipe) if change}
    assert answer == {currency: after[currency] - before[currency] for currency in after}
    assert answer


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_runs_as_a_reader_and_finds_something(nordlys: Acme, reader: str, recipe: str) -> None:
    found = read(nordlys.engine.url, reader, recipe)
    assert bool(found) is not any(name in recipe for name in EMPTY)


def test_month_of_200_000_purchases_is_read_by_index(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(YEARS_OF_PURCHASES))
        connection.execute(text("ANALYZE ems.transactions"))
    assert len(MONTHS) == 4
    for recipe in MONTHS:
        with engine.connect() as connection:
            (explained,) = connection.execute(text(f"EXPLAIN (FORMAT json) {recipe}")).scalar_one()
        read = list(nodes(explained["Plan"]))
        assert ("Seq Scan", "transactions") not in [(node["Node Type"], node.get("Relation Name")) for node in read]
        [by_day] = [node for node in read if node.get("Index Name") == "ix_transactions_booked_on"]
        assert "(organization_reference_id = 'nordlys-as'::text)" in by_day["Index Cond"]
        assert "(booked_on >= '2026-01-01'::date) AND (booked_on < '2026-02-01'::date)" in by_day["Index Cond"]
