"""Purchases are found as tickets name them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.ops.purchases import PurchaseFilter, find_purchases
from receiver.ops.purchases.search import PURCHASED_ON, _place, merchant_pattern
from receiver.records.models import transactions
from tests.support.factories import snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

MUELLER = {"purchase_merchant": "CAFE MÜLLER 0042 BERLIN", "purchase_merchant_common": "Café Müller"}
KIOSK = {"purchase_merchant": "KIOSK 100% BIO", "purchase_merchant_common": None}


def found(
    acme: Acme, *, before: str | None = None, limit: int = 50, max_examined: int = 10_000, **wanted: Any
) -> list[str]:
    with acme.engine.connect() as connection:
        page = find_purchases(
            connection, PurchaseFilter(**wanted), before=before, limit=limit, max_examined=max_examined
        )
    return [row.id for row in page.rows]


@pytest.fixture
def bought(organizations: Organizations) -> Acme:
    """Four purchases of two organizations, from three days."""
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    common: dict[str, Any] = {"purchase_date": "2026-10-12", "original_amount": Decimal("245.50"), **MUELLER}
    acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction="t1", **common))
    acme.deliver_ok(
        "card.transaction.authorized",
        snapshot(
            "authorized",
            transaction="t2",
            purchase_date="2026-10-13",
            original_amount=Decimal("-20.00"),
            original_currency="SEK",
            accounting_amount=Decimal("-20.00"),
            card_holder={"reference_id": "employee-18"},
            card_last_four="9999",
            **KIOSK,
        ),
    )
    acme.deliver_ok(
        "card.transaction.invoiced", snapshot("invoiced", transaction="t3", **{**common, "purchase_date": None})
    )
    theirs = snapshot("cleared", transaction="t4", organization={"reference_id": "globex"}, **common)
    globex.apply("card.transaction.cleared", {**theirs, "purchase_date": "2026-10-11"})
    acme.execute(
        "UPDATE ems.transactions SET snapshot_at = '2026-10-14T23:30:00Z', invoice_number = 'inv-7' WHERE id = 't3'"
    )
    return acme


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, ["t3", "t2", "t1", "t4"]),
        ({"organizations": ("acme",)}, ["t3", "t2", "t1"]),
        ({"organizations": ("acme", "globex")}, ["t3", "t2", "t1", "t4"]),
        ({"organizations": ("nobody",)}, []),
        ({"merchant": "müller"}, ["t3", "t1", "t4"]),
        ({"merchant": "MÜLLER 0042"}, ["t3", "t1", "t4"]),
        ({"merchant": "café mü"}, ["t3", "t1", "t4"]),
        ({"merchant": "100%"}, ["t2"]),
        ({"merchant": "1%0"}, []),
        ({"merchant": "K_OSK"}, []),
        ({"amount": Decimal("245.5")}, ["t3", "t1", "t4"]),
        ({"amount": Decimal("1249.06")}, ["t3", "t1", "t4"]),
        ({"amount": Decimal(20)}, ["t2"]),
        ({"amount": Decimal(-20)}, ["t2"]),
        ({"amount": Decimal(245)}, []),
        ({"amount": Decimal(245), "tolerance": Decimal("0.50")}, ["t3", "t1", "t4"]),
        ({"amount": Decimal("245.50"), "currency": "EUR"}, ["t3", "t1", "t4"]),
        ({"amount": Decimal("245.50"), "currency": "SEK"}, []),
        ({"currency": "SEK"}, ["t3", "t2", "t1", "t4"]),
        ({"currency": "EUR"}, ["t3", "t1", "t4"]),
        ({"first_day": date(2026, 10, 12), "last_day": date(2026, 10, 12)}, ["t1"]),
        ({"first_day": date(2026, 10, 13)}, ["t3", "t2"]),
        ({"last_day": date(2026, 10, 11)}, ["t4"]),
        ({"first_day": date(2026, 10, 14), "last_day": date(2026, 10, 14)}, ["t3"]),
        ({"last_four": "9999"}, ["t2"]),
        ({"card_holder_reference_id": "employee-18"}, ["t2"]),
        ({"card_holder_reference_id": "employee-17", "organizations": ("acme",)}, ["t3", "t1"]),
        ({"invoice_number": "inv-7"}, ["t3"]),
        ({"transaction_id": "t4"}, ["t4"]),
        ({"transaction_id": "t4", "organizations": ("acme",)}, []),
        ({"transaction_id": "t1", "first_day": date(2026, 10, 13)}, []),
        ({"merchant": "müller", "amount": Decimal("245.50"), "organizations": ("acme",)}, ["t3", "t1"]),
    ],
)
def test_each_filter_restricts(bought: Acme, wanted: dict[str, Any], ids: list[str]) -> None:
    assert found(bought, **wanted) == ids


def test_rows_hold_nothing_personal(bought: Acme) -> None:
    with bought.engine.connect() as connection:
        words = str(find_purchases(connection, PurchaseFilter()).rows)
    assert "Café Müller" in words
    assert "KIOSK" in words
    assert "employee" not in words
    assert "9999" not in words


@pytest.mark.parametrize("wanted", [{}, {"merchant": "café"}, {"card_holder_reference_id": "employee-17"}])
@pytest.mark.parametrize(("limit", "max_examined"), [(1, 100), (2, 100), (3, 100), (2, 2), (3, 1), (1, 3)])
def test_pages_continue_without_gap_or_repetition(
    acme: Acme, wanted: dict[str, Any], limit: int, max_examined: int
) -> None:
    for number in range(7):
        day = f"2026-10-{10 + number // 3}"
        merchant = "Café Müller" if number % 2 else "Kiosk Café"
        acme.deliver_ok(
            "card.transaction.cleared",
            snapshot("cleared", transaction=f"t{number}", purchase_date=day, purchase_merchant=merchant),
        )
    acme.process()
    seen: list[str] = []
    before = None
    with acme.engine.connect() as connection:
        while True:
            page = find_purchases(
                connection, PurchaseFilter(**wanted), before=before, limit=limit, max_examined=max_examined
            )
            seen += [row.id for row in page.rows]
            before = page.before
            if before is None:
                break
    assert seen == ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]


def test_page_that_looked_at_enough_says_how_far(bought: Acme) -> None:
    with bought.engine.connect() as connection:
        page = find_purchases(connection, PurchaseFilter(merchant="nothing such"), max_examined=2)
        assert (page.rows, page.looked_back_to) == ((), date(2026, 10, 13))
        assert page.before is not None
        page = find_purchases(connection, PurchaseFilter(merchant="nothing such"), before=page.before, max_examined=2)
        assert (page.rows, page.looked_back_to) == ((), date(2026, 10, 11))


@given(st.text())
def test_place_of_no_page_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="is not a value that the list printed"):
        _place(token)


def test_letters_beyond_ascii_match_any_letter() -> None:
    assert merchant_pattern("Café 100%_\\") == "%Caf_ 100\\%\\_\\\\%"


def test_day_is_the_expression_of_the_index() -> None:
    assert PURCHASED_ON == transactions.PURCHASED_ON
