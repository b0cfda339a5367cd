"""What differs between two payloads, field by field. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.events.content import encode
from receiver.events.kinds import KINDS
from receiver.events.payloads import ItemLine, TransactionLink, VatRateLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PERSONAL: Final = frozenset({"card_holder", "card_holder_reference_id", "card_id", "card_last_four", "url"})
"""Fields about a person or a person's card. The address of a receipt may be all that is needed to read it."""
_STRUCTS: Final[tuple[type[msgspec.Struct], ...]] = (
    *(payload for kind in KINDS for payload in kind.payloads.values()),
    TransactionLink,
    VatRateLine,
    ItemLine,
)
KNOWN: Final = frozenset(
    {"reference_id", "payment_product", "name", "card_funding"}
    | {each.name for struct in _STRUCTS for each in msgspec.structs.fields(struct)}
)
"""Fields of the contract. Any other may hold anything."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that has another value than before."""

    name: str
    """Its path, such as ``vat_rates.1.vat_amount``."""
    before: str | None = field(repr=False)
    """``None`` when it was not sent, or is hidden."""
    after: str | None = field(repr=False)
    hidden: bool
    """Whether the values are left out, because they are personal or may be."""


def difference(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], *, personal: bool
) -> tuple[FieldChange, ...]:
    """Return the fields that differ, in the order in which they were sent.

    Payloads are JSON with exact numbers (``receiver.events.content.decode``). *personal*: with the values of personal
    fields, and of those that the contract does not name.
    """
    old, new = dict(_flat(before or {})), dict(_flat(after))
    changed = [path for path in {**new, **old} if old.get(path) != new.get(path)]
    return tuple(
        FieldChange(path, old.get(path), new.get(path), hidden=False)
        if personal or not is_personal(path)
        else FieldChange(path, None, None, hidden=True)
        for path in changed
    )


def is_personal(path: str) -> bool:
    """Return whether the field may tell about a person; one that the contract does not name may."""
    names = [name for name in path.split(".") if not name.isdecimal()]
    return any(name in PERSONAL or name not in KNOWN for name in names)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    """Yield each field of JSON with its value as text; null is like a field that was not sent."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, item in enumerate(value, start=1):
            yield from _flat(item, f"{path}.{number}")
    elif value is not None:
        yield path, value if isinstance(value, str) else encode(value).decode()
