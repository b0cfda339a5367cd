"""Which event flags an organization may have, and which to request when OpenCard rejects some (contract, section 3).

Pure: it sends no request itself.
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
"""Flags that are allowed or rejected together: they are tried as groups when a rejection names none."""
LABELS: Final = {
    "tpa_signed": "signed TPAs",
    "receipt_fetched": "receipts",
    "transaction_true_vat": "VAT",
    "transaction_line_items": "line items",
    "aland_index": "CO2 (Åland Index)",
    "deedster": "CO2 (Deedster)",
    **dict.fromkeys(sorted(TRANSACTIONS), "transactions"),
    **dict.fromkeys(sorted(NEED_NO_BILLING - {"tpa_signed"}), "card holders"),
}
"""Flag → a readable name of its events."""
RETRY_AFTER: Final = timedelta(days=1)
"""How long a rejected flag is not requested again."""
REJECTIONS: Final = (InvalidRequest, AccessDenied, Conflict)
"""How OpenCard may reject a flag: neither the status nor the body of that answer is documented."""


class UnavailableFlag(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an organization does not have a flag."""

    reason: str
    rejected_at: datetime | None = None
    """When OpenCard rejected it (aware); ``None`` where its billing says so."""
    basis: str = ""
    """The billing when it was rejected (``basis_of``): when that changes, the flag is requested again."""


def basis_of(organization: Organization, billings: Mapping[str, Billing] | None) -> str:
    """Return what is known of an organization's billing as a string; *billings* is ``None`` if they are unreadable."""
    if organization.billing_id is msgspec.UNSET:
        return "unknown"
    billing = (billings or {}).get(str(organization.billing_id))
    return str(organization.billing_id) if billing is None else str(billing)


def unavailable_flags(
    organization: Organization,
    billings: Mapping[str, Billing] | None,
    remembered: Mapping[str, UnavailableFlag],
    *,
    retry_before: datetime | None,
) -> dict[str, UnavailableFlag]:
    """Return the flags that an organization cannot have, as far as is known before the first request.

    *remembered* are those of the last run. Flags that OpenCard rejected before *retry_before* (aware) are left out, so
    that they are requested again; ``None`` keeps them all.
    """
    if organization.billing_id is None:
        why = UnavailableFlag("the organization has no billing profile (billing_id): assign one at OpenCard")
        return dict.fromkeys(sorted(EVENT_OF.keys() - NEED_NO_BILLING), why)
    found = {}
    basis = basis_of(organization, billings)
    billing = (billings or {}).get(str(organization.billing_id))
    for flag in EVENT_OF:
        product = PRODUCT_OF.get(flag, "")
        previous = remembered.get(flag)
        if billing is not None and billing.products.get(product) is False:
            found[flag] = UnavailableFlag(
                f"not in this organization's billing ({product} is off in billing {billing.id})"
            )
        elif previous is not None and _still_holds(previous, basis, retry_before):
            found[flag] = previous
    return found


def _still_holds(previous: UnavailableFlag, basis: str, retry_before: datetime | None) -> bool:
    if previous.rejected_at is None or previous.basis != basis:
        return False
    return retry_before is None or previous.rejected_at > retry_before


def subscribe(
    send: Callable[[frozenset[str]], T], desired: frozenset[str], *, current: frozenset[str] = frozenset()
) -> tuple[T, dict[str, OpenCardError]]:
    """Send a webhook with the *desired* flags, or with as many of them as OpenCard allows.

    *send* sends it with exactly these flags on. *current* are already on: they stay on in between, unless OpenCard
    rejects them, too. Flags that a rejection names are left out; after one that names none, or all, groups of flags are
    tried one by one.

    Returns the result of the last accepted *send*, and the rejected flags with their errors. Raises the first error
    when not even the flags that need no billing are accepted, and any other error at once.
    """
    rejected: dict[str, OpenCardError] = {}
    requested = desired
    while True:
        try:
            return send(requested), rejected
        except REJECTIONS as error:
            named = _named(error.answer) & requested
            if not named or named == requested:
                return _group_by_group(send, requested, requested & current, error, rejected)
            rejected |= dict.fromkeys(sorted(named), error)
            requested -= named


def flag_fields(on: Collection[str], known: Iterable[str] = EVENT_OF) -> dict[str, bool]:
    """Return the webhook fields of the *known* flags, true for those that are *on*."""
    return {flag: flag in on for flag in known}


def _group_by_group(
    send: Callable[[frozenset[str]], T],
    requested: frozenset[str],
    current: frozenset[str],
    first: OpenCardError,
    rejected: dict[str, OpenCardError],
) -> tuple[T, dict[str, OpenCardError]]:
    base = requested & NEED_NO_BILLING
    smaller = [flags for flags in (base | requested & TRANSACTIONS, base) if flags != requested]
    for accepted in dict.fromkeys([current, *smaller] if current else smaller):
        try:
            result = send(accepted)
        except REJECTIONS:
            continue
        break
    else:
        raise first
    for group in _groups(requested - accepted):
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
    """Return the flags that an answer names: by flag, event or product."""
    words = set(re.findall(r"[A-Za-z_][\w.]*\w", answer))
    products = (flags for product, flags in PRODUCT_FLAGS.items() if product in words)
    return frozenset(flag for flag, event in EVENT_OF.items() if flag in words or event in words).union(*products)


def flags_by_reason(unavailable: Mapping[str, UnavailableFlag]) -> dict[str, list[str]]:
    """Group the unavailable flags by their reason."""
    found: dict[str, list[str]] = defaultdict(list)
    for flag, why in unavailable.items():
        found[why.reason].append(flag)
    return found


def by_reason(unavailable: Mapping[str, UnavailableFlag]) -> list[dict[str, object]]:
    """Return the unavailable events by reason, for JSON."""
    return [
        {"events": [EVENT_OF.get(flag, flag) for flag in flags], "reason": reason}
        for reason, flags in flags_by_reason(unavailable).items()
    ]


def describe_unavailable(unavailable: Mapping[str, UnavailableFlag]) -> list[str]:
    """Return a line for each reason, with its events."""
    return [f"{', '.join(labels_of(flags))}: {reason}" for reason, flags in flags_by_reason(unavailable).items()]


def labels_of(flags: Collection[str] | Iterable[str]) -> list[str]:
    """Return readable names of the events of *flags*, each once."""
    return list(dict.fromkeys(LABELS.get(flag, flag) for flag in sorted(flags, key=_place)))


def _place(flag: str) -> int:
    return list(EVENT_OF).index(flag) if flag in EVENT_OF else len(EVENT_OF)
