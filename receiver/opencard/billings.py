"""Billing profiles: which products an organization has, and so which flags its webhook may have.

Contract, section 3. The form of the answer is undocumented: it is read tolerantly, and only here. A profile has an
``id``, and somewhere in it switches whose names begin with ``product_``: true or false, 0 or 1, an object with
``enabled``, or a list of those that are on. A switch that an answer lacks is unknown, neither on nor off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from receiver.errors import UnreadableAnswer
from receiver.opencard.client import Answer
from receiver.opencard.routes import LIST_BILLINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from receiver.opencard.client import OpenCard

PRODUCT_FLAGS: Final[dict[str, frozenset[str]]] = {
    "product_transaction": frozenset(
        {
            "card_transaction_authorized",
            "card_transaction_cleared",
            "card_transaction_deleted",
            "card_transaction_invoiced",
        }
    ),
    "product_digital_receipt": frozenset({"receipt_fetched", "transaction_true_vat"}),
    "product_aland_index": frozenset({"aland_index"}),
}
"""Product → the webhook flags that it unlocks. For other flags no product is documented."""
PRODUCT_OF: Final = {flag: product for product, flags in PRODUCT_FLAGS.items() for flag in flags}
PREFIX: Final = "product_"
YES: Final = frozenset({"1", "true", "yes", "on", "enabled", "active"})
NO: Final = frozenset({"0", "false", "no", "off", "disabled", "inactive"})
STATE_FIELDS: Final = ("enabled", "active", "value")
"""The fields in which a switch that is an object has its state."""


@dataclass(frozen=True, slots=True)
class Billing:
    """A billing profile: its id as a string, and the switches that the answer has."""

    id: str
    products: Mapping[str, bool]

    def __str__(self) -> str:
        """Return the id and the products that are on: the basis of a stored rejection."""
        return f"{self.id}:{','.join(sorted(name for name, on in self.products.items() if on))}"


class _Item(Answer, frozen=True):
    """One unparsed item of the list."""

    fields: dict[str, Any]

    @classmethod
    def read(cls, item: Any) -> Self:  # noqa: ANN401 - any JSON value
        return cls(item if isinstance(item, dict) else {})


def list_billings(api: OpenCard) -> dict[str, Billing]:
    """Return the billing profiles of the account by their ids. Raises an ``OpenCardError``."""
    found = {}
    for item in api.list(LIST_BILLINGS, _Item):
        number = item.fields.get("id")
        if isinstance(number, bool) or not isinstance(number, (int, str)):
            raise UnreadableAnswer(f"GET {LIST_BILLINGS.path}: a billing profile has no id, but {number!r}")
        found[str(number)] = Billing(str(number), dict(_switches(item.fields)))
    return found


def _switches(value: Any) -> Iterator[tuple[str, bool]]:  # noqa: ANN401 - any JSON value
    """Yield each switch in a JSON value, at any depth; those missing in a list of names are off."""
    if isinstance(value, dict):
        for name, inner in value.items():
            on = _is_on(inner) if name.startswith(PREFIX) else None
            if on is not None:
                yield name, on
            elif isinstance(inner, (dict, list)):
                yield from _switches(inner)
    elif isinstance(value, list):
        names = {name for name in value if isinstance(name, str) and name.startswith(PREFIX)}
        if names:
            yield from ((name, name in names) for name in PRODUCT_FLAGS.keys() | names)
        for inner in value:
            if isinstance(inner, (dict, list)):
                yield from _switches(inner)


def _is_on(value: Any) -> bool | None:  # noqa: ANN401 - any JSON value
    """Whether a switch with this value is on; ``None`` when that is not clear."""
    if isinstance(value, dict):
        return next((_is_on(value[name]) for name in STATE_FIELDS if name in value), None)
    if isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    word = value.strip().lower() if isinstance(value, str) else ""
    return True if word in YES else False if word in NO else None
