"""A purchase, and OpenCard's snapshots of it through its states."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from receiver.sandbox.places import COUNTRIES, PER_EURO, Country, Merchant, smallest
from receiver.sandbox.story_events import BEGINNING, StoryEvent, hours, new_id, seconds, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from receiver.sandbox.people import StoryCardHolder

State = Literal["authorized", "deleted", "cleared", "invoiced"]

DAYS: Final = 30
"""Days in which people buy; the last purchases are settled some weeks later."""

_INVOICE_DAYS: Final = (18, 32, 46)
"""Virtual days on which issuers invoice what has cleared since. The first comes after the last late identification."""

_BATCH_DELAY: Final = timedelta(seconds=5)
"""From the identification of a card holder to the batch of what was bought before."""

_LIVES: Final[dict[tuple[State, ...], int]] = {
    ("authorized", "cleared", "invoiced"): 60,
    ("authorized", "cleared"): 10,
    ("authorized", "deleted"): 11,
    ("authorized",): 8,
    ("cleared", "invoiced"): 8,
    ("cleared",): 3,
}
"""The ways of a purchase, and how many in a hundred go each."""

_REFUNDED: Final[tuple[State, ...]] = ("cleared", "invoiced")

_ABROAD: Final = 0.3
_REFUNDS: Final = 0.06
_TIPS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Purchase:
    """What happened at the counter, before any event of it."""

    id: str
    holder: StoryCardHolder
    country: Country
    city: str
    merchant: Merchant
    bought_at: timedelta
    """Virtual time; in UTC, like the start of the story."""
    amount: Decimal
    """As authorized, in the country's currency, major units; negative for a refund."""
    final_amount: Decimal
    """As cleared: with the tip."""
    rates: tuple[Decimal, Decimal] | None
    """Exchange rates when authorized and when cleared; ``None`` in the home currency."""
    states: tuple[State, ...]

    @property
    def first_sent_at(self) -> timedelta:
        """When its first snapshot is sent, in virtual time: seconds later, or in the batch after identification."""
        return self.sent_at(self.bought_at)

    def sent_at(self, happened: timedelta) -> timedelta:
        """Return when OpenCard sends what *happened* then (both virtual): not before the holder is identified."""
        return max(happened, self.holder.identified_at + _BATCH_DELAY)


def buy(rng: Random, holder: StoryCardHolder) -> Purchase:
    """Return a purchase of *holder*."""
    home = holder.organization.home
    country = rng.choice(COUNTRIES) if rng.random() < _ABROAD else home
    merchant = rng.choice(country.merchants)
    refund = rng.random() < _REFUNDS
    states = _REFUNDED if refund else rng.choices(list(_LIVES), weights=list(_LIVES.values()))[0]

    low, high = merchant.trade.euros
    cents = int(rng.triangular(low * 100, high * 100, low * 100))  # small purchases are the most frequent
    amount = _round(Decimal(cents) / 100 * PER_EURO[country.currency] * (-1 if refund else 1), country.currency)
    tips = "authorized" in states and merchant.trade.tipped and rng.random() < _TIPS
    final_amount = _round(amount * (1 + Decimal(rng.randint(5, 15)) / 100), country.currency) if tips else amount

    return Purchase(
        id=new_id(rng),
        holder=holder,
        country=country,
        city=rng.choice(country.cities),
        merchant=merchant,
        bought_at=timedelta(days=rng.randrange(DAYS)) + hours(rng, 7, 22) - country.utc_offset,
        amount=amount,
        final_amount=final_amount,
        rates=None if country.currency == home.currency else (_rate(rng, country, home), _rate(rng, country, home)),
        states=states,
    )


def state_events(rng: Random, purchase: Purchase) -> Iterator[StoryEvent]:
    """Yield the states of *purchase* in true order, one snapshot each."""
    unchanging = _unchanging_fields(rng, purchase)
    happened = purchase.bought_at
    for state in purchase.states:
        happened = _next_moment(rng, state, happened)
        payload = unchanging | _changing_fields(rng, purchase, state, happened)
        organization = purchase.holder.organization.reference_id
        yield StoryEvent(organization, f"card.transaction.{state}", write(payload), purchase.sent_at(happened))


def _next_moment(rng: Random, state: State, before: timedelta) -> timedelta:
    match state:
        case "authorized":
            return before + seconds(rng, 2, 40)
        case "deleted":
            return before + hours(rng, 1, 48)
        case "cleared":
            return before + hours(rng, 72, 120)
        case "invoiced":
            day = next(day for day in _INVOICE_DAYS if timedelta(days=day) > before)
            return timedelta(days=day) + seconds(rng, 0, 1800)


def _unchanging_fields(rng: Random, purchase: Purchase) -> dict[str, object]:
    holder, trade = purchase.holder, purchase.merchant.trade
    local = BEGINNING + purchase.bought_at + purchase.country.utc_offset
    branch = rng.random() < 0.7  # noqa: PLR2004 - not every issuer reports it
    return {
        "id": purchase.id,
        "receiptable": rng.choice((True, True, False, None)),
        "card_issuer": holder.organization.card_issuer,
        "card_issuer_customer_number": holder.organization.customer_number,
        "type": _type(purchase),
        "original_currency": purchase.country.currency,
        "accounting_currency": holder.organization.home.currency,
        "purchase_merchant": purchase.merchant.network_name,
        "purchase_merchant_common": _sometimes(rng, purchase.merchant.name),
        "purchase_date": local.date(),
        "purchase_time": _sometimes(rng, local.time()),
        "purchase_timezone": _sometimes(rng, purchase.country.timezone),
        "purchase_country": purchase.country.code,
        "purchase_city": _sometimes(rng, purchase.city),
        "card_id": holder.card_id,
        "card_product": holder.card_product,
        "card_type": holder.card_type,
        "card_last_four": holder.card_last_four,
        "card_funding": holder.card_funding,
        "payment_product": holder.payment_product,
        "mcc_code": trade.mcc_code,
        "mcc_text": trade.mcc_text,
        "mcc_top_level": _sometimes(rng, trade.mcc_top_level),
        "branch_code": trade.branch_code if branch else None,
        "branch_text": trade.mcc_text if branch else None,
        "category_text": _sometimes(rng, trade.category_text),
        "card_holder": {"reference_id": holder.reference_id},
        "organization": {"reference_id": holder.organization.reference_id},
    }


def _type(purchase: Purchase) -> str:
    """Return what the issuer calls it: each spelling that has been seen, by the last digit of the id."""
    match purchase.id[-1]:
        case "0":
            return "CASH_WITHDRAWAL"
        case "1":
            return "FEE_AND_DISCOUNT"
        case _:
            return "card" if purchase.holder.organization.card_issuer == "nordkort" else "CARD_PURCHASE"


def _changing_fields(rng: Random, purchase: Purchase, state: State, happened: timedelta) -> dict[str, object]:
    final = state in ("cleared", "invoiced")
    amount = purchase.final_amount if final else purchase.amount
    rate = purchase.rates[int(final)] if purchase.rates else None
    home = purchase.holder.organization.home.currency
    percentage = purchase.country.vat_percentages[0]
    vat = rng.random() < 0.6  # noqa: PLR2004 - the card network often does not know
    invoice_date = BEGINNING.date() + happened if state == "invoiced" else None
    return {
        "state": state,
        "card_issuer_reference": f"{state[:3].upper()}-{rng.randrange(10**12):012}",
        "invoice_number": _invoice_number(purchase, invoice_date),
        "invoice_date": invoice_date,
        "original_amount": amount,
        "vat_rate": percentage if vat else None,
        "vat_amount": _round(amount * percentage / (100 + percentage), purchase.country.currency) if vat else None,
        "vat_currency": purchase.country.currency if vat else None,
        "accounting_amount": amount if rate is None else _round(amount * rate, home),
        "exchange_rate": rate,
    }


def _invoice_number(purchase: Purchase, invoice_date: date | None) -> str | None:
    return None if invoice_date is None else f"{purchase.holder.organization.customer_number}-{invoice_date:%y%m%d}"


def _rate(rng: Random, country: Country, home: Country) -> Decimal:
    """Return the day's rate from the country's currency to the home currency, up to 2 % off the typical one."""
    typical = PER_EURO[home.currency] / PER_EURO[country.currency]
    return (typical * Decimal(rng.randint(9800, 10200)) / 10000).quantize(Decimal("0.000001"))


def _round(amount: Decimal, currency: str) -> Decimal:
    return amount.quantize(smallest(currency))


def _sometimes(rng: Random, value: object) -> object:
    """Return *value*, or ``None`` as now and then a field is not known."""
    return None if rng.random() < 0.1 else value  # noqa: PLR2004
