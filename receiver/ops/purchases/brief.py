"""The purchases that deliveries of a list are about, in few words."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.ops.purchases.difference import exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

    from receiver.ops.deliveries import DeliverySummary

_PURCHASES: Final = text(
    """
SELECT given.delivery_id, coalesce(purchase_merchant_common, purchase_merchant) AS merchant,
    original_amount AS amount, original_currency AS currency, CAST(purchase_date AS text) AS day
FROM unnest(CAST(:ids AS bigint[]), CAST(:organizations AS text[]), CAST(:transactions AS text[]))
    AS given (delivery_id, organization, transaction)
JOIN ems.transactions AS purchase ON organization_reference_id = given.organization AND purchase.id = given.transaction
"""
)
_BODIES: Final = text("SELECT delivery_id, body FROM receiver.bodies WHERE delivery_id = ANY(:ids)")
_LONGEST: Final = 200
"""Characters of a text in a payload that was not checked."""


@dataclass(frozen=True, slots=True)
class PurchaseBrief:
    """What a purchase is recognized by; ``None`` for what is not known."""

    merchant: str | None
    amount: Decimal | None
    currency: str | None
    day: str | None


def read_purchases_of(connection: Connection, rows: Iterable[DeliverySummary]) -> dict[int, PurchaseBrief]:
    """Return the purchase of each delivery that has one, by its id: from ``ems``, else from its payload."""
    asked = [row for row in rows if row.transaction_id is not None]
    given = {
        "ids": [row.id for row in asked],
        "organizations": [row.organization_reference_id for row in asked],
        "transactions": [row.transaction_id for row in asked],
    }
    found = {
        row["delivery_id"]: PurchaseBrief(row["merchant"], row["amount"], row["currency"], row["day"])
        for row in connection.execute(_PURCHASES, given).mappings()
    }
    others = [row.id for row in asked if row.id not in found]
    for row in connection.execute(_BODIES, {"ids": others}) if others else ():
        payload = exact(bytes(row.body))
        if payload is not None and "original_amount" in payload:
            found[row.delivery_id] = brief_of(payload)
    return found


def brief_of(payload: Mapping[str, Any]) -> PurchaseBrief:
    """Return what a payload says of its purchase, as far as it can be read."""
    return PurchaseBrief(
        merchant=_text(payload.get("purchase_merchant_common")) or _text(payload.get("purchase_merchant")),
        amount=number_of(payload.get("original_amount")),
        currency=_text(payload.get("original_currency")),
        day=_text(payload.get("purchase_date")),
    )


def number_of(value: object) -> Decimal | None:
    """Return a number as exact; also one that was sent as a text."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _text(value: object) -> str | None:
    return value[:_LONGEST] if isinstance(value, str) and value else None
