"""Billing profiles: the products that are switched on, the flags they unlock, and how a flag is rejected.

Contract, section 3. Open there, and so a matter of ``Behaviour``: how a profile is shown, what unlocks the events of no
documented product, and the status and body of a rejection.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from receiver.sandbox.provider.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from receiver.sandbox.provider.resources import ProviderBilling

PRODUCTS: Final = ("product_transaction", "product_digital_receipt", "product_aland_index")
ORDINARY: Final = frozenset({"product_transaction"})
"""What an ordinary client has."""
PRODUCT_OF: Final = {
    "card_transaction_authorized": "product_transaction",
    "card_transaction_cleared": "product_transaction",
    "card_transaction_deleted": "product_transaction",
    "card_transaction_invoiced": "product_transaction",
    "receipt_fetched": "product_digital_receipt",
    "transaction_true_vat": "product_digital_receipt",
    "aland_index": "product_aland_index",
}
"""Flag → the product that unlocks it."""
NOT_DOCUMENTED: Final = ("transaction_line_items", "deedster")
"""Flags of which no page says what unlocks them; without a billing profile they are rejected, too."""

Mix: TypeAlias = Literal["all", "ordinary", "mixed", "none"]
MIXES: Final[dict[Mix, tuple[frozenset[str] | None, ...]]] = {
    "all": (frozenset(PRODUCTS),),
    "ordinary": (ORDINARY,),
    "mixed": (frozenset(PRODUCTS), ORDINARY | {"product_digital_receipt"}, ORDINARY),
    "none": (None,),
}
"""The products of organizations, in turn; ``None`` is no billing profile at all."""
BillingStyle: TypeAlias = Literal["booleans", "numbers", "nested", "list"]
"""How the switches of a profile are shown."""
Rejection: TypeAlias = Literal[
    "errors", "sentence", "one", "nameless", "bad-request", "forbidden", "conflict", "empty", "echo"
]
"""How a flag that the billing does not allow is rejected.

- ``errors``       422, each flag under ``errors``
- ``sentence``     422, all flags in one sentence
- ``one``          422, only the first flag
- ``nameless``     422 without any name
- ``bad-request``  the same with 400
- ``forbidden``    403, as for a missing scope
- ``conflict``     409 without any name
- ``empty``        422 with an empty object
- ``echo``         422 with the request's own fields, which names every flag
"""


def rejected_flags(
    wanted: Collection[str], billing: ProviderBilling | None, *, undocumented_need: Mapping[str, str]
) -> list[str]:
    """Return which of the *wanted* flags an organization with this *billing* may not have."""
    product_of = {**PRODUCT_OF, **undocumented_need}
    products = frozenset[str]() if billing is None else billing.products
    found = [flag for flag, product in product_of.items() if flag in wanted and product not in products]
    if billing is None:
        found += [flag for flag in NOT_DOCUMENTED if flag in wanted and flag not in found]
    return found


def reject(flags: list[str], style: Rejection, requested: Mapping[str, object]) -> Refused:
    """Return the refusal of a webhook that asks for these *flags*."""
    return _STYLES[style](flags, requested)


def billing_fields(billing: ProviderBilling, style: BillingStyle) -> dict[str, object]:
    """Return a profile as its list shows it, with a field that the contract does not know."""
    switches: dict[str, object] = {product: product in billing.products for product in PRODUCTS}
    shown: dict[BillingStyle, dict[str, object]] = {
        "booleans": switches,
        "numbers": {name: int(bool(on)) for name, on in switches.items()},
        "nested": {"products": switches},
        "list": {"products": sorted(billing.products)},
    }
    return {
        "id": billing.id,
        "account_id": billing.account_id,
        "name": billing.name,
        **shown[style],
        "vat_number": "SE1",
    }


def _refused(status: HTTPStatus, text: str, **fields: object) -> Refused:
    refused = Refused(status, text)
    refused.fields = {"error": text, **fields}
    return refused


_NAMELESS: Final = "The billing does not allow these events."
_STYLES: Final[dict[Rejection, Callable[[list[str], Mapping[str, object]], Refused]]] = {
    "errors": lambda flags, _: _refused(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The given data was invalid.",
        errors={flag: [f"The {flag.replace('_', ' ')} is not allowed."] for flag in flags},
    ),
    "sentence": lambda flags, _: _refused(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"The billing does not allow {', '.join(flags)}."
    ),
    "one": lambda flags, _: _refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"The billing does not allow {flags[0]}."),
    "nameless": lambda _flags, _: _refused(HTTPStatus.UNPROCESSABLE_ENTITY, _NAMELESS),
    "bad-request": lambda _flags, _: _refused(HTTPStatus.BAD_REQUEST, _NAMELESS),
    "forbidden": lambda _flags, _: _refused(HTTPStatus.FORBIDDEN, "This action is unauthorized."),
    "conflict": lambda _flags, _: _refused(HTTPStatus.CONFLICT, _NAMELESS),
    "empty": lambda _flags, _: _empty(),
    "echo": lambda _flags, requested: _refused(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        _NAMELESS,
        request={name: value for name, value in requested.items() if name != "secret"},
    ),
}


def _empty() -> Refused:
    refused = Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "")
    refused.fields = {}
    return refused
