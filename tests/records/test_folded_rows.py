"""A batch writes the rows of the subjects that it has events of, and touches no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.factories import enrichment

if TYPE_CHECKING:
    from tests.conftest import Acme

VAT, ITEMS = "transaction.true.vat", "transaction.line.items"


def test_items_of_a_purchase_leave_its_vat_alone(acme: Acme) -> None:
    acme.apply(VAT, enrichment(VAT, transaction="one"))
    before = acme.rows("SELECT * FROM ems.vat_rates")
    acme.deliver_ok(ITEMS, enrichment(ITEMS, transaction="one"))
    acme.deliver_ok(VAT, enrichment(VAT, transaction="another"))
    acme.process()
    assert before
    assert acme.rows("SELECT * FROM ems.vat_rates WHERE transaction_id = 'one'") == before
