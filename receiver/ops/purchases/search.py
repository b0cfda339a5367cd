"""Finding purchases as tickets name them: newest first, page by page, none of them slow.

Transaction, invoice and card holder have an index each. Anything else is read day by day, backwards from the newest,
and a page looks at ``MAX_EXAMINED`` purchases at most: what narrows it is the organization and the day.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

PURCHASED_ON: Final = "COALESCE(purchase_date, (snapshot_at AT TIME ZONE 'UTC'::text)::date)"
"""The day of a purchase: the expression of the index ``ix_transactions_purchased_on``."""
MAX_EXAMINED: Final = 5_000
"""How many purchases are looked at for one page."""
FIRST_LOOK: Final = 4
"""How many times a page's length is looked at first."""
_COLUMNS: Final = (
    f"{PURCHASED_ON} AS day, id, organization_reference_id, state, purchase_merchant, purchase_merchant_common, "
    "original_amount, original_currency, accounting_amount, accounting_currency, card_last_four, invoice_number, "
    "booked_on"
)
_ORGANIZATIONS: Final = "ARRAY(SELECT DISTINCT organization_reference_id FROM receiver.webhooks)"
# the days that there are, newest first, one descent of the index each; other days are not looked up
_BY_DAY: Final = """
WITH RECURSIVE days AS (
    (
        SELECT {day} AS day FROM ems.transactions WHERE {day} >= :first AND {day} <= :last ORDER BY {day} DESC LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT {day} FROM ems.transactions WHERE {day} >= :first AND {day} < days.day ORDER BY {day} DESC LIMIT 1
    ) FROM days WHERE days.day IS NOT NULL
)
SELECT purchase.* FROM days CROSS JOIN LATERAL (
    SELECT {columns} FROM ems.transactions WHERE {day} = days.day AND {conditions}
    ORDER BY id DESC, organization_reference_id DESC OFFSET 0
) AS purchase LIMIT :max_examined
"""
_BY_KEY: Final = """
SELECT {columns} FROM ems.transactions
WHERE organization_reference_id = ANY({organizations}) AND {day} >= :first AND {day} <= :last AND {conditions}
ORDER BY {day} DESC, id DESC, organization_reference_id DESC LIMIT :max_examined
"""
_PAGE: Final = """
WITH looked_at AS MATERIALIZED ({source})
(SELECT looked_at.*, true AS matches FROM looked_at WHERE {conditions} ORDER BY {order} LIMIT :limit)
UNION ALL
(SELECT looked_at.*, false FROM looked_at ORDER BY {order} OFFSET :max_examined - 1 LIMIT 1)
"""
_ORDER: Final = "day DESC, id DESC, organization_reference_id DESC"
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(?:[.,][0-9]{1,6})?", re.ASCII)
_AMOUNT: Final = "(abs({name}_amount) BETWEEN :lowest AND :highest AND {currency})"


@dataclass(frozen=True, slots=True)
class PurchaseFilter:
    """Which purchases; what is ``None`` or empty does not restrict."""

    organizations: tuple[str, ...] = ()
    """The EMS's own ids of them."""
    merchant: str | None = None
    """Part of its name, in upper or lower case; a letter beyond ASCII matches any letter in its place."""
    amount: Decimal | None = None
    """In major units, of the purchase or as accounted, whatever its sign."""
    tolerance: Decimal = Decimal()
    """By how much the amount may differ."""
    currency: str | None = None
    """That of the amount; without an amount, either of the purchase's currencies."""
    first_day: date | None = None
    """Purchased on this day or later."""
    last_day: date | None = None
    last_four: str | None = field(default=None, repr=False)
    invoice_number: str | None = None
    card_holder_reference_id: str | None = field(default=None, repr=False)
    transaction_id: str | None = None

    @property
    def is_about_a_person(self) -> bool:
        """Whether a card holder or a card is searched for."""
        return self.card_holder_reference_id is not None or self.last_four is not None

    @property
    def restricts(self) -> bool:
        """Whether it describes a purchase by more than its organization and currency."""
        mine = (self.merchant, self.amount, self.first_day, self.last_day, self.invoice_number, self.transaction_id)
        return self.is_about_a_person or any(each is not None for each in mine)


@dataclass(frozen=True, slots=True)
class FoundPurchase:
    """A purchase as lists show it, without personal data."""

    organization_reference_id: str
    id: str
    state: str
    day: date
    """The day of the purchase; if it was not sent, the day (UTC) of its newest event."""
    merchant: str | None
    original_amount: Decimal | None
    original_currency: str | None
    accounting_amount: Decimal | None
    accounting_currency: str | None
    invoice_number: str | None
    booked_on: date | None


@dataclass(frozen=True, slots=True)
class PurchasePage:
    """Some purchases, newest first, and where to continue."""

    rows: tuple[FoundPurchase, ...]
    before: str | None
    """Ask for what is before this; ``None`` when there is nothing more. There may be more though *rows* are few."""
    looked_back_to: date | None
    """Day of the last purchase that was looked at; ``None`` when all were that may match."""


def find_purchases(
    connection: Connection,
    wanted: PurchaseFilter,
    *,
    before: str | None = None,
    limit: int = 50,
    max_examined: int = MAX_EXAMINED,
) -> PurchasePage:
    """Return the newest *limit* of the purchases that are *wanted*; *before*: of an earlier page.

    It reads at most *max_examined* purchases, so that it is quick for every filter. Raises ``ValueError`` for a
    *before* that is of no page.
    """
    place = None if before is None else _place(before)
    parameters = {**_parameters(wanted, place), "limit": limit + 1}
    query = _PAGE.format(source=_source(wanted, place), conditions=_conditions(wanted), order=_ORDER)
    matching: list[dict[str, Any]] = []
    end: dict[str, Any] | None = None
    # First at few: all that a page may look at would be read though the first ones are enough.
    for look in sorted({min(FIRST_LOOK * limit, max_examined), max_examined}):
        rows = [dict(row) for row in connection.execute(text(query), {**parameters, "max_examined": look}).mappings()]
        matching = [row for row in rows if row["matches"]]
        end = next((row for row in rows if not row["matches"]), None)
        if len(matching) > limit:
            return PurchasePage(_found(matching[:limit]), _token(matching[limit - 1]), None)
        if end is None:
            break
    if end is None:
        return PurchasePage(_found(matching), None, None)
    return PurchasePage(_found(matching), _token(end), end["day"])


def parse_amount(text: str) -> Decimal:
    """Return an amount in major units, such as ``245.50`` or ``245,50``. Raises ``ValueError`` for anything else."""
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"invalid amount {text!r}: give one such as 245.50, without separators")
    return Decimal(text.strip().replace(",", "."))


def merchant_pattern(wanted: str) -> str:
    """Return the pattern, for ``ILIKE``, of names that contain *wanted*.

    Whether a database knows the capitals of letters beyond ASCII depends on its locale; with any letter in their place
    they are found in all.
    """
    escaped = re.sub(r"([\\%_])", r"\\\1", wanted.replace("\0", ""))
    return "%" + re.sub(r"[^\x00-\x7f]", "_", escaped) + "%"


def _source(wanted: PurchaseFilter, place: tuple[date, str, str] | None) -> str:
    """Return the narrowest query that has everything wanted, in order."""
    keys = {
        "id = :transaction": wanted.transaction_id,
        "invoice_number = :invoice": wanted.invoice_number,
        "card_holder_reference_id = :card_holder": wanted.card_holder_reference_id,
    }
    conditions = [condition for condition, value in keys.items() if value is not None]
    template = _BY_KEY if conditions else _BY_DAY
    if wanted.organizations and not conditions:
        conditions.append("organization_reference_id = ANY(:organizations)")
    if place is not None:
        conditions.append(f"({PURCHASED_ON} < :at_day OR (id, organization_reference_id) < (:at_id, :at_organization))")
    return template.format(
        day=PURCHASED_ON,
        columns=_COLUMNS,
        conditions=" AND ".join(conditions) or "true",
        organizations=":organizations" if wanted.organizations else _ORGANIZATIONS,
    )


def _conditions(wanted: PurchaseFilter) -> str:
    conditions = []
    if wanted.merchant is not None:
        conditions.append("(purchase_merchant ILIKE :merchant OR purchase_merchant_common ILIKE :merchant)")
    if wanted.last_four is not None:
        conditions.append("card_last_four = :last_four")
    if wanted.amount is not None:
        both = (
            _AMOUNT.format(name=name, currency=f"{name}_currency = :currency" if wanted.currency else "true")
            for name in ("original", "accounting")
        )
        conditions.append(f"({' OR '.join(both)})")
    elif wanted.currency is not None:
        conditions.append(":currency IN (original_currency, accounting_currency)")
    return " AND ".join(conditions) or "true"


def _parameters(wanted: PurchaseFilter, place: tuple[date, str, str] | None) -> dict[str, Any]:
    last = wanted.last_day or date.max
    parameters: dict[str, Any] = {
        "organizations": list(wanted.organizations),
        "transaction": wanted.transaction_id,
        "invoice": wanted.invoice_number,
        "card_holder": wanted.card_holder_reference_id,
        "merchant": None if wanted.merchant is None else merchant_pattern(wanted.merchant),
        "last_four": wanted.last_four,
        "currency": wanted.currency,
        "first": wanted.first_day or date.min,
        "last": last,
    }
    if wanted.amount is not None:
        amount = abs(wanted.amount)
        parameters |= {"lowest": max(Decimal(), amount - wanted.tolerance), "highest": amount + wanted.tolerance}
    if place is not None:
        day, transaction, organization = place
        parameters |= {"at_day": day, "at_id": transaction, "at_organization": organization, "last": min(last, day)}
    return parameters


def _token(row: dict[str, Any]) -> str:
    place = (row["day"], row["id"], row["organization_reference_id"])
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _place(token: str) -> tuple[date, str, str]:
    try:
        raw = base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4))
        place = msgspec.json.decode(raw, type=tuple[date, str, str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"{token!r} is not a value that the list printed") from error
    if any("\0" in name for name in place[1:]):
        raise ValueError(f"{token!r} is not a value that the list printed")
    return place


def _found(rows: list[dict[str, Any]]) -> tuple[FoundPurchase, ...]:
    return tuple(
        FoundPurchase(
            organization_reference_id=row["organization_reference_id"],
            id=row["id"],
            state=row["state"],
            day=row["day"],
            merchant=row["purchase_merchant_common"] or row["purchase_merchant"],
            original_amount=row["original_amount"],
            original_currency=row["original_currency"],
            accounting_amount=row["accounting_amount"],
            accounting_currency=row["accounting_currency"],
            invoice_number=row["invoice_number"],
            booked_on=row["booked_on"],
        )
        for row in rows
    )
