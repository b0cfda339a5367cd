"""A delivery as a fixture: the same structure and types, and nothing of a person, a company or a purchase in it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import OperationRefused
from receiver.events.catalogue import EVENT_FLAGS
from receiver.ops.deliveries.fixture import Fixture, make_fixture
from tests.support.factories import body, enrichment, sample, snapshot

KEY = b"a key"
SECRETS = ("Anna Svensson", "19800101-1234", "anna.svensson@example.com", "Ångström & Söner", "2026-02-14", "山田")
NUMBERS = (198001011234, Decimal("19800101.1234"))
FIELDS = ("purchase_merchant", "original_amount", "state", "vat_rate", "purchase_time", "exchange_rate", "email", "x")


def fixture(event: str, payload: object, key: bytes = KEY) -> Fixture:
    return make_fixture(
        event, {"X-Event": event, "X-Version": "1", "X-Environment": "Anna Svensson"}, body(payload), key
    )


def shape(value: Any) -> Any:
    """Return the structure and the types of a JSON value, and the shapes of its texts."""
    match value:
        case dict():
            return {name: shape(each) for name, each in value.items()}
        case list():
            return [shape(each) for each in value]
        case str():
            return "".join("x" if each.isalpha() else "0" if each.isdigit() else each for each in value)
        case _:
            return type(value)


def texts(value: Any) -> list[tuple[str, str]]:
    """Return each text in a JSON value with the name of its field."""
    if isinstance(value, list):
        return [found for each in value for found in texts(each)]
    return [
        found
        for name, each in value.items()
        for found in ([(name, each)] if isinstance(each, str) else texts(each) if isinstance(each, dict | list) else [])
    ]


KEPT = frozenset(
    {"state", "type", "card_type", "card_funding", "content_type", "purchase_country", "purchase_time"}
    | {"purchase_timezone", "mcc_code"}
)


@pytest.mark.parametrize("event", sorted(EVENT_FLAGS))
def test_structure_and_types_stay_and_every_text_is_another(event: str) -> None:
    payload = sample(event)
    made = fixture(event, payload)
    assert (made.event, made.headers) == (event, {"X-Event": event, "X-Version": "1"})
    assert shape(made.body) == shape(payload)
    for (name, before), (_, after) in zip(texts(payload), texts(made.body), strict=True):
        assert before != after or name in KEPT or name.endswith("currency"), name
    assert msgspec.json.decode(made.as_json())["event"] == event


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from((*FIELDS, *SECRETS))
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
    )


@given(payload=st.dictionaries(st.sampled_from((*FIELDS, *SECRETS)), nested(st.sampled_from((*SECRETS, *NUMBERS)))))
def test_odd_payload_has_nothing_personal(payload: dict[str, Any]) -> None:
    written = fixture("card.transaction.cleared", payload).as_json()
    assert not [secret for secret in (*SECRETS, *map(str, NUMBERS)) if secret in written]
    assert not [word for word in ("Anna", "svensson", "example", "1980", "Ångström") if word in written]


def test_odd_texts_keep_what_is_odd_about_them() -> None:
    odd = snapshot("cleared", purchase_time="24:00:00", purchase_date="", mcc_code=5812, purchase_merchant="a\0ü " * 9)
    made = fixture("card.transaction.cleared", odd)
    assert (made.body["purchase_time"], made.body["purchase_date"], made.body["mcc_code"]) == ("24:00:00", "", 5812)
    assert shape(made.body["purchase_merchant"]) == "x\0x " * 9


def test_deliveries_of_one_purchase_belong_together() -> None:
    cleared = fixture("card.transaction.cleared", snapshot("cleared", transaction="transaction-1")).body
    receipt = fixture("receipt.fetched", enrichment("receipt.fetched", transaction="transaction-1")).body
    other = fixture("card.transaction.cleared", snapshot("cleared", transaction="transaction-2")).body
    assert cleared["id"] == receipt["transaction"]["id"] != other["id"]
    assert cleared["card_holder"] == receipt["card_holder"] == other["card_holder"]
    again = fixture("card.transaction.cleared", snapshot("cleared", transaction="transaction-1"), b"another key").body
    assert again["id"] != cleared["id"]


@given(
    amounts=st.lists(st.decimals("-999999.99", "999999.99", places=2), min_size=1, max_size=5),
    large=st.sampled_from((0, 10**400, Decimal("1E+500"), Decimal("-1E-500"))),
)
def test_amounts_add_up_as_before(amounts: list[Decimal], large: Decimal) -> None:
    rates = [{"vat_amount": amount} for amount in amounts]
    payload = {"vat_rates": rates, "totals": [{"vat_amount": sum(amounts)}], "original_amount": large}
    made = fixture("transaction.true.vat", payload).body
    assert sum(rate["vat_amount"] for rate in made["vat_rates"]) == made["totals"][0]["vat_amount"]
    assert [rate["vat_amount"].as_tuple().exponent for rate in made["vat_rates"]] == [-2] * len(amounts)
    if amounts[0]:
        assert made["vat_rates"][0]["vat_amount"] != amounts[0]


@pytest.mark.parametrize("content", [b"", b"not JSON: Anna", b"[1]", b'"Anna"', b"\xff\xfe", b"[" * 100_000])
def test_content_that_is_no_object_is_refused(content: bytes) -> None:
    with pytest.raises(OperationRefused, match="no JSON object"):
        make_fixture("card.transaction.cleared", {}, content, KEY)
