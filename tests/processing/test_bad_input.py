"""A genuine delivery that cannot be parsed is kept unchanged, waits for an operator, and stops no other."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.errors import PayloadError
from receiver.events.content import decode, fingerprint
from receiver.events.parse import AMOUNT_PLACES
from tests.support.factories import body, card_holder, enrichment, sample, snapshot
from tests.support.processing_steps import process_again

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

CLEARED = "card.transaction.cleared"
DELIVERY = "SELECT status, error, body FROM receiver.deliveries ORDER BY id DESC LIMIT 1"

SENSELESS = [
    (b"", "body: not JSON"),
    (b"{", "body: not JSON"),
    (b"\xff\xfe", "body: not JSON"),
    (b'{"purchase_merchant": "Caf\xe9"}', "body: not UTF-8"),
    (b'"\xed\xa0\x80"', "body: not a JSON object"),
    (b" null", "body: not a JSON object"),
    (b"[]", "body: not a JSON object"),
    (b"[" * 100_000, "body: nested too deeply"),
    (b'{"a": 1e999999999999999999999}', "body: a number is out of range"),
    (b'{"a": 1e5000}', "body: a number has more than"),
    (b'{"a": 0.' + b"1" * 5000 + b"}", "body: a number has more than"),
    (b"{}", "id: missing"),
    (body({**snapshot("cleared"), "id": None}), "id: expected `str`"),
    (body({**snapshot("cleared"), "id": ""}), "id: expected `str` of length >= 1"),
    (body({**snapshot("cleared"), "id": 7}), "id: expected `str`, got `int`"),
    (body({**snapshot("cleared"), "id": "x" * 300}), "id: expected `str` of length <= 255"),
    (body({**snapshot("cleared"), "state": "lost"}), "state: invalid enum value"),
    (body({**snapshot("cleared"), "state": "authorized"}), "state: invalid enum value 'authorized'"),
    (body({**snapshot("cleared"), "original_amount": "a lot"}), "original_amount: expected"),
    (body({**snapshot("cleared"), "original_amount": "109.38"}), "original_amount: expected"),
    (body({**snapshot("cleared"), "original_amount": True}), "original_amount: expected"),
    (body({**snapshot("cleared"), "original_amount": 10**30}), "original_amount: expected"),
    (body({**snapshot("cleared"), "original_amount": Decimal("0." + 51 * "3")}), "original_amount: more than 24"),
    (body({**snapshot("cleared"), "original_amount": Decimal("1e24")}), "original_amount: more than 24"),
    (body({**snapshot("cleared"), "organization": None}), "organization: expected `object`"),
    (body({**snapshot("cleared"), "card_holder": {}}), "card_holder.reference_id: missing"),
]


@pytest.mark.parametrize(("content", "error"), SENSELESS, ids=[error for _, error in SENSELESS])
def test_unparsable_delivery_is_dead_with_field_and_reason(acme: Acme, content: bytes, error: str) -> None:
    acme.apply(CLEARED, content)
    row = acme.row(DELIVERY)
    assert row["status"] == "dead"
    assert row["error"].startswith(error)
    assert row["body"] == content
    assert acme.row("SELECT number, outcome, error FROM receiver.processing_attempts") == {
        "number": 1,
        "outcome": "dead",
        "error": row["error"],
    }
    assert acme.value("SELECT count(*) FROM ems.transactions") == 0


def test_an_unknown_event_is_ignored_and_kept(acme: Acme) -> None:
    acme.apply("card.transaction.teleported", {"anything": 1})
    assert acme.row("SELECT status, error FROM receiver.deliveries") == {
        "status": "ignored",
        "error": "unknown event 'card.transaction.teleported'",
    }


def test_an_absent_version_is_version_1(acme: Acme) -> None:
    payload = snapshot("cleared")
    for version in (None, "1"):
        acme.deliver(CLEARED, payload, headers={"X-Version": version})
    acme.process()
    assert acme.statuses() == ["processed", "duplicate"]


def test_ignored_event_is_applied_by_a_later_release(acme: Acme) -> None:
    acme.apply("card.transaction.settled", snapshot("cleared"))
    assert acme.statuses() == ["ignored"]
    acme.execute("UPDATE receiver.stored_deliveries SET event = :event", event=CLEARED)
    process_again(acme)
    assert acme.statuses() == ["processed"]
    assert acme.value("SELECT state FROM ems.transactions") == "cleared"


@pytest.mark.parametrize("content", [snapshot("cleared"), {"organization": {"reference_id": "acme"}}])
def test_a_payload_of_another_organization_is_quarantined(organizations: Organizations, content: object) -> None:
    globex = organizations.adopt("globex")
    globex.apply(CLEARED, content)
    assert globex.statuses() == ["quarantined"]
    assert "'acme'" in globex.value("SELECT error FROM receiver.deliveries")
    assert globex.value("SELECT count(*) FROM ems.transactions") == 0
    assert globex.value("SELECT count(*) FROM ems.events") == 0


def test_tenants_with_the_same_transaction_id_stay_apart(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    acme.apply(CLEARED, snapshot("cleared"))
    globex.apply(
        "card.transaction.deleted",
        snapshot("deleted", organization={"reference_id": "globex"}),
    )
    states = acme.rows("SELECT organization_reference_id, state FROM ems.transactions ORDER BY 1")
    assert [tuple(row.values()) for row in states] == [("acme", "cleared"), ("globex", "deleted")]


def test_one_bad_delivery_in_a_batch_stops_no_other(acme: Acme) -> None:
    for number in range(20):
        acme.deliver_ok(CLEARED, b"{nonsense" if number % 5 == 0 else snapshot("cleared", transaction=f"t{number}"))
    acme.process()
    assert acme.statuses().count("dead") == 4
    assert acme.value("SELECT count(*) FROM ems.transactions") == 16


def test_nul_is_replaced_in_text_and_kept_in_the_body(acme: Acme) -> None:
    content = body({**snapshot("cleared", purchase_merchant="A\0B"), "un\0known": ["\0"]})
    acme.apply(CLEARED, content)
    assert acme.statuses() == ["processed"]
    assert acme.value("SELECT purchase_merchant FROM ems.transactions") == "A\N{REPLACEMENT CHARACTER}B"
    assert acme.value("SELECT payload ->> 'un\N{REPLACEMENT CHARACTER}known' FROM ems.events") == (
        '["\N{REPLACEMENT CHARACTER}"]'
    )
    assert acme.row(DELIVERY)["body"] == content


@pytest.mark.parametrize(
    "merchant",
    [rb"A\ud800B", b"A\xed\xa0\x80B", rb"A\udfffB"],
    ids=["escaped", "encoded", "escaped low one"],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte-order mark"])
def test_lone_surrogates_and_byte_order_marks_are_repaired(acme: Acme, merchant: bytes, mark: bytes) -> None:
    content = mark + body(snapshot("cleared", purchase_merchant="MERCHANT")).replace(b"MERCHANT", merchant)
    acme.apply(CLEARED, content)
    assert acme.statuses() == ["processed"]
    assert acme.value("SELECT purchase_merchant FROM ems.transactions") == "A\N{REPLACEMENT CHARACTER}B"
    assert acme.value("SELECT payload ->> 'purchase_merchant' FROM ems.events") == "A\N{REPLACEMENT CHARACTER}B"
    assert acme.row(DELIVERY)["body"] == content


def test_a_line_item_of_too_many_digits_is_refused(acme: Acme) -> None:
    acme.apply("transaction.line.items", enrichment("transaction.line.items", line_items=[{"amount": Decimal("1e24")}]))
    assert acme.row(DELIVERY)["error"].startswith("line_items[0].amount: more than 24 digits before its point")


def test_a_byte_order_mark_makes_no_other_event(acme: Acme) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        acme.apply(CLEARED, mark + body(snapshot("cleared")))
    assert acme.statuses() == ["processed", "duplicate"]


@pytest.mark.parametrize("name", ["receipt.fetched", "card_holder.created", "tpa.signed", CLEARED])
def test_whole_numbers_as_references_are_read_as_text(organizations: Organizations, name: str) -> None:
    numbered = organizations.adopt("42")
    content = sample(name, organization={"reference_id": 42})
    if "card_holder" in content:
        content["card_holder"] = {"reference_id": 17}
    numbered.apply(name, content)
    assert numbered.statuses() == ["processed"]
    assert numbered.row("SELECT organization_reference_id, card_holder_reference_id FROM ems.events") == {
        "organization_reference_id": "42",
        "card_holder_reference_id": "17" if "card_holder" in content else None,
    }


def test_a_number_of_another_organization_is_quarantined(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared", organization={"reference_id": 42}))
    assert acme.statuses() == ["quarantined"]


def varied(size: int, first: int, last: int) -> str:
    """Return a text of random characters: what repeats is compressed, in a key as well."""
    rng = random.Random(6)  # noqa: S311
    return "".join(chr(rng.randrange(first, last)) for _ in range(size))


LATIN, CJK = (0x61, 0x7B), (0x4E00, 0x9FA6)


@pytest.mark.parametrize(
    "rest",
    [varied(6_000, *LATIN), varied(1_000, *CJK), varied(900_000, *LATIN), r"back\slash\x41" + varied(6_000, *LATIN)],
    ids=["long", "CJK", "very long", "backslashes"],
)
def test_a_url_of_any_length_is_kept(acme: Acme, rest: str) -> None:
    urls = [f"https://files.example/{number}/{rest}" for number in range(2)]
    for url in urls:
        acme.apply("receipt.fetched", enrichment("receipt.fetched", url=url))
    acme.apply("receipt.fetched", enrichment("receipt.fetched", url=urls[0], content_type="image/png"))
    assert acme.statuses() == ["processed"] * 3
    kept = acme.rows("SELECT url, content_type FROM ems.receipts ORDER BY url")
    assert [(row["url"], row["content_type"] == "image/png") for row in kept] == [(urls[0], True), (urls[1], False)]
    assert acme.value("SELECT count(*) FROM receiver.receipt_downloads") == 2


def test_the_longest_ids_fit_every_key(organizations: Organizations) -> None:
    longest, reference = varied(255, 0x20000, 0x2A000), varied(500, 0x20000, 0x2A000)
    wide = organizations.adopt(longest)
    owners = {"organization": {"reference_id": longest}, "card_holder": {"reference_id": longest}}
    for event in ("receipt.fetched", "transaction.true.vat", "transaction.line.items", "environmental.impact.deedster"):
        wide.apply(event, enrichment(event, transaction=longest, **owners))
    wide.apply(CLEARED, snapshot("cleared", transaction=longest, card_issuer_reference=reference, **owners))
    wide.apply("tpa.signed", sample("tpa.signed", id=longest, organization={"reference_id": longest}))
    wide.apply("card_holder.created", owners)
    assert wide.statuses() == ["processed"] * 7


@pytest.mark.parametrize("spelling", [b"43", b"43.0", b"4.3e1", b"99999999999999999999"])
@pytest.mark.parametrize("event", [CLEARED, "card_holder.deleted"])
def test_no_spelling_of_a_number_passes_for_another_organization(
    organizations: Organizations, spelling: bytes, event: str
) -> None:
    numbered = organizations.adopt("42")
    content = snapshot("cleared") if event == CLEARED else card_holder()
    numbered.apply(event, body({**content, "organization": {"reference_id": "OTHER"}}).replace(b'"OTHER"', spelling))
    assert numbered.statuses() == ["quarantined"]


def test_numbers_as_references_are_bounded_as_texts_are(acme: Acme) -> None:
    acme.apply("card_holder.created", body({**card_holder(), "card_holder": {"reference_id": int("9" * 255)}}))
    acme.apply("card_holder.created", body({**card_holder(), "card_holder": {"reference_id": int("9" * 256)}}))
    acme.apply("invoice.created", sample("invoice.created", id=int("9" * 4200)))
    assert acme.statuses() == ["processed", "dead", "dead"]
    assert acme.row(DELIVERY)["error"] == "body: id has more than 255 digits"


def test_card_holder_events_may_name_a_transaction(acme: Acme) -> None:
    acme.apply("card_holder.created", {**card_holder(), "transaction": {"id": "t-1"}})
    assert acme.statuses() == ["processed"]


@pytest.mark.parametrize("event", ["receipt.fetched", "transaction.true.vat", "transaction.line.items"])
def test_an_enrichment_is_no_card_holder_event(acme: Acme, event: str) -> None:
    acme.apply("card_holder.deleted", enrichment(event))
    assert acme.statuses() == ["dead"]


def test_unknown_fields_are_no_error_and_stay_in_the_payload(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared", loyalty={"points": Decimal("12.50")}))
    assert acme.value("SELECT payload -> 'loyalty' ->> 'points' FROM ems.transaction_states") == "12.50"


@pytest.mark.parametrize(
    "event",
    ["card.transaction.cleared", "receipt.fetched", "transaction.true.vat", "card_holder.created", "tpa.signed"],
)
def test_a_field_that_only_another_kind_of_event_has_is_no_error(acme: Acme, event: str) -> None:
    others: dict[str, object] = {"state": "cleared", "transaction": {"id": "other"}, "url": "https://files.example/a"}
    others |= {"vat_rates": [], "totals": [], "line_items": [], "carbon_emission_in_grams": 7}
    content = sample(event)
    for field in others.keys() - content.keys():
        acme.apply(event, body({**content, field: others[field]}))
    assert set(acme.statuses()) <= {"processed", "duplicate"}, "a card holder is created once"
    assert acme.statuses()[0] == "processed"


@pytest.mark.parametrize(
    ("signed", "event", "error"),
    [
        ("card.transaction.cleared", "card_holder.deleted", "state: belongs to another event"),
        ("card.transaction.cleared", "tpa.signed", "url: missing"),
        ("card.transaction.cleared", "invoice.created", "invoice_amount: missing"),
        ("tpa.signed", "invoice.created", "invoice_amount: missing"),
        ("receipt.fetched", "card_holder.deleted", "transaction: belongs to another event"),
        ("receipt.fetched", "transaction.true.vat", "vat_rates: missing"),
        ("receipt.fetched", "transaction.line.items", "line_items: missing"),
        ("receipt.fetched", "environmental.impact.deedster", "carbon_emission_in_grams: missing"),
        ("transaction.true.vat", "receipt.fetched", "url: missing"),
        ("card_holder.created", "card.transaction.cleared", "id: missing"),
    ],
)
def test_a_signed_payload_under_the_name_of_another_kind_is_dead(
    acme: Acme, signed: str, event: str, error: str
) -> None:
    acme.apply(event, body(sample(signed)))
    (delivery,) = acme.rows(DELIVERY)
    assert delivery["status"] == "dead"
    assert delivery["error"].startswith(error)


def test_all_that_may_be_null_may_be_null_or_missing(acme: Acme) -> None:
    references = {"card_holder": {"reference_id": "employee-17"}, "organization": {"reference_id": "acme"}}
    acme.apply(CLEARED, {"id": "bare", "state": "cleared", **references})
    acme.apply(CLEARED, {**dict.fromkeys(snapshot("cleared")), "id": "null", "state": "cleared", **references})
    acme.apply("transaction.line.items", enrichment("transaction.line.items", transaction="bare", line_items=None))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat", transaction="bare", totals=[{}]))
    assert acme.statuses() == ["processed"] * 4


def test_a_merchant_named_like_a_script_is_text(acme: Acme) -> None:
    name = "<script>alert('x')</script>'; DROP TABLE ems.transactions; --"
    acme.apply(CLEARED, snapshot("cleared", purchase_merchant=name))
    assert acme.value("SELECT purchase_merchant FROM ems.transactions") == name


# --- exactness and robustness ---------------------------------------------------------------------------------------


def of_a_columns_places(amount: Decimal) -> bool:
    exponent = amount.as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= AMOUNT_PLACES


amounts = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18).filter(
    of_a_columns_places
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(amounts, min_size=1, max_size=10))
@example([Decimal("0.1"), Decimal("109.38"), Decimal("45.00"), Decimal("-0.005"), Decimal(9007199254740993)])
def test_amounts_survive_digit_by_digit(acme: Acme, amounts: list[Decimal]) -> None:
    before = acme.value("SELECT coalesce(max(position), 0) FROM ems.events")
    for number, amount in enumerate(amounts):
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction=f"{before}-{number}", accounting_amount=amount))
    acme.process()
    for number, amount in enumerate(amounts):
        stored = acme.value("SELECT accounting_amount FROM ems.transactions WHERE id = :id", id=f"{before}-{number}")
        assert stored == amount
        assert format(stored, "f").lstrip("-") == format(amount, "f").lstrip("-")


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@example(b"\\ud800")
def test_no_bytes_whatever_crash_the_parser(content: bytes) -> None:
    try:
        parsed = decode(content)
    except PayloadError:
        return
    assert isinstance(parsed, dict)
    assert len(fingerprint("event", content, "acme")) == 32


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
EVENTS = [CLEARED, "transaction.line.items", "transaction.true.vat", "receipt.fetched", "tpa.signed", "invoice.created"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(EVENTS), st.data())
def test_no_payload_whatever_fails_in_the_database(acme: Acme, event: str, data: st.DataObject) -> None:
    payload = sample(event)
    for field in data.draw(st.lists(st.sampled_from(sorted(payload)), max_size=3)):
        payload[field] = data.draw(json_values)
    payload.update(data.draw(st.dictionaries(st.text(max_size=8), json_values, max_size=2)))
    acme.deliver_ok(event, payload)
    acme.process()
    row = acme.row(DELIVERY)
    assert row["status"] in {"processed", "duplicate", "dead", "quarantined"}, row["error"]
    assert acme.value("SELECT count(*) FROM receiver.processing_attempts WHERE trace IS NOT NULL") == 0


def test_whole_number_may_be_written_as_a_decimal(acme: Acme) -> None:
    payload = body(snapshot("cleared", card_id=4711, original_amount=Decimal("109.30"))).replace(b"4711", b"4711.0")
    assert b"4711.0" in payload
    acme.apply(CLEARED, payload)
    assert acme.statuses() == ["processed"]
    assert acme.row("SELECT card_id, original_amount FROM ems.transactions") == {
        "card_id": 4711,
        "original_amount": Decimal("109.3"),
    }
    acme.apply(CLEARED, body(snapshot("cleared", card_id=4711, original_amount=Decimal("109.30"))))
    assert acme.statuses() == ["processed", "duplicate"]


def test_a_card_holder_payload_needs_both_references(acme: Acme) -> None:
    acme.apply("card_holder.created", {**card_holder(), "card_holder": None})
    assert acme.statuses() == ["dead"]
