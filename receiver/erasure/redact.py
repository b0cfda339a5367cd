"""The fields of a payload that may stay when its card holder is erased. Pure.

The accounting facts stay: amounts, dates, merchant, items. What names the person is removed, and so is every
field that the contract does not list, because it may name the person too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from receiver.events.content import reference_of, without_nul
from receiver.events.payloads import Owner, TransactionLink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.events.payloads import Payload

PERSONAL_FIELDS: Final = ("card_last_four", "card_id", "card_issuer_customer_number")
"""Fields of the contract, and columns, that lead to the person, besides the reference."""
_NESTED: Final = {"organization": Owner, "transaction": TransactionLink}


def redact(content: Mapping[str, Any], payload_type: type[Payload], pseudonym: str) -> dict[str, Any]:
    """Return *content* (a decoded payload) without what leads to the person; *pseudonym* replaces the reference."""
    kept = {
        name: _fields(value, _NESTED[name].__struct_encode_fields__) if name in _NESTED else without_nul(value)
        for name, value in content.items()
        if name in payload_type.__struct_fields__ and name not in PERSONAL_FIELDS
    }
    if "card_holder" in kept:
        kept["card_holder"] = {"reference_id": pseudonym}
    return kept


def named_card_holder(content: Mapping[str, Any]) -> str | None:
    """Return the reference of the card holder that *content* names, as columns have it; ``None`` without one."""
    reference = reference_of(content, "card_holder")
    return None if reference is None else without_nul(reference)


def _fields(value: Any, names: tuple[str, ...]) -> Any:  # noqa: ANN401 - any JSON value
    if not isinstance(value, dict):
        return None
    return {name: without_nul(item) for name, item in value.items() if name in names}
