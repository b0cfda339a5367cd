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

LINE = "SELECT vat_amount AS vat, vat_currency AS currency, vat_source AS source FROM ems.ledger"


def rates(acme: Acme) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in acme.rows(BY_RATE)]


def rate(vat: str | None, percentage: int | None, currency: str | None = "EUR") -> dict[str, Any]:
    return {"vat_amount": vat and Decimal(vat), "percentage": percentage, "currency": currency}


def test_each_rate_of_the_merchant_is_a_row(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat"))
    assert rates(acme) == [
        (Decimal(19), Decimal("14.25"), Decimal("75.00"), Decimal("89.25"), "EUR", "merchant"),
        (Decimal("7.0"), Decimal("1.32"), Decimal("18.81"), Decimal("20.13"), "EUR", "merchant"),
    ]


def test_before_the_merchants_vat_the_networks_is_the_one_row(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    assert rates(acme) == [(Decimal(25), Decimal("21.88"), None, None, "EUR", "network")]


def test_a_purchase_without_vat_has_no_row(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", vat_amount=None))
    assert rates(acme) == []


def test_purchase_that_is_not_final_has_no_vat_row(acme: Acme) -> None:
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat"))
    assert rates(acme) == []


def test_lines_of_one_rate_are_added_up(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    lines = [rate("1.10", 7), rate("2.20", 7), rate("3.00", 19)]
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat", vat_rates=lines, totals=[]))
    assert [(row[0], row[1]) for row in rates(acme)] == [
        (Decimal(19), Decimal("3.00")),
        (Decimal(7), Decimal("3.30")),
    ]


@pytest.mark.parametrize("lines", [[], [rate("177.81", 25, "SEK")], [rate(None, 25)]])
def test_total_without_rates_in_its_currency_is_one_row(acme: Acme, lines: list[dict[str, Any]]) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat", vat_rates=lines))
    assert rates(acme) == [(None, Decimal("15.57"), None, None, "EUR", "merchant")]


@pytest.mark.parametrize(
    ("lines", "total", "rows"),
    [
        ([rate("14.25", 19), rate(None, 7)], "15.57", [(19, "14.25"), (None, "1.32")]),
        ([rate("14.254", 19), rate("1.318", 7)], "15.57", [(19, "14.254"), (7, "1.318"), (None, "-0.002")]),
        ([rate("17.46", 25)], "999.00", [(25, "17.46"), (None, "981.54")]),
        ([rate("14.25", 19), rate("1.00", None)], "15.57", [(19, "14.25"), (None, "1.32")]),
    ],
    ids=["a rate without an amount", "rounding", "another total", "a rate without a percentage"],
)
def test_difference_to_the_total_is_a_row_without_a_rate(
    acme: Acme, lines: list[dict[str, Any]], total: str, rows: list[tuple[int | None, str]]
) -> None:
    apply_vat(acme, lines, [{"vat_amount": Decimal(total), "currency": "EUR"}])
    assert [row[:2] for row in rates(acme)] == [
        (None if percentage is None else Decimal(percentage), Decimal(vat)) for percentage, vat in rows
    ]


def test_a_total_of_nothing_is_a_row_too(acme: Acme) -> None:
    apply_vat(acme, [], [{"vat_amount": Decimal(0), "currency": "EUR"}])
    assert rates(acme) == [(None, Decimal(0), None, None, "EUR", "merchant")]


def test_vat_without_a_currency_is_in_that_of_the_purchase(acme: Acme) -> None:
    apply_vat(acme, [rate("2.00", 19, None)], [])
    assert acme.row(LINE) == {"vat": Decimal("2.00"), "currency": "EUR", "source": "merchant"}
    assert [row[1] for row in rates(acme)] == [Decimal("2.00")]


def test_network_vat_defaults_to_the_currency_of_the_purchase(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", vat_currency=None))
    assert acme.row(LINE) == {"vat": Decimal("21.88"), "currency": "EUR", "source": "network"}


def test_vat_is_kept_where_no_currency_is_known_at_all(acme: Acme) -> None:
    apply_vat(acme, [rate("2.00", 19, None)], [], original_currency=None)
    assert acme.row(LINE) == {"vat": Decimal("2.00"), "currency": None, "source": "merchant"}
    assert [row[1] for row in rates(acme)] == [Decimal("2.00")]


def test_currency_without_vat_is_null(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", vat_amount=None))
    assert acme.row(LINE) == {"vat": None, "currency": None, "source": None}


def test_vat_of_a_refund_is_negative(acme: Acme) -> None:
    lines = [rate("14.25", 19) | {"taxable_amount": Decimal("75.00"), "total_amount": Decimal("89.25")}]
    totals = [{"vat_amount": Decimal("14.25"), "currency": "EUR"}]
    apply_vat(acme, lines, totals, original_amount=Decimal("-89.25"))
    assert acme.row(LINE)["vat"] == Decimal("-14.25")
    assert [row[:4] for row in rates(acme)] == [
        (Decimal(19), Decimal("-14.25"), Decimal("-75.00"), Decimal("-89.25")),
    ]


def test_negative_vat_of_a_refund_stays_negative(acme: Acme) -> None:
    apply_vat(acme, [rate("-14.25", 19)], [], original_amount=Decimal("-89.25"))
    assert [row[1] for row in rates(acme)] == [Decimal("-14.25")]


def test_tax_base_of_a_refund_without_vat_is_negative(acme: Acme) -> None:
    lines = [rate("0", 0) | {"taxable_amount": Decimal("89.25"), "total_amount": Decimal("89.25")}]
    apply_vat(acme, lines, [], original_amount=Decimal("-89.25"))
    assert [row[:4] for row in rates(acme)] == [(Decimal(0), Decimal(0), Decimal("-89.25"), Decimal("-89.25"))]
    lines = [rate("0", 0) | {"taxable_amount": Decimal("-89.25"), "total_amount": Decimal("-89.25")}]
    apply_vat(acme, lines, [], original_amount=Decimal("-89.25"))
    assert [row[:4] for row in rates(acme)] == [(Decimal(0), Decimal(0), Decimal("-89.25"), Decimal("-89.25"))]


def test_network_vat_of_a_refund_is_negative(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", original_amount=Decimal("-109.38")))
    assert acme.row(LINE)["vat"] == Decimal("-21.88")
    assert [row[1] for row in rates(acme)] == [Decimal("-21.88")]


@pytest.mark.parametrize(("country", "expected"), [("SE", "SE"), (None, "IE"), ("", "IE")])
def test_country_is_the_receipts_where_it_names_one(acme: Acme, country: str | None, expected: str) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", purchase_country="IE"))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat", purchase_country=country))
    assert {row["purchase_country"] for row in acme.rows("SELECT * FROM ems.ledger_vat")} == {expected}


MONEY = st.decimals(min_value=-999, max_value=999, places=2) | st.decimals(min_value=-9, max_value=9, places=4)
CURRENCY = st.sampled_from([None, "EUR", "SEK", "DKK"])
TOTALS = st.lists(st.fixed_dictionaries({"vat_amount": st.none() | MONEY, "currency": CURRENCY}), max_size=3)
LINES = st.lists(
    st.fixed_dictionaries(
        {
            "vat_amount": st.none() | MONEY,
            "percentage": st.none() | st.sampled_from([0, 7, 19, 25]),
            "currency": CURRENCY,
        }
    ),
    max_size=4,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, totals=TOTALS, amount=st.none() | MONEY, currency=st.sampled_from([None, "EUR"]))
def test_rows_add_up_to_the_ledger_whatever_a_receipt_says(
    acme: Acme,
    lines: list[dict[str, Any]],
    totals: list[dict[str, Any]],
    amount: Decimal | None,
    currency: str | None,
) -> None:
    acme.execute("TRUNCATE ems.vat_rates, ems.vat_totals, ems.transactions, ems.events")
    apply_vat(acme, lines, totals, original_amount=amount, original_currency=currency)
    summed = acme.row(
        "SELECT sum(vat_amount) AS vat, min(vat_currency) AS currency, min(vat_source) AS source FROM ems.ledger_vat"
    )
    assert summed == acme.row(LINE)


def apply_vat(acme: Acme, lines: list[dict[str, Any]], totals: list[dict[str, Any]], **purchase: Any) -> None:
    acme.deliver_ok("card.transaction.cleared", snapshot("cleared", **purchase))
    acme.deliver_ok("transaction.true.vat", enrichment("transaction.true.vat", vat_rates=lines, totals=totals))
    acme.process()
