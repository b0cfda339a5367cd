from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.events.catalogue import EVENT_FLAGS
from receiver.sandbox.enrichments import WEIGHED
from receiver.sandbox.story import Story, StoryEvent, make_story

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NEVER_SENT = {"card.transaction.environmental_impact", "invoice.created"}

TRANSACTION_FIELDS = {
    "id",
    "state",
    "receiptable",
    "card_issuer",
    "card_issuer_reference",
    "card_issuer_customer_number",
    "type",
    "invoice_number",
    "invoice_date",
    "original_amount",
    "original_currency",
    "vat_rate",
    "vat_amount",
    "vat_currency",
    "accounting_amount",
    "accounting_currency",
    "exchange_rate",
    "purchase_merchant",
    "purchase_merchant_common",
    "purchase_date",
    "purchase_time",
    "purchase_timezone",
    "purchase_country",
    "purchase_city",
    "card_id",
    "card_product",
    "card_type",
    "card_last_four",
    "card_funding",
    "payment_product",
    "mcc_code",
    "mcc_text",
    "mcc_top_level",
    "branch_code",
    "branch_text",
    "category_text",
    "card_holder",
    "organization",
}


@pytest.fixture(scope="module")
def story() -> Story:
    return make_story(seed=1, organizations=["org-1", "org-2"], purchases=300)


def fields_of(sent: StoryEvent) -> dict[str, Any]:
    """Read a payload by other means than the sandbox's own; a float fails every comparison with a Decimal's type."""
    fields: dict[str, Any] = json.loads(sent.payload, parse_float=Decimal)
    return fields


def snapshots(story: Story) -> Iterator[tuple[StoryEvent, dict[str, Any]]]:
    return ((sent, fields_of(sent)) for sent in story.events if sent.event.startswith("card.transaction."))


def by_transaction(story: Story) -> dict[str, list[tuple[StoryEvent, dict[str, Any]]]]:
    lives: dict[str, list[tuple[StoryEvent, dict[str, Any]]]] = {}
    for sent, fields in snapshots(story):
        lives.setdefault(fields["id"], []).append((sent, fields))
    return lives


def named(story: Story, event: str) -> list[dict[str, Any]]:
    return [fields_of(sent) for sent in story.events if sent.event == event]


def numbers(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        yield value


def total(lines: Iterable[dict[str, Any]], field: str) -> Decimal:
    return sum((Decimal(line[field]) for line in lines), Decimal(0))


def test_story_depends_only_on_its_seed(story: Story) -> None:
    assert make_story(seed=1, organizations=["org-1", "org-2"], purchases=300) == story
    other = make_story(seed=2, organizations=["org-1", "org-2"], purchases=300)
    assert not other.expected_transactions().keys() & story.expected_transactions().keys()


@given(st.integers())
@settings(max_examples=15, deadline=None)
def test_300_purchases_contain_every_event_of_the_catalogue(seed: int) -> None:
    events = {sent.event for sent in make_story(seed=seed, organizations=["a", "b"], purchases=300).events}
    assert events == EVENT_FLAGS.keys() - NEVER_SENT


@given(
    st.integers(),
    st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True),
    st.integers(min_value=0, max_value=40),
)
@settings(deadline=None)
def test_a_story_has_as_many_transactions_as_purchases_asked_for(
    seed: int, organizations: list[str], purchases: int
) -> None:
    sent = make_story(seed=seed, organizations=organizations, purchases=purchases)
    assert len(sent.expected_transactions()) == purchases
    assert {one.organization_reference_id for one in sent.events} == set(organizations)


def test_events_stand_in_true_order_and_each_once(story: Story) -> None:
    assert [sent.at for sent in story.events] == sorted(sent.at for sent in story.events)
    once = Counter((sent.organization_reference_id, sent.event, sent.payload) for sent in story.events)
    assert set(once.values()) == {1}


def test_a_card_transaction_has_all_fields_of_the_contract(story: Story) -> None:
    for sent, fields in snapshots(story):
        assert fields.keys() == TRANSACTION_FIELDS
        assert sent.event == f"card.transaction.{fields['state']}"


def test_every_payload_names_its_organization(story: Story) -> None:
    assert all(
        fields_of(sent)["organization"]["reference_id"] == sent.organization_reference_id for sent in story.events
    )


def test_stories_contain_nulls_and_non_ascii_names(story: Story) -> None:
    fields = [fields for _, fields in snapshots(story)]
    for name in ("vat_amount", "purchase_time", "branch_code", "exchange_rate", "invoice_number", "receiptable"):
        assert {one[name] is None for one in fields} == {True, False}
    assert b"\xc3" in b"".join(sent.payload for sent in story.events)


def test_amounts_are_numbers_with_their_exact_decimal_digits(story: Story) -> None:
    for sent in story.events:
        fields = fields_of(sent)
        assert all(type(number) in (int, Decimal) for number in numbers(fields))
        assert all(len(str(number)) < 16 for number in numbers(fields))  # no tail of a binary fraction
    for _, fields in snapshots(story):
        amount = Decimal(fields["original_amount"])
        assert amount.as_tuple().exponent == (0 if fields["original_currency"] == "ISK" else -2)
        assert str(amount) in json.dumps(str(fields["original_amount"]))


def test_transactions_follow_the_states_of_the_contract(story: Story) -> None:
    ways = Counter(tuple(fields["state"] for _, fields in life) for life in by_transaction(story).values())
    assert ways.keys() == {
        ("authorized",),
        ("authorized", "deleted"),
        ("authorized", "cleared"),
        ("authorized", "cleared", "invoiced"),
        ("cleared",),
        ("cleared", "invoiced"),
    }
    assert ways.most_common(1)[0][0] == ("authorized", "cleared", "invoiced")


def test_the_issuers_reference_differs_in_every_state(story: Story) -> None:
    for life in by_transaction(story).values():
        assert len({fields["card_issuer_reference"] for _, fields in life}) == len(life)


def test_there_are_tips_refunds_and_foreign_currencies(story: Story) -> None:
    lives = by_transaction(story).values()
    assert any(life[0][1]["original_amount"] != life[-1][1]["original_amount"] for life in lives)
    assert any(life[0][1]["original_amount"] < 0 for life in lives)
    types = {life[0][1]["type"] for life in lives}
    assert types == {"card", "CARD_PURCHASE", "CASH_WITHDRAWAL", "FEE_AND_DISCOUNT"}
    foreign = [fields for _, fields in snapshots(story) if fields["exchange_rate"] is not None]
    assert foreign
    for fields in foreign:
        assert fields["original_currency"] != fields["accounting_currency"]
        assert abs(fields["original_amount"] * fields["exchange_rate"] - fields["accounting_amount"]) <= 1


def test_no_transaction_precedes_the_identification(story: Story) -> None:
    identified = {sent.card_holder: sent.at for sent in story.events if sent.event == "card_holder.identified"}
    for sent, fields in snapshots(story):
        holder = (sent.organization_reference_id, fields["card_holder"]["reference_id"])
        assert sent.at > identified[holder]


def test_identification_is_followed_by_a_batch_of_transactions(story: Story) -> None:
    at_one_instant = Counter(
        (sent.at, fields["card_holder"]["reference_id"], sent.organization_reference_id)
        for sent, fields in snapshots(story)
    )
    assert max(at_one_instant.values()) >= 20


def test_card_holder_events_follow_their_life_cycle(story: Story) -> None:
    lives: dict[tuple[str, str], list[str]] = {}
    for sent in story.events:
        if sent.card_holder:
            lives.setdefault(sent.card_holder, []).append(sent.event.removeprefix("card_holder."))
    usual = ["email.delivered", "signed.pdpc", "identified"]
    for life in lives.values():
        assert [event for event in life if event not in ("email.failed", "deleted")] == ["created", *usual]
        assert "email.failed" not in life or life[1] == "email.failed"
        assert "deleted" not in life or life[-1] == "deleted"


def test_two_organizations_number_their_card_holders_alike(story: Story) -> None:
    numbers_of = {
        organization: {
            sent.card_holder[1] for sent in story.events if sent.card_holder and sent.card_holder[0] == organization
        }
        for organization in ("org-1", "org-2")
    }
    assert numbers_of["org-1"] == numbers_of["org-2"]


def test_enrichments_occur_once_and_sometimes_early(story: Story) -> None:
    first_sent = {transaction: life[0][0].at for transaction, life in by_transaction(story).items()}
    enrichments = [(sent, fields) for sent in story.events if "transaction" in (fields := fields_of(sent))]
    assert set(Counter((sent.event, fields["transaction"]["id"]) for sent, fields in enrichments).values()) == {1}
    assert any(sent.at < first_sent[fields["transaction"]["id"]] for sent, fields in enrichments)


def test_vat_totals_are_the_sums_of_one_to_three_rates(story: Story) -> None:
    sent = named(story, "transaction.true.vat")
    assert {len(fields["vat_rates"]) for fields in sent} == {1, 2, 3}
    for fields in sent:
        for field in ("vat_amount", "taxable_amount", "total_amount"):
            assert total(fields["totals"], field) == total(fields["vat_rates"], field)


def test_line_item_amount_is_quantity_times_price(story: Story) -> None:
    sent = named(story, "transaction.line.items")
    assert {len(fields["line_items"]) for fields in sent} == {1, 2, 3, 4, 5, 6}
    for fields in sent:
        for item in fields["line_items"]:
            weighed = item["quantity"] == WEIGHED
            assert item["total_amount"] == item["amount"] * (1 if weighed else item["quantity"]) > 0
    assert any(item["quantity"] == WEIGHED for fields in sent for item in fields["line_items"])


def test_expected_rows_agree_with_the_events(story: Story) -> None:
    rows = story.expected_rows()
    events = Counter(sent.event for sent in story.events)
    assert rows == {
        "events": len(story.events),
        "transactions": 300,
        "transaction_states": sum(
            events[f"card.transaction.{s}"] for s in ("authorized", "deleted", "cleared", "invoiced")
        ),
        "card_holders": events["card_holder.created"],
        "tpas": 2,
        "receipts": events["receipt.fetched"],
        "vat_rates": sum(len(fields["vat_rates"]) for fields in named(story, "transaction.true.vat")),
        "vat_totals": events["transaction.true.vat"],
        "line_items": sum(len(fields["line_items"]) for fields in named(story, "transaction.line.items")),
        "environmental_impacts": events["environmental.impact.aland_index"] + events["environmental.impact.deedster"],
    }


def test_expected_transaction_is_the_last_snapshot(story: Story) -> None:
    expected = story.expected_transactions()
    for transaction, life in by_transaction(story).items():
        sent, last = life[-1]
        cleared = [fields["card_issuer_reference"] for _, fields in life if fields["state"] == "cleared"]
        assert expected[sent.organization_reference_id, transaction] == {
            "state": last["state"],
            "accounting_amount": last["accounting_amount"],
            "original_amount": last["original_amount"],
            "card_issuer_reference": last["card_issuer_reference"],
            "cleared_card_issuer_reference": cleared[0] if cleared else None,
        }


@pytest.mark.parametrize(
    ("organizations", "purchases", "word"),
    [([], 1, "organizations"), (["a", "a"], 1, "organizations"), (["a"], -1, "-1")],
)
def test_an_impossible_story_is_refused_by_name(organizations: list[str], purchases: int, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make_story(seed=1, organizations=organizations, purchases=purchases)
