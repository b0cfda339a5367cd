"""What is reported of a purchase besides the card network's data: its receipt, VAT, items and CO2."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from receiver.sandbox.places import smallest
from receiver.sandbox.story_events import BEGINNING, StoryEvent, hours, new_id, seconds, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from receiver.sandbox.purchases import Purchase
    from receiver.sandbox.receipt_files import FilesAt

_EARLY: Final = 0.15
"""The share of enrichments that come before their transaction."""

_MOST_ITEMS: Final = 6
WEIGHED: Final = Decimal("0.195")
"""The quantity of goods that are weighed."""
_URL_LIVES: Final = timedelta(days=7)

_Fields: TypeAlias = dict[str, object]


def enrichment_events(rng: Random, purchase: Purchase, files: FilesAt | None = None) -> Iterator[StoryEvent]:
    """Yield the enrichments of *purchase*: each kind at most once, at any time around its first snapshot.

    *files*: where its receipt can be downloaded; without, it cannot.

    Nothing is learned of a refund, nor of a purchase that did not come about.
    """
    if purchase.amount < 0 or "deleted" in purchase.states:
        return
    for event, (share, fields) in _KINDS.items():
        if rng.random() < share:
            at = _moment(rng, purchase)
            payload = _common(purchase) | fields(rng, purchase, at)
            if files is not None and event == "receipt.fetched":
                payload |= files.signed_fields(str(payload["url"]))
            yield StoryEvent(purchase.holder.organization.reference_id, event, write(payload), at)


def _moment(rng: Random, purchase: Purchase) -> timedelta:
    first = purchase.first_sent_at
    if rng.random() < _EARLY:
        return max(purchase.holder.identified_at, first - seconds(rng, 1, 30))
    return first + hours(rng, 0.02, 60)


def _common(purchase: Purchase) -> _Fields:
    organization = purchase.holder.organization
    return {
        "transaction": {"id": purchase.id, "card_issuer": organization.card_issuer},
        "payment_product": purchase.holder.payment_product,
        "card_holder": {"reference_id": purchase.holder.reference_id},
        "organization": {"reference_id": organization.reference_id},
    }


def _receipt(rng: Random, purchase: Purchase, at: timedelta) -> _Fields:
    kind, suffix = rng.choice((("application/pdf", "pdf"), ("image/png", "png"), ("text/html", "html")))
    local = BEGINNING + purchase.bought_at + purchase.country.utc_offset
    return {
        "url": f"https://files.opencard.invalid/receipts/{new_id(rng)}.{suffix}",
        "content_type": kind,
        "expiration_time": f"{BEGINNING + at + _URL_LIVES:%Y-%m-%d %H:%M:%S}",
        "purchase_merchant": purchase.merchant.name,
        "original_amount": purchase.final_amount,
        "original_currency": purchase.country.currency,
        "purchase_date": local.date(),
        "purchase_time": local.time(),
    }


def _vat(rng: Random, purchase: Purchase, _at: timedelta) -> _Fields:
    percentages = purchase.country.vat_percentages
    chosen = rng.sample(percentages, rng.randint(1, len(percentages)))
    currency = purchase.country.currency
    parts = _split(rng, purchase.final_amount, currency, len(chosen))
    rates = []
    for percentage, total in zip(chosen, parts, strict=True):
        vat = (total * percentage / (100 + percentage)).quantize(smallest(currency))
        amounts = {"vat_amount": vat, "taxable_amount": total - vat, "total_amount": total}
        rates.append(amounts | {"percentage": percentage})
    totals: _Fields = {
        name: sum((rate[name] for rate in rates), Decimal(0))
        for name in ("vat_amount", "taxable_amount", "total_amount")
    }
    return {
        "purchase_country": purchase.country.code,
        "vat_rates": [{**rate, "currency": currency} for rate in rates],
        "totals": [totals | {"currency": currency}],
    }


def _line_items(rng: Random, purchase: Purchase, _at: timedelta) -> _Fields:
    currency = purchase.country.currency
    parts = _split(rng, purchase.final_amount, currency, rng.randint(1, _MOST_ITEMS))
    return {"line_items": [_line_item(rng, purchase, total, currency) for total in parts]}


def _line_item(rng: Random, purchase: Purchase, total: Decimal, currency: str) -> _Fields:
    quantity = rng.randint(1, 3)
    if total % (quantity * smallest(currency)):
        quantity = 1  # several of a kind must have a price that can be paid
    if quantity == 1 and int(total / smallest(currency)) % 4 == 0:  # weighed: the price is that of all of it
        return {
            "description": rng.choice(purchase.merchant.trade.goods),
            "amount": total,
            "total_amount": total,
            "quantity": WEIGHED,
            "currency": currency,
        }
    return {
        "description": rng.choice(purchase.merchant.trade.goods),
        "amount": (total / quantity).quantize(smallest(currency)),
        "total_amount": total,
        "quantity": quantity,
        "currency": currency,
    }


def _impact(rng: Random, _purchase: Purchase, _at: timedelta) -> _Fields:
    grams = Decimal(rng.randint(200, 9_000_000)) / 100
    return {
        "carbon_emission_in_grams": grams,
        "carbon_social_cost_amount": (grams * Decimal("0.00011")).quantize(Decimal("0.0001")),
        "carbon_social_cost_currency": "EUR",
    }


def _split(rng: Random, total: Decimal, currency: str, parts: int) -> list[Decimal]:
    """Return at most *parts* positive amounts that add up to *total* exactly."""
    unit = smallest(currency)
    pieces = int(total / unit)
    cuts = sorted(rng.sample(range(1, pieces), min(parts, pieces) - 1))
    return [(end - start) * unit for start, end in zip([0, *cuts], [*cuts, pieces], strict=True)]


_KINDS: Final[dict[str, tuple[float, Callable[[Random, Purchase, timedelta], _Fields]]]] = {
    "receipt.fetched": (0.4, _receipt),
    "transaction.true.vat": (0.4, _vat),
    "transaction.line.items": (0.35, _line_items),
    "environmental.impact.aland_index": (0.3, _impact),
    "environmental.impact.deedster": (0.25, _impact),
}
"""Event → the share of purchases that have it, and what makes its own fields."""
