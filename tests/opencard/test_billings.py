"""Billing profiles are read in whatever form they come; what is not clear is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import UnreadableAnswer
from receiver.opencard.billings import Billing, _switches, list_billings
from receiver.opencard.client import OpenCard
from receiver.opencard.tokens import MemoryTokens
from tests.opencard.conftest import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request, Response

    from receiver.opencard.auth import Access

    Answering = Callable[[Callable[[Request], Response]], Access]

TRANSACTIONS_ONLY = {"product_transaction": True, "product_digital_receipt": False, "product_aland_index": False}


def billings(answering: Answering, answer: object) -> dict[str, Billing]:
    with OpenCard(answering(lambda _: as_json(answer)), ["billings-read"], MemoryTokens()) as api:
        return list_billings(api)


@pytest.mark.parametrize(
    "fields",
    [
        TRANSACTIONS_ONLY,
        {name: int(on) for name, on in TRANSACTIONS_ONLY.items()},
        {name: str(on).lower() for name, on in TRANSACTIONS_ONLY.items()},
        {name: {"enabled": on, "price": 3} for name, on in TRANSACTIONS_ONLY.items()},
        {"products": TRANSACTIONS_ONLY},
        {"products": ["product_transaction"]},
        {"attributes": {"switches": [TRANSACTIONS_ONLY]}},
    ],
    ids=["booleans", "numbers", "texts", "objects", "nested", "a list of those that are on", "deeply nested"],
)
def test_switches_are_found_in_any_form(answering: Answering, fields: dict[str, Any]) -> None:
    found = billings(answering, {"data": [{"id": 12, "name": "Standard", **fields}], "last_page": 1, "total": 1})
    assert found == {"12": Billing("12", TRANSACTIONS_ONLY)}
    assert str(found["12"]) == "12:product_transaction"


def test_unclear_switch_is_unknown(answering: Answering) -> None:
    found = billings(answering, [{"id": "b-1", "product_transaction": None, "product_digital_receipt": "perhaps"}])
    assert found == {"b-1": Billing("b-1", {})}


@pytest.mark.parametrize("answer", [{"message": "no"}, {"data": [{"product_transaction": True}]}, {"data": [7]}])
def test_invalid_billing_list_is_unreadable(answering: Answering, answer: object) -> None:
    with pytest.raises(UnreadableAnswer):
        billings(answering, answer)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("product_x"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["product_x", "enabled", "a"]), inner, max_size=3)
    ),
)


@given(VALUES)
def test_switches_of_any_value_are_read_without_error(value: object) -> None:
    assert all(isinstance(on, bool) for _, on in _switches(value))
