"""Deliveries that were not applied, and may bring the purchase that is searched for.

What is in their bodies is in no table. So the newest of them are read and compared, and no more than ``MAX_HELD``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.ops.deliveries import Filter, list_deliveries
from receiver.ops.purchases.brief import PurchaseBrief, brief_of, number_of
from receiver.ops.purchases.difference import exact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from receiver.ops.deliveries import DeliverySummary
    from receiver.ops.purchases.search import PurchaseFilter

HELD: Final = ("pending", "failed", "dead", "quarantined", "ignored")
"""Statuses of deliveries that are not applied, or not yet."""
MAX_HELD: Final = 200
_BODIES: Final = text("SELECT delivery_id, body FROM receiver.bodies WHERE delivery_id = ANY(:ids)")


@dataclass(frozen=True, slots=True)
class HeldDeliveries:
    """The deliveries found among those that are not applied."""

    matching: tuple[DeliverySummary, ...]
    """Those whose body may be of the purchase, newest first."""
    compared: int
    """How many were read."""
    unreadable: int
    """How many of them have no body any more, or one that is no JSON."""
    more: bool
    """Whether there are older ones, which were not read."""
    briefs: Mapping[int, PurchaseBrief]
    """What the payloads of the matching ones say, by delivery."""


def held_deliveries(connection: Connection, wanted: PurchaseFilter, *, most: int = MAX_HELD) -> HeldDeliveries:
    """Return the deliveries that are not applied and may be of a purchase that is *wanted*.

    A quarantined one counts by the organization that its payload names, too.
    """
    mine = list_deliveries(connection, Filter(statuses=HELD, organizations=wanted.organizations), limit=most)
    found = {each.id: each for each in mine.rows}
    more = mine.before is not None
    if wanted.organizations:
        quarantined = list_deliveries(connection, Filter(statuses=("quarantined",)), limit=most)
        found |= {each.id: each for each in quarantined.rows}
        more = more or quarantined.before is not None
    bodies = {row.delivery_id: bytes(row.body) for row in connection.execute(_BODIES, {"ids": list(found)})}
    own = {each.id for each in mine.rows}
    matching, unreadable = [], 0
    briefs: dict[int, PurchaseBrief] = {}
    for each in sorted(found.values(), key=lambda delivery: -delivery.id):
        payload = exact(bodies.get(each.id, b""))
        if payload is None:
            unreadable += each.id in own
        elif (each.id in own or _organization(payload) in wanted.organizations) and may_be(wanted, payload):
            matching.append(each)
            briefs[each.id] = brief_of(payload)
    return HeldDeliveries(tuple(matching), compared=len(found), unreadable=unreadable, more=more, briefs=briefs)


def may_be(wanted: PurchaseFilter, payload: Mapping[str, Any]) -> bool:
    """Return whether a payload may be of a purchase that is *wanted*: something agrees, and nothing contradicts.

    A field that is missing, or has the wrong type, does neither.
    """
    verdicts = [each for each in _verdicts(wanted, payload) if each is not None]
    return bool(verdicts) and all(verdicts)


def _verdicts(wanted: PurchaseFilter, payload: Mapping[str, Any]) -> Iterator[bool | None]:
    link = payload.get("transaction")
    transaction = link.get("id") if isinstance(link, dict) else payload.get("id")
    holder = payload.get("card_holder")
    for expected, sent in (
        (wanted.transaction_id, transaction),
        (wanted.invoice_number, payload.get("invoice_number")),
        (wanted.last_four, payload.get("card_last_four")),
        (wanted.card_holder_reference_id, holder.get("reference_id") if isinstance(holder, dict) else None),
    ):
        if expected is not None:
            yield None if sent is None else str(sent) == expected
    if wanted.merchant is not None:
        names = [payload.get("purchase_merchant"), payload.get("purchase_merchant_common")]
        texts = [name.casefold() for name in names if isinstance(name, str)]
        yield any(wanted.merchant.casefold() in name for name in texts) if texts else None
    yield _amount_agrees(wanted, payload)
    if wanted.first_day is not None or wanted.last_day is not None:
        day = _day(payload.get("purchase_date"))
        yield None if day is None else (wanted.first_day or date.min) <= day <= (wanted.last_day or date.max)


def _amount_agrees(wanted: PurchaseFilter, payload: Mapping[str, Any]) -> bool | None:
    """Return whether one of the amounts agrees; ``None`` where not both can be read, and the one that can differs."""
    if wanted.amount is None:
        return None
    differs = []
    for name in ("original", "accounting"):
        amount = number_of(payload.get(f"{name}_amount"))
        currency = payload.get(f"{name}_currency")
        if amount is None:
            continue
        same = abs(abs(amount) - abs(wanted.amount)) <= wanted.tolerance
        if same and (wanted.currency is None or currency is None or currency == wanted.currency):
            return True
        differs.append(name)
    return False if len(differs) == 2 else None  # noqa: PLR2004 - both amounts


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _organization(payload: Mapping[str, Any]) -> object:
    owner = payload.get("organization")
    return owner.get("reference_id") if isinstance(owner, dict) else None
