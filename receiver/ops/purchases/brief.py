"""The purchases that deliveries of a list are about, in few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, RowMapping

    from receiver.ops.deliveries import DeliverySummary

_PURCHASES: Final = text(
    """
SELECT passed.delivery_id, coalesce(purchase_merchant_common, purchase_merchant) AS merchant,
    original_amount AS amount, original_currency AS currency
FROM unnest(CAST(:ids AS bigint[]), CAST(:organizations AS text[]), CAST(:transactions AS text[]))
    AS passed (delivery_id, organization, transaction)
JOIN ems.transactions AS purchase
    ON purchase.organization_reference_id = passed.organization AND purchase.id = passed.transaction
"""
)


def read_purchases_of(connection: Connection, rows: Iterable[DeliverySummary]) -> dict[int, RowMapping]:
    """Return ``merchant``, ``amount`` and ``currency`` of the purchase of each delivery that has one, by its id."""
    named = [row for row in rows if row.transaction_id is not None]
    parameters = {
        "ids": [row.id for row in named],
        "organizations": [row.organization_reference_id for row in named],
        "transactions": [row.transaction_id for row in named],
    }
    return {row["delivery_id"]: row for row in connection.execute(_PURCHASES, parameters).mappings()}
