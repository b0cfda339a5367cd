"""Which of the deliveries that arrived while a test was awaited is the test? Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.errors import EventError
from receiver.events.catalogue import ALIASES, canonical_name
from receiver.events.content import decode, fingerprint, reference_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from receiver.events.event import StoredDelivery
    from receiver.events.registry import Handler

PAYLOAD_FIELDS: Final = ("payload", "data", "body")
"""Where the answer to the request for a test may tell what is sent; it is not documented."""
UNREADABLE: Final = (EventError, msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Decision:
    """Which of the candidates is the test, and which might be it."""

    test: int | None = None
    unclear: tuple[int, ...] = ()


def spellings(event: str) -> list[str]:
    """Return every name under which *event*, a name in the catalogue, may arrive."""
    return [event, *(alias for alias, name in ALIASES.items() if name == event)]


def told_fingerprint(event: str, answer: bytes, handlers: Mapping[str, Handler], organization: str) -> bytes | None:
    """Return the fingerprint of the payload that *answer* tells, ``None`` when it tells none.

    What cannot be a payload of *event* is none: other answers, too, have a ``data``.
    """
    try:
        fields = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
        for name in PAYLOAD_FIELDS:
            if name in fields and bytes(fields[name]).startswith(b"{"):
                told = bytes(fields[name])
                msgspec.convert(decode(told), handlers[event].payload_type, builtin_types=(Decimal,))
                return fingerprint(event, told, organization)
    except UNREADABLE:
        pass
    return None


def decide(candidates: Sequence[StoredDelivery], *, told: bytes | None, sent: bool) -> Decision:
    """Tell which of *candidates* is the test. Pure.

    The test is the one that equals what OpenCard said it sends (its fingerprint is *told*); else the only one that
    names another organization than its webhook's, as an example may and a real event never does; else the only one
    there is. That last is no proof: it does not do when OpenCard may not have been asked at all (not *sent*), when
    what it said it sends is something else, or for what reconcile found in OpenCard's log.
    """
    equal = [each for each in candidates if told is not None and _by_value(each) == told]
    if equal:
        return _the_only(equal)
    foreign = [each for each in candidates if _names_another_organization(each)]
    if len(foreign) == 1:
        return _the_only(foreign, surely=sent)
    return _the_only(candidates, surely=sent and told is None and all(each.source == "push" for each in candidates))


def _the_only(possible: Sequence[StoredDelivery], *, surely: bool = True) -> Decision:
    ids = tuple(each.id for each in possible)
    return Decision(test=ids[0]) if surely and len(ids) == 1 else Decision(unclear=ids)


def _by_value(delivery: StoredDelivery) -> bytes | None:
    try:
        return fingerprint(
            canonical_name(delivery.event) or delivery.event, delivery.body, delivery.organization_reference_id
        )
    except UNREADABLE:
        return None


def named_organization(delivery: StoredDelivery) -> str | None:
    """Return the organization that the payload names, ``None`` when it names none."""
    try:
        return reference_of(decode(delivery.body), "organization")
    except UNREADABLE:
        return None


def _names_another_organization(delivery: StoredDelivery) -> bool:
    return named_organization(delivery) not in (None, delivery.organization_reference_id)
