"""What differs between two payloads, field by field. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PERSONAL_COLUMNS: Final = frozenset({"card_holder", "card_holder_reference_id", "card_id", "card_last_four", "url"})
"""Fields about a person or a person's card. The address of a receipt may be all that is needed to read it."""
PUBLIC: Final = frozenset(
    [
        "accounting_amount",
        "accounting_currency",
        "amount",
        "branch_code",
        "branch_text",
        "carbon_emission_in_grams",
        "carbon_social_cost_amount",
        "carbon_social_cost_currency",
        "card_funding",
        "card_issuer",
        "card_issuer_customer_number",
        "card_issuer_reference",
        "card_product",
        "card_type",
        "category_text",
        "content_type",
        "currency",
        "description",
        "due_date",
        "exchange_rate",
        "expiration_time",
        "id",
        "invoice_amount",
        "invoice_currency",
        "invoice_date",
        "invoice_number",
        "line_items",
        "mcc_code",
        "mcc_text",
        "mcc_top_level",
        "name",
        "no_of_transactions",
        "organization",
        "organization_number",
        "original_amount",
        "original_currency",
        "payment_product",
        "percentage",
        "purchase_city",
        "purchase_country",
        "purchase_date",
        "purchase_merchant",
        "purchase_merchant_common",
        "purchase_time",
        "purchase_timezone",
        "quantity",
        "receiptable",
        "reference_id",
        "state",
        "taxable_amount",
        "total_amount",
        "totals",
        "transaction",
        "type",
        "vat_amount",
        "vat_currency",
        "vat_rate",
        "vat_rates",
    ]
)
"""Fields of the contract that are not personal. Any other field may hold anything, so it is hidden, too."""
_FROM_JSON: Final = msgspec.json.Decoder(float_hook=Decimal)
_TO_JSON: Final = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that has another value than before."""

    name: str
    """Its path, such as ``vat_rates.1.vat_amount``."""
    before: str | None = field(repr=False)
    """``None`` when it was not sent, or is hidden."""
    after: str | None = field(repr=False)
    hidden: bool
    """Whether the values are left out, because they are personal or may be."""


def exact(payload: bytes) -> dict[str, Any] | None:
    """Return the JSON object in *payload*, its numbers with the digits as sent; ``None`` if there is none."""
    try:
        decoded = _FROM_JSON.decode(payload)
    except (ValueError, ArithmeticError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return decoded if isinstance(decoded, dict) else None


def difference(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], *, personal: bool
) -> tuple[FieldChange, ...]:
    """Return the fields that differ, in the order in which they were sent.

    Payloads are as ``exact`` returns them. *personal*: with the values of personal
    fields, and of those that the contract does not name.
    """
    old, new = dict(_flat(before or {})), dict(_flat(after))
    changed = [path for path in {**new, **old} if old.get(path) != new.get(path)]
    return tuple(
        FieldChange(path, old.get(path), new.get(path), hidden=False)
        if personal or not is_personal(path)
        else FieldChange(path, None, None, hidden=True)
        for path in changed
    )


def is_personal(path: str) -> bool:
    """Return whether the field may tell about a person; one that the contract does not name may."""
    names = [name for name in path.split(".") if not name.isdecimal()]
    return any(name not in PUBLIC for name in names)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    """Yield each field of JSON with its value as text; null is like a field that was not sent."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, item in enumerate(value, start=1):
            yield from _flat(item, f"{path}.{number}")
    elif value is not None:
        yield path, value if isinstance(value, str) else _TO_JSON.encode(value).decode()
