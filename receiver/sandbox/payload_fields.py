"""The fields that a payload has, by the contract: what can be set in an event that is sent on demand. Pure."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.events.kinds import payload_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FREE: Final = "payment_product"
"""A field that OpenCard sends and the service keeps in the payload alone; what is in it can be set freely."""

ITS_OWN: Final = frozenset({"id", "state", "transaction.id"})
"""What a following event has of itself, or of the transaction that it is about."""


def changes_of_each(events: Sequence[str], changes: Mapping[str, str]) -> list[dict[str, str]]:
    """Return which of the *changes* (field → value) are of each of *events*, which are about one transaction.

    Raises ``ValueError``, which names the nearest field, for a field that none of them has.
    """
    known = sorted({name for event in events for name in fields_of(event)})
    for path in changes:
        if any(_has_field(event, path) for event in events):
            continue
        nearest = get_close_matches(path, known, n=1)
        advice = f"did you mean {nearest[0]}?" if nearest else f"its fields: {', '.join(known)}"
        raise ValueError(f"{' and '.join(dict.fromkeys(events))}: no field {path!r}; {advice}")
    return [
        {path: text for path, text in changes.items() if _has_field(event, path) and not (number and path in ITS_OWN)}
        for number, event in enumerate(events)
    ]


def _has_field(event: str, path: str) -> bool:
    return path in fields_of(event) or path.partition(".")[0] == FREE


def fields_of(event: str) -> set[str]:
    """Return the fields, those inside another one with its name (``transaction.id``)."""
    found = set()
    for each in msgspec.structs.fields(payload_type(event)):
        found.add(each.encode_name)
        if isinstance(each.type, type) and issubclass(each.type, msgspec.Struct):
            found |= {f"{each.encode_name}.{inner.encode_name}" for inner in msgspec.structs.fields(each.type)}
    return found
