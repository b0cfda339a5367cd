"""One purchase: its current state, why it is in the ledger or not, and what reconcile found about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import TextClause, text

from receiver.ops.deliveries import Filter, list_deliveries
from receiver.ops.purchases.difference import PERSONAL_COLUMNS
from receiver.ops.purchases.timeline import MAX_ROWS, read_timeline, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from receiver.ops.deliveries import DeliverySummary
    from receiver.ops.purchases.timeline import Happening

IN_LEDGER: Final = "in the ledger"
_KNOWN: Final = "ARRAY(SELECT DISTINCT organization_reference_id FROM receiver.webhooks)"
_ORGANIZATIONS: Final = text(
    f"""
SELECT organization_reference_id FROM ems.transactions
WHERE organization_reference_id = ANY({_KNOWN}) AND id = :transaction
UNION
SELECT organization_reference_id FROM ems.events
WHERE organization_reference_id = ANY({_KNOWN}) AND subject_id = :transaction AND transaction_id = :transaction
UNION
SELECT webhook.organization_reference_id FROM receiver.outcomes AS outcome
JOIN receiver.stored_deliveries AS stored ON stored.id = outcome.delivery_id
JOIN receiver.webhooks AS webhook ON webhook.id = stored.webhook_id
WHERE outcome.transaction_id = :transaction
ORDER BY 1
"""  # noqa: S608 - a constant
)


def _of_purchase(table: str, columns: str, *, key: str = "transaction_id") -> TextClause:
    return text(
        f"SELECT {columns} FROM ems.{table} "  # noqa: S608 - names of this module and of the model
        f"WHERE organization_reference_id = :organization AND {key} = :transaction ORDER BY 1 LIMIT {MAX_ROWS}"
    )


_ROW: Final = _of_purchase("transactions", "*", key="id")
_LEDGER: Final = _of_purchase(
    "ledger",
    "booked_on, state, accounting_amount, accounting_currency, original_amount, original_currency, vat_amount, "
    "vat_currency, vat_source, receipt_state, number_of_receipts, number_of_items, invoice_number",
)
_RECEIPTS: Final = text(
    f"""
SELECT receipt.fetched_at, receipt.purchase_merchant, receipt.original_amount, receipt.original_currency,
    receipt.purchase_date, receipt.content_type, receipt.expiration_time, receipt.file_key, receipt.file_size,
    receipt.file_sha256, receipt.downloaded_at, coalesce(download.error, receipt.download_error) AS download_error,
    coalesce(download.status, CASE WHEN receipt.file_key IS NULL THEN 'none' ELSE 'stored' END) AS download,
    receipt.delivery_id
FROM ems.receipts AS receipt LEFT JOIN receiver.receipt_downloads AS download
    USING (organization_reference_id, transaction_id, url_sha256)
WHERE organization_reference_id = :organization AND transaction_id = :transaction
ORDER BY receipt.fetched_at, url_sha256 LIMIT {MAX_ROWS}
"""  # noqa: S608 - likewise
)
_RATES: Final = _of_purchase("vat_rates", "line_number, percentage, vat_amount, taxable_amount, total_amount, currency")
_TOTALS: Final = _of_purchase("vat_totals", "line_number, vat_amount, taxable_amount, total_amount, currency")
_ITEMS: Final = _of_purchase("line_items", "line_number, description, quantity, amount, total_amount, currency")
_IMPACTS: Final = _of_purchase(
    "environmental_impacts",
    "provider, carbon_emission_in_grams, carbon_social_cost_amount, carbon_social_cost_currency",
)
_RECONCILED: Final = text(
    "SELECT webhook_id, checked_until, unconfirmed_before, unrecoverable FROM receiver.reconcile_state "
    "WHERE organization_reference_id = :organization ORDER BY webhook_id"
)


@dataclass(frozen=True, slots=True)
class PurchaseDetails:
    """A purchase with everything that is known of it. Rows are by column, as the tables have them."""

    organization_reference_id: str
    transaction_id: str
    transaction: Mapping[str, Any] | None
    """The row of ``ems.transactions`` without personal data; ``None`` when no event of the purchase was applied."""
    person: Mapping[str, Any] | None = field(repr=False)
    """Card holder and card, when they were asked for."""
    ledger: Mapping[str, Any] | None
    """Its line in ``ems.ledger``."""
    ledger_reason: str
    """Why it has none."""
    receipts: tuple[Mapping[str, Any], ...]
    vat_totals: tuple[Mapping[str, Any], ...]
    vat_rates: tuple[Mapping[str, Any], ...]
    line_items: tuple[Mapping[str, Any], ...]
    environmental_impacts: tuple[Mapping[str, Any], ...]
    reconcile: tuple[str, ...]
    """What the comparison with OpenCard's log says, in sentences."""
    timeline: tuple[Happening, ...]
    deliveries: tuple[DeliverySummary, ...]
    """Newest first."""


def organizations_of(connection: Connection, transaction_id: str) -> list[str]:
    """Return the organizations that have a transaction of that id, or a delivery that names it."""
    return list(connection.scalars(_ORGANIZATIONS, {"transaction": transaction_id}))


def read_purchase(
    connection: Connection, organization: str, transaction_id: str, *, personal: bool = False
) -> PurchaseDetails | None:
    """Return everything about a purchase; ``None`` when no row, event or delivery names it.

    *personal*: with card holder, card and the payloads of the events. The caller records the view in the audit.
    """
    purchase = {"organization": organization, "transaction": transaction_id}
    row = _row(connection, _ROW, purchase)
    deliveries = _deliveries(connection, organization, transaction_id)
    if row is None and not deliveries:
        return None
    person = None
    if row is not None:
        of_person = {name: row.pop(name) for name in list(row) if name in PERSONAL_COLUMNS}
        person = of_person if personal else None
    ledger = _row(connection, _LEDGER, purchase)
    receipts = rows_of(connection, _RECEIPTS, purchase)
    reconciled = rows_of(connection, _RECONCILED, purchase)
    return PurchaseDetails(
        organization_reference_id=organization,
        transaction_id=transaction_id,
        transaction=row,
        person=person,
        ledger=ledger,
        ledger_reason=IN_LEDGER if ledger else _why_not(row, deliveries),
        receipts=receipts,
        vat_totals=rows_of(connection, _TOTALS, purchase),
        vat_rates=rows_of(connection, _RATES, purchase),
        line_items=rows_of(connection, _ITEMS, purchase),
        environmental_impacts=rows_of(connection, _IMPACTS, purchase),
        reconcile=tuple(verdict(organization, deliveries, reconciled)),
        timeline=read_timeline(connection, organization, transaction_id, deliveries, receipts, personal=personal),
        deliveries=deliveries,
    )


def _row(connection: Connection, query: TextClause, purchase: Mapping[str, str]) -> dict[str, Any] | None:
    return next(iter(rows_of(connection, query, purchase)), None)


def _deliveries(connection: Connection, organization: str, transaction_id: str) -> tuple[DeliverySummary, ...]:
    wanted = Filter(transaction_id=transaction_id, organizations=(organization,))
    found: list[DeliverySummary] = []
    before = None
    while len(found) < MAX_ROWS:
        page = list_deliveries(connection, wanted, before=before, limit=MAX_ROWS - len(found))
        found += page.rows
        before = page.before
        if before is None:
            break
    return tuple(found)


def _why_not(row: Mapping[str, Any] | None, deliveries: Sequence[DeliverySummary]) -> str:
    """Return why the ledger has no line."""
    if row is not None and row["state"] == "deleted":
        return "deleted: OpenCard reported that the purchase was withdrawn before it was cleared"
    if row is not None:
        return "authorized only: the ledger has purchases that are cleared or invoiced"
    held = [each for each in deliveries if each.status not in {"processed", "duplicate"}]
    if not held:
        return "no event of the purchase itself was received, only additional data such as a receipt"
    numbers = ", ".join(f"delivery {each.id} is {each.status}" for each in held[:3])
    more = f", and {len(held) - 3} more" if len(held) > 3 else ""  # noqa: PLR2004 - those that are named
    return f"no event of the purchase was applied: {numbers}{more}"


def verdict(
    organization: str, deliveries: Sequence[DeliverySummary], reconciled: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return what the comparison with OpenCard's log says of the *deliveries*, in sentences.

    *reconciled*: the rows of ``receiver.reconcile_state`` of the organization's webhooks.
    """
    before: dict[int, datetime | None] = {each["webhook_id"]: each["unconfirmed_before"] for each in reconciled}
    recovered = [each.id for each in deliveries if each.source == "log"]
    confirmed = [each.id for each in deliveries if each.source != "log" and each.confirmed_at is not None]
    unlogged = [each for each in deliveries if each.source != "log" and each.confirmed_at is None]
    genuine = [each.id for each in unlogged if each.decision == "accepted"]
    retracted = [each.id for each in unlogged if each.decision == "retracted"]
    open_ = [each for each in unlogged if each.decision is None]
    unconfirmed = [
        each.id for each in open_ if (until := before.get(each.webhook_id)) is not None and each.received_at < until
    ]
    waiting = [each.id for each in open_ if each.id not in unconfirmed]
    said = [
        f"{words}: {_numbers(ids)}"
        for words, ids in (
            ("confirmed, found in OpenCard's log", confirmed),
            ("recovered from OpenCard's log", recovered),
            ("accepted as genuine, not in OpenCard's log", genuine),
            ("retracted as forged, not in OpenCard's log", retracted),
            ("unconfirmed, received and not in OpenCard's log", unconfirmed),
            ("not compared with OpenCard's log yet", waiting),
        )
        if ids
    ]
    lost = sum(each["unrecoverable"] for each in reconciled)
    if lost:
        number = "1 event" if lost == 1 else f"{lost} events"
        said.append(
            f"unrecoverable: OpenCard's log has {number} of {organization} without a payload; it is not known whether "
            "this purchase is one of them"
        )
    return said


def _numbers(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, sorted(ids)[:10]))
    noun = "delivery" if len(ids) == 1 else "deliveries"
    return f"{noun} {shown}" + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")  # noqa: PLR2004 - those that are named
