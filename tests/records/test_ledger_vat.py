"""The ledger's VAT by rate: from the same source and in the same currency as the ledger's sum."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.factories import enrichment, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

BY_RATE = """
SELECT percentage, vat_amount, taxable_amount, total_amount, vat_currency, vat_source
FROM ems.ledger_vat ORDER BY percentage DESC NULLS LAST
"""


def rates(acme: Acme) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in acme.rows(BY_RATE)]


def rate(vat: str | None, percentage: int | None, currency: str | None = "EUR") -> dict[str, Any]:
    return {"vat_amount": vat and Decimal(vat), "percentage": percentage, "currency": currency}


def test_each_rate_of_the_merchant_is_a_row(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared"))
    acme.tell("transaction.true.vat", enrichment("transaction.true.vat"))
    assert rates(acme) == [
        (Decimal(19), Decimal("14.25"), Decimal("75.00"), Decimal("89.25"), "EUR", "merchant"),
        (Decimal("7.0"), Decimal("1.32"), Decimal("18.81"), Decimal("20.13"), "EUR", "merchant"),
    ]


def test_before_the_merchants_vat_the_networks_is_the_one_row(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared"))
    assert rates(acme) == [(Decimal(25), Decimal("21.88"), None, None, "EUR", "network")]


def test_a_purchase_without_vat_has_no_row(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared", vat_amount=None))
    assert rates(acme) == []


def test_what_is_not_final_has_no_row(acme: Acme) -> None:
    acme.tell("card.transaction.authorized", snapshot("authorized"))
    acme.tell("transaction.true.vat", enrichment("transaction.true.vat"))
    assert rates(acme) == []


def test_lines_of_one_rate_are_added_up(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared"))
    lines = [rate("1.10", 7), rate("2.20", 7), rate("3.00", 19)]
    acme.tell("transaction.true.vat", enrichment("transaction.true.vat", vat_rates=lines, totals=[]))
    assert [(row[0], row[1]) for row in rates(acme)] == [
        (Decimal(19), Decimal("3.00")),
        (Decimal(7), Decimal("3.30")),
    ]


@pytest.mark.parametrize("lines", [[], [rate("177.81", 25, "SEK")], [rate(None, 25)]])
def test_a_total_without_rates_in_its_currency_is_one_row_without_a_rate(
    acme: Acme, lines: list[dict[str, Any]]
) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared"))
    acme.tell("transaction.true.vat", enrichment("transaction.true.vat", vat_rates=lines))
    assert rates(acme) == [(None, Decimal("15.57"), None, None, "EUR", "merchant")]


MONEY = st.decimals(min_value=-999, max_value=999, places=2)
LINES = st.lists(
    st.fixed_dictionaries(
        {
            "vat_amount": st.none() | MONEY,
            "percentage": st.none() | st.sampled_from([0, 7, 19, 25]),
            "currency": st.sampled_from([None, "EUR", "SEK", "DKK"]),
        }
    ),
    max_size=4,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
def test_the_rates_add_up_to_the_ledgers_vat_whatever_a_receipt_tells(acme: Acme, lines: list[dict[str, Any]]) -> None:
    acme.execute("TRUNCATE ems.vat_rates, ems.vat_totals, ems.transactions, ems.events")
    acme.tell("card.transaction.cleared", snapshot("cleared"))
    acme.tell("transaction.true.vat", enrichment("transaction.true.vat", vat_rates=lines, totals=[]))
    summed = acme.row(
        "SELECT sum(vat_amount) AS vat, min(vat_currency) AS currency, min(vat_source) AS source FROM ems.ledger_vat"
    )
    line = acme.row("SELECT vat_amount AS vat, vat_currency AS currency, vat_source AS source FROM ems.ledger")
    assert summed == line
