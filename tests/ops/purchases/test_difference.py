"""The difference of two payloads."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest

from receiver.events.kinds import KINDS
from receiver.events.payloads import ItemLine, TransactionLink, VatRateLine
from receiver.ops.purchases.difference import PERSONAL_COLUMNS, PUBLIC, difference, exact, is_personal
from tests.support.factories import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping


def changed(before: Mapping[str, object] | None, after: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    return {each.name: (each.before, each.after) for each in difference(before, after, personal=False)}


def test_fields_with_other_values_are_the_difference() -> None:
    before = {"state": "authorized", "original_amount": Decimal("109.38"), "purchase_city": "Berlin", "mcc_code": None}
    after = {"state": "cleared", "original_amount": Decimal("109.40"), "purchase_city": "Berlin", "mcc_code": "5812"}
    assert changed(before, after) == {
        "state": ("authorized", "cleared"),
        "original_amount": ("109.38", "109.40"),
        "mcc_code": (None, "5812"),
    }


def test_null_is_like_a_field_that_was_not_sent() -> None:
    assert changed({"mcc_code": None}, {}) == {}
    assert changed({"mcc_code": "5812"}, {"mcc_code": None}) == {"mcc_code": ("5812", None)}


def test_lists_differ_line_by_line() -> None:
    before = {"vat_rates": [{"percentage": 19}, {"percentage": 7}]}
    assert changed(before, {"vat_rates": [{"percentage": 25}]}) == {
        "vat_rates.1.percentage": ("19", "25"),
        "vat_rates.2.percentage": ("7", None),
    }


def test_personal_values_are_hidden_unless_asked_for() -> None:
    before = snapshot("authorized", card_last_four="1111", nickname="Kim")
    after = snapshot("authorized", card_last_four="2222", nickname="Kay", card_holder={"reference_id": "employee-18"})
    hidden = difference(before, after, personal=False)
    assert {each.name for each in hidden} == {"card_last_four", "nickname", "card_holder.reference_id"}
    assert {(each.before, each.after, each.hidden) for each in hidden} == {(None, None, True)}
    shown = {each.name: each.after for each in difference(before, after, personal=True)}
    assert shown["card_holder.reference_id"] == "employee-18"
    assert shown["nickname"] == "Kay"


def test_public_fields_are_those_of_the_contract() -> None:
    structs: list[type[msgspec.Struct]] = [
        *(payload for kind in KINDS for payload in kind.payloads.values()),
        *(TransactionLink, VatRateLine, ItemLine),
    ]
    contract = {each.name for struct in structs for each in msgspec.structs.fields(struct)}
    assert PUBLIC - contract == {"reference_id", "payment_product", "card_funding"}
    assert contract - PUBLIC <= PERSONAL_COLUMNS


def test_fields_of_the_contract_are_not_hidden() -> None:
    paths = ("purchase_merchant", "transaction.id", "line_items.1.description", "payment_product.name")
    assert [path for path in paths if is_personal(path)] == []
    assert is_personal("url")


@pytest.mark.parametrize("payload", [b"", b"no json", b"[1]", b"[" * 100_000, b'"text"', b"\xff", b'{"a": 1'])
def test_payload_that_is_no_object_is_none(payload: bytes) -> None:
    assert exact(payload) is None
    assert exact(b'{"amount": 45.00}') == {"amount": Decimal("45.00")}
