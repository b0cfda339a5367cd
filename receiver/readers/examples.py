"""An example of what stands in each column, for the dictionary. One purchase is meant, as far as that goes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_NAME: Final[Mapping[str, str]] = MappingProxyType(
    {
        "organization_reference_id": "nordlys-as",
        "card_holder_reference_id": "employee-17",
        "other_card_holder_reference_id": "employee-17",
        "transaction_id": "7c1e5d0e-5b1f",
        "other_transaction_id": "9d8e3a9f-6a1b",
        "state": "cleared",
        "receiptable": "true",
        "card_issuer": "nordic-card-bank",
        "card_issuer_reference": "CLR-20260216-004410",
        "cleared_card_issuer_reference": "CLR-20260216-004410",
        "card_issuer_customer_number": "880041",
        "type": "CARD_PURCHASE",
        "payment_product_id": "nordkort-business-gold",
        "payment_product_name": "Nordkort Business Gold",
        "card_funding": "credit",
        "days_missing": "6",
        "invoice_number": "2026-0231",
        "invoice_date": "2026-02-28",
        "due_date": "2026-03-30",
        "invoice_amount": "48211.50",
        "invoice_currency": "SEK",
        "no_of_transactions": "112",
        "original_amount": "109.38",
        "original_currency": "EUR",
        "accounting_amount": "1249.06",
        "accounting_currency": "SEK",
        "exchange_rate": "11.4195",
        "vat_rate": "25",
        "vat_amount": "15.57",
        "vat_currency": "EUR",
        "vat_source": "merchant",
        "network_vat_rate": "25",
        "network_vat_amount": "21.88",
        "network_vat_currency": "EUR",
        "percentage": "19",
        "taxable_amount": "93.81",
        "total_amount": "109.38",
        "amount": "12.50",
        "quantity": "2",
        "currency": "EUR",
        "line_number": "1",
        "description": "Lunch menu",
        "purchase_merchant": "CAFE MÜLLER 0042 BERLIN",
        "purchase_merchant_common": "Café Müller",
        "merchant": "Café Müller",
        "other_merchant": "Café Müller",
        "purchase_date": "2026-02-13",
        "purchase_time": "12:41:07",
        "purchase_timezone": "Europe/Berlin",
        "purchase_country": "DE",
        "purchase_city": "Berlin",
        "card_id": "40817",
        "card_product": "Corporate Gold",
        "card_type": "corporate",
        "card_last_four": "4242",
        "mcc_code": "5812",
        "mcc_text": "Eating places and restaurants",
        "mcc_top_level": "Food",
        "branch_code": "56100",
        "branch_text": "Restaurants",
        "category_text": "Meals",
        "number_of_items": "2",
        "number_of_receipts": "1",
        "receipt_url": "https://…/receipts/9f2c",
        "receipt_file_key": "sha256/3b/7f/…",
        "receipt_content_type": "application/pdf",
        "content_type": "application/pdf",
        "file_key": "sha256/3b/7f/…",
        "file_size": "48213",
        "file_sha256": "3b7f…",
        "download_error": "404 Not Found",
        "age": "3 days 02:10:44",
        "days_open": "3",
        "provider": "aland_index",
        "carbon_emission_in_grams": "4120.5",
        "carbon_social_cost_amount": "0.41",
        "carbon_social_cost_currency": "EUR",
        "organization_number": "5561234567",
        "name": "Nordlys AS",
        "position": "4711",
        "deleted_through": "3000",
        "epoch": "1",
        "epoch_start": "1100473488640",
        "subject_id": "7c1e5d0e-5b1f",
        "fingerprint": "\\x51c0…",
        "source": "push",
        "delivery_id": "81234",
        "payload": '{"id": "7c1e5d0e-5b1f", …}',
    }
)
_OF_ONE_TABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "transactions.id": "7c1e5d0e-5b1f",
        "transaction_states.id": "4711",
        "tpas.id": "tpa-311",
        "tpas.url": "https://…/tpas/311.pdf",
        "invoices.id": "inv-5520",
        "transactions.unreadable": "{purchase_time}",
        "receipts.url": "https://…/receipts/9f2c",
        "receipts.url_sha256": "\\x9d41…",
        "card_holders.reference_id": "employee-17",
        "events.type": "card.transaction.cleared",
        "feed_horizon.id": "1",
        "transactions.vat_amount": "21.88",
        "transaction_states.vat_amount": "21.88",
        "vat_rates.vat_amount": "14.25",
        "vat_rates.taxable_amount": "75.00",
        "vat_rates.total_amount": "89.25",
        "ledger_vat.vat_amount": "14.25",
        "ledger_vat.taxable_amount": "75.00",
        "ledger_vat.total_amount": "89.25",
        "line_items.total_amount": "25.00",
        "pending_transactions.merchant": "Café Müller",
    }
)
_MOMENT: Final = "2026-02-13 11:41:09+00"


def example(relation: str, column: str, kind: str) -> str:
    """Return what may stand in *column* of *relation*; *kind*: its type. Empty where no example is known."""
    known = _OF_ONE_TABLE.get(f"{relation}.{column}") or _BY_NAME.get(column)
    if known is None and kind == "timestamp with time zone":
        return _MOMENT
    return known or ""
