"""Payloads that are genuine as far as anybody can prove, and made to break what reads them."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.factories import body, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

EVENT = "card.transaction.cleared"
MEBIBYTE = 1024 * 1024
ALMOST_ALL = MEBIBYTE - 4096
"""A body may be a mebibyte."""
GOOD = body(snapshot("cleared", transaction="a-good-one"))


def with_field(name: str, value: bytes) -> bytes:
    """Return a snapshot in which a field has a value written in these very bytes."""
    return body(snapshot("cleared")).replace(b"{", b'{"%s":%s,' % (name.encode(), value), 1)


def deep(levels: int, opened: bytes = b"[", closed: bytes = b"]") -> bytes:
    return opened * levels + closed * levels


REFUSED = {
    "100,000 levels of lists": deep(100_000),
    "100,000 levels of objects": deep(100_000, b'{"a":', b"}").replace(b":}", b":1}", 1),
    "100,000 levels in a field that is read": with_field("state", deep(100_000)),
    "levels without an end": b"[" * ALMOST_ALL,
    "an amount of a megabyte": with_field("original_amount", b"9" * ALMOST_ALL),
    "an amount that is astronomic": with_field("original_amount", b"1e999999999"),
    "an amount that is nearly nothing": with_field("original_amount", b"1e-999999999"),
    "an amount that is no number": with_field("original_amount", b"NaN"),
    "an amount without an end": with_field("original_amount", b"Infinity"),
    "a card id of a megabyte": with_field("card_id", b"9" * ALMOST_ALL),
    "no UTF-8": with_field("purchase_merchant", b'"\xff\xfe\x80"'),
    "UTF-8 longer than it need be": with_field("purchase_merchant", b'"\xc0\xaf"'),
    "UTF-16": '{"id": "1"}'.encode("utf-16"),
    "gzip": gzip.compress(GOOD),
    "a gzip bomb": gzip.compress(b"0" * (200 * MEBIBYTE)),
    "two documents": GOOD + GOOD,
    "nothing": b"",
    "NUL": b"\0" * 1000,
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_unparsable_payload_is_dead_and_the_others_applied(acme: Acme, content: bytes) -> None:
    acme.deliver_ok(EVENT, content)
    acme.deliver_ok(EVENT, GOOD)
    acme.process()
    assert acme.statuses() == ["dead", "processed"]
    assert acme.value("SELECT id FROM ems.transactions") == "a-good-one"
    error = acme.value("SELECT error FROM receiver.deliveries WHERE status = 'dead'")
    assert error
    assert len(error) < 1000


TAKEN = {
    "a field that nobody knows, deep": with_field("unknown", deep(500)),
    "a merchant of a megabyte": with_field("purchase_merchant", b'"%s"' % (b"m" * (ALMOST_ALL - 4096))),
    "100,000 fields that nobody knows": with_field(
        "unknown", b"1," + b",".join(b'"u%d":1' % number for number in range(60_000))
    ),
}


@pytest.mark.parametrize("content", TAKEN.values(), ids=TAKEN.keys())
def test_odd_payload_is_applied_or_dead_alone(acme: Acme, content: bytes) -> None:
    acme.deliver_ok(EVENT, content)
    acme.deliver_ok(EVENT, GOOD)
    acme.process()
    assert acme.statuses()[0] in {"processed", "dead"}
    assert acme.statuses()[1] == "processed"


def test_of_a_key_that_comes_twice_one_value_holds_everywhere(acme: Acme) -> None:
    """A row and its snapshot must not differ."""
    twice = body(snapshot("cleared")).replace(b"{", b'{"original_amount":1.00,"purchase_merchant":"first",', 1)
    acme.apply(EVENT, twice)
    row = acme.row(
        "SELECT t.original_amount, t.purchase_merchant, s.payload ->> 'original_amount' AS sent_amount,"
        " s.payload ->> 'purchase_merchant' AS sent_merchant"
        " FROM ems.transactions AS t JOIN ems.transaction_states AS s ON s.transaction_id = t.id"
    )
    assert row["original_amount"] == Decimal(row["sent_amount"])
    assert row["purchase_merchant"] == row["sent_merchant"]


def test_repeated_organization_field_is_one_organization(acme: Acme) -> None:
    other = b'{"organization":{"reference_id":"globex"},'
    acme.deliver_ok(EVENT, body(snapshot("cleared")).replace(b"{", other, 1))
    acme.deliver_ok(EVENT, body(snapshot("cleared"))[:-1] + b"," + other[1:-1] + b"}")
    acme.process()
    assert set(acme.rows("SELECT organization_reference_id FROM ems.transactions")[0].values()) == {"acme"}
    found = acme.rows("SELECT payload #>> '{organization,reference_id}' AS organization FROM ems.events")
    assert {row["organization"] for row in found} <= {"acme"}


def test_processing_a_thousand_of_them_keeps_its_memory(acme: Acme) -> None:
    """Each is given back before the next; the process does not grow with what it was sent."""
    process = psutil.Process()
    worst = [REFUSED["100,000 levels of lists"], REFUSED["an amount of a megabyte"], TAKEN["a merchant of a megabyte"]]

    def round_of_them() -> int:
        for content in worst * 3:
            acme.deliver_ok(EVENT, content)
        acme.process()
        return int(process.memory_info().rss)

    first = max(round_of_them() for _ in range(2))
    assert round_of_them() < first + 64 * MEBIBYTE


def test_text_that_would_be_code_elsewhere_is_text(acme: Acme) -> None:
    merchant = "'); DROP TABLE ems.transactions; -- <script>alert(1)</script> ${jndi:ldap://x} {{7*7}} %s %n =1+1"
    acme.apply(EVENT, json.dumps(snapshot("cleared", purchase_merchant=merchant), default=float).encode())
    assert acme.value("SELECT purchase_merchant FROM ems.transactions") == merchant
