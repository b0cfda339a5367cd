"""Which event flags an organization may have, and what to ask for when OpenCard rejects some (contract, section 3).

Pure: nothing here asks OpenCard by itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from receiver.errors import AccessDenied, Conflict, InvalidRequest
from receiver.events.catalogue import EVENT_FLAGS
from receiver.opencard.billings import PRODUCT_FLAGS, PRODUCT_OF, Billing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from receiver.errors import OpenCardError
    from receiver.opencard.webhooks import Organization

T = TypeVar("T")

EVENT_OF: Final = {flag: event for event, flag in EVENT_FLAGS.items() if flag is not None}
TRANSACTIONS: Final = PRODUCT_FLAGS["product_transaction"]
NEED_NO_BILLING: Final = frozenset(flag for flag in EVENT_OF if flag.startswith(("tpa_", "card_holder_")))
"""Flags that any organization may have, also one without a billing profile."""
GROUPS: Final = (
    TRANSACTIONS,
    PRODUCT_FLAGS["product_digital_receipt"],
    PRODUCT_FLAGS["product_aland_index"],
    frozenset({"deedster"}),
    frozenset({"transaction_line_items"}),
)
"""Flags that are allowed or rejected together: so they are tried when a rejection names none."""
WORDS: Final = {
    "tpa_signed": "signed TPAs",
    "receipt_fetched": "receipts",
    "transaction_true_vat": "VAT",
    "transaction_line_items": "line items",
    "aland_index": "CO2 (Åland Index)",
    "deedster": "CO2 (Deedster)",
    **dict.fromkeys(sorted(TRANSACTIONS), "transactions"),
    **dict.fromkeys(sorted(NEED_NO_BILLING - {"tpa_signed"}), "card holders"),
}
"""Flag → what people call its events."""
RETRY_AFTER: Final = timedelta(days=1)
"""How long a rejection is remembered before the flag is asked for again."""
REJECTIONS: Final = (InvalidRequest, AccessDenied, Conflict)
"""How OpenCard may reject a flag: neither the status nor the body of that answer is documented."""


class Unavailable(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an organization does not have a flag."""

    reason: str
    rejected_at: datetime | None = None
    """When OpenCard rejected it (aware); ``None`` where its billing says so."""
    basis: str = ""
    """What was known of the billing when it was rejected: when that changes, the flag is asked for again."""


def basis_of(organization: Organization, billings: Mapping[str, Billing] | None) -> str:
    """Return what is known of an organization's billing, as one text; *billings* is ``None`` if they cannot be read."""
    if organization.billing_id is msgspec.UNSET:
        return "unknown"
    billing = (billings or {}).get(str(organization.billing_id))
    return str(organization.billing_id) if billing is None else str(billing)


def unavailable_flags(
    organization: Organization,
    billings: Mapping[str, Billing] | None,
    remembered: Mapping[str, Unavailable],
    *,
    retry_before: datetime | None,
) -> dict[str, Unavailable]:
    """Return the flags that an organization cannot have, by what is known before anything is asked for.

    *remembered* are those that it could not have at the last run. Of them, those that OpenCard rejected before
    *retry_before* (aware) are left out, which means that they are asked for again; ``None`` remembers them all.
    """
    if organization.billing_id is None:
        why = Unavailable("the organization has no billing profile (billing_id): assign one at OpenCard")
        return dict.fromkeys(sorted(EVENT_OF.keys() - NEED_NO_BILLING), why)
    found = {}
    basis = basis_of(organization, billings)
    billing = (billings or {}).get(str(organization.billing_id))
    for flag in EVENT_OF:
        product = PRODUCT_OF.get(flag, "")
        before = remembered.get(flag)
        if billing is not None and billing.products.get(product) is False:
            found[flag] = Unavailable(f"not in this client's billing ({product} is off in billing {billing.id})")
        elif before is not None and _still_holds(before, basis, retry_before):
            found[flag] = before
    return found


def _still_holds(before: Unavailable, basis: str, retry_before: datetime | None) -> bool:
    """Return whether a rejection is still to be remembered."""
    if before.rejected_at is None or before.basis != basis:
        return False
    return retry_before is None or before.rejected_at > retry_before


def subscribe(
    send: Callable[[frozenset[str]], T], wanted: frozenset[str], *, current: frozenset[str] = frozenset()
) -> tuple[T, dict[str, OpenCardError]]:
    """Send a webhook with the *wanted* flags, or with as many of them as OpenCard allows.

    *send* sends it with just these flags on. *current* are those that are on already: they are never switched off on
    the way. A rejection that names flags leaves these out; after one that names none, or all, groups of flags are tried
    one after the other. Returns what the last *send* that was not rejected returned, and the flags that were rejected,
    each with its error. Raises the first error when not even the flags that need no billing are accepted, and any other
    error at once.
    """
    rejected: dict[str, OpenCardError] = {}
    asked = wanted
    while True:
        try:
            return send(asked), rejected
        except REJECTIONS as error:
            named = _named(error.answer) & asked
            if not named or named == asked:
                return _group_by_group(send, asked, asked & current, error, rejected)
            rejected |= dict.fromkeys(sorted(named), error)
            asked -= named


def switches(on: Collection[str], known: Iterable[str] = EVENT_OF) -> dict[str, bool]:
    """Return the fields of a webhook that say of each *known* flag whether it is on."""
    return {flag: flag in on for flag in known}


def _group_by_group(
    send: Callable[[frozenset[str]], T],
    asked: frozenset[str],
    current: frozenset[str],
    first: OpenCardError,
    rejected: dict[str, OpenCardError],
) -> tuple[T, dict[str, OpenCardError]]:
    base = asked & NEED_NO_BILLING
    smaller = [flags for flags in (base | asked & TRANSACTIONS, base) if flags != asked]
    for accepted in dict.fromkeys([current, *smaller] if current else smaller):
        try:
            result = send(accepted)
        except REJECTIONS:
            continue
        break
    else:
        raise first
    for group in _groups(asked - accepted):
        try:
            result = send(accepted | group)
        except REJECTIONS as error:
            rejected |= dict.fromkeys(sorted(group), error)
        else:
            accepted |= group
    return result, rejected


def _groups(flags: frozenset[str]) -> Iterator[frozenset[str]]:
    """Yield *flags* in groups; those of no group together."""
    yield from (group & flags for group in (NEED_NO_BILLING, *GROUPS) if group & flags)
    rest = flags.difference(NEED_NO_BILLING, *GROUPS)
    if rest:
        yield rest


def _named(answer: str) -> frozenset[str]:
    """Return the flags that an answer names: by their own names, their events' or their products'."""
    words = set(re.findall(r"[A-Za-z_][\w.]*\w", answer))
    products = (flags for product, flags in PRODUCT_FLAGS.items() if product in words)
    return frozenset(flag for flag, event in EVENT_OF.items() if flag in words or event in words).union(*products)


def flags_by_reason(unavailable: Mapping[str, Unavailable]) -> dict[str, list[str]]:
    """Return the flags that cannot be had under the reason why not."""
    found: dict[str, list[str]] = defaultdict(list)
    for flag, why in unavailable.items():
        found[why.reason].append(flag)
    return found


def by_reason(unavailable: Mapping[str, Unavailable]) -> list[dict[str, object]]:
    """Return the events that cannot be had by the reason, as machines read it."""
    return [
        {"events": [EVENT_OF.get(flag, flag) for flag in flags], "reason": reason}
        for reason, flags in flags_by_reason(unavailable).items()
    ]


def in_words(unavailable: Mapping[str, Unavailable]) -> list[str]:
    """Return a line for each reason: which events, and why not."""
    return [f"{', '.join(words_of(flags))}: {reason}" for reason, flags in flags_by_reason(unavailable).items()]


def words_of(flags: Collection[str] | Iterable[str]) -> list[str]:
    """Return what people call the events of *flags*, each once."""
    return list(dict.fromkeys(WORDS.get(flag, flag) for flag in sorted(flags, key=_place)))


def _place(flag: str) -> int:
    return list(EVENT_OF).index(flag) if flag in EVENT_OF else len(EVENT_OF)
