"""A retry is not a new event, and an identical event may be a new one."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.events.content import fingerprint
from receiver.records.folds.transactions import RANKS
from tests.support.factories import body, card_holder, enrichment, sample, snapshot
from tests.support.processing_steps import NOON, feed, occurred, process_again, process_in_order

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations


def test_a_retry_is_kept_as_its_own_row_and_marked_duplicate(acme: Acme) -> None:
    for _ in range(3):
        acme.deliver_ok("card.transaction.authorized", snapshot("authorized"))
    acme.process()
    assert acme.statuses() == ["processed", "duplicate", "duplicate"]
    assert len(feed(acme)) == 1


def test_a_retry_is_recognized_by_value_though_its_bytes_differ(acme: Acme) -> None:
    acme.apply("card.transaction.authorized", snapshot("authorized", original_amount=Decimal("45.0")))
    reordered = dict(reversed(snapshot("authorized", original_amount=45).items()))
    acme.apply("card.transaction.authorized", reordered)
    assert acme.statuses() == ["processed", "duplicate"]


def test_equal_invoice_of_another_organization_is_no_retry(
    organizations: Organizations,
) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    for each in (acme, globex, acme, globex):
        each.apply("invoice.created", sample("invoice.created"))
    assert acme.statuses() == ["processed", "processed", "duplicate", "duplicate"]
    found = acme.rows(
        "SELECT organization_reference_id AS of, count(*) AS number FROM ems.invoices GROUP BY 1 ORDER BY 1"
    )
    assert found == [{"of": "acme", "number": 1}, {"of": "globex", "number": 1}]


def test_a_retry_undoes_nothing_newer(acme: Acme) -> None:
    first = snapshot("authorized", original_amount=Decimal("100.00"))
    acme.apply("card.transaction.authorized", first)
    acme.apply("card.transaction.authorized", snapshot("authorized", original_amount=Decimal("110.00")))
    acme.apply("card.transaction.authorized", first)
    assert acme.statuses() == ["processed", "processed", "duplicate"]
    assert acme.value("SELECT original_amount FROM ems.transactions") == Decimal("110.00")


def test_a_retry_of_an_older_set_of_lines_undoes_nothing_newer(acme: Acme) -> None:
    old = enrichment("transaction.line.items", line_items=[{"description": "old"}])
    acme.apply("transaction.line.items", old)
    acme.apply("transaction.line.items", enrichment("transaction.line.items", line_items=[{"description": "new"}]))
    acme.apply("transaction.line.items", old)
    assert [row["description"] for row in acme.rows("SELECT description FROM ems.line_items")] == ["new"]


@pytest.mark.parametrize(("apart", "statuses"), [(23, ["processed", "duplicate"]), (25, ["processed", "processed"])])
def test_an_equal_snapshot_is_a_new_event_after_a_day(acme: Acme, apart: int, statuses: list[str]) -> None:
    for _ in range(2):
        acme.deliver_ok("card.transaction.authorized", snapshot("authorized"))
    occurred(acme, 1, NOON)
    occurred(acme, 2, NOON + timedelta(hours=apart))
    acme.process()
    assert acme.statuses() == statuses
    assert len(feed(acme)) == statuses.count("processed")


def test_equal_events_of_two_organizations_are_no_retries(organizations: Organizations) -> None:
    acme, other = organizations.adopt("acme"), organizations.adopt("globex")
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    other.apply("card.transaction.authorized", snapshot("authorized", organization={"reference_id": "globex"}))
    assert acme.statuses() == ["processed", "processed"]
    assert acme.value("SELECT count(*) FROM ems.transactions") == 2


def test_same_event_over_two_webhooks_is_one_event(organizations: Organizations) -> None:
    for webhook in (organizations.adopt("acme"), organizations.adopt("acme")):
        webhook.apply("card.transaction.authorized", snapshot("authorized"))
    assert webhook.statuses() == ["processed", "duplicate"]


def test_processing_again_changes_nothing(acme: Acme) -> None:
    for state in ("authorized", "cleared"):
        acme.deliver_ok(f"card.transaction.{state}", snapshot(state))
    acme.deliver_ok("card_holder.created", card_holder())
    acme.process()
    before = acme.rows("SELECT * FROM ems.events"), acme.rows("SELECT * FROM ems.transaction_states")
    current = acme.row("SELECT state, authorized_at, cleared_at, accounting_amount FROM ems.transactions")
    process_again(acme)
    assert acme.statuses() == ["processed"] * 3
    assert (acme.rows("SELECT * FROM ems.events"), acme.rows("SELECT * FROM ems.transaction_states")) == before
    assert acme.row("SELECT state, authorized_at, cleared_at, accounting_amount FROM ems.transactions") == current


def test_early_retry_does_not_override_events_in_between(acme: Acme) -> None:
    first = snapshot("authorized", original_amount=Decimal("100.00"))
    acme.deliver_ok("card.transaction.authorized", first)
    acme.deliver_ok("card.transaction.authorized", snapshot("authorized", original_amount=Decimal("110.00")))
    acme.deliver_ok("card.transaction.authorized", first)
    for delivery in (1, 2, 3):
        occurred(acme, delivery, NOON + timedelta(minutes=delivery))
    process_in_order(acme, [3, 2, 1])
    assert acme.statuses() == ["duplicate", "processed", "processed"]
    row = acme.row("SELECT original_amount, authorized_at FROM ems.transactions")
    assert row == {"original_amount": Decimal("110.00"), "authorized_at": NOON + timedelta(minutes=1)}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_processing_order_does_not_change_the_result(acme: Acme, data: st.DataObject) -> None:
    sent = data.draw(
        st.lists(st.tuples(st.sampled_from(RANKS), st.sampled_from([100, 110])), min_size=2, max_size=5), label="sent"
    )
    acme.execute(
        "TRUNCATE receiver.stored_deliveries, receiver.bodies, receiver.queue, receiver.outcomes, ems.events, "
        "ems.transactions"
    )
    for number, (state, amount) in enumerate(sent, start=1):
        acme.deliver_ok(f"card.transaction.{state}", snapshot(state, original_amount=amount))
        occurred(acme, number, NOON + timedelta(minutes=number))
    process_in_order(acme, data.draw(st.permutations(range(1, len(sent) + 1)), label="order"))

    events: dict[tuple[str, int], int] = {}
    for number, event in enumerate(sent, start=1):
        events.setdefault(event, number)
    state, amount = max(events, key=lambda event: (RANKS.index(event[0]), events[event]))
    row = acme.row("SELECT * FROM ems.transactions")
    assert (row["state"], row["original_amount"]) == (state, amount)
    for each in RANKS:
        first = min((events[event] for event in events if event[0] == each), default=None)
        assert row[f"{each}_at"] == (None if first is None else NOON + timedelta(minutes=first))


# --- equality by value ----------------------------------------------------------------------------------------------

decimals = st.decimals(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), values, max_size=5), st.data())
def test_the_order_of_keys_does_not_count(payload: dict[str, object], data: st.DataObject) -> None:
    keys = data.draw(st.permutations(list(payload)))
    reordered = {key: payload[key] for key in keys}
    assert fingerprint("event", body(payload), "acme") == fingerprint("event", body(reordered), "acme")


def test_a_retry_that_is_processed_again_moves_no_later_event(acme: Acme) -> None:
    for number, hours in enumerate((0, 10, 30), start=1):
        acme.deliver_ok("card.transaction.cleared", snapshot("cleared"))
        occurred(acme, number, NOON + timedelta(hours=hours))
    acme.process()
    assert acme.statuses() == ["processed", "duplicate", "processed"]
    states = acme.rows("SELECT * FROM ems.transaction_states ORDER BY id")
    process_again(acme, status="duplicate")
    assert acme.statuses() == ["processed", "duplicate", "processed"]
    assert acme.rows("SELECT * FROM ems.transaction_states ORDER BY id") == states


@pytest.mark.parametrize("spelling", ["45", "45.0", "45.000", "4.5e1", "4.5E+1", "450e-1"])
def test_the_spelling_of_a_number_does_not_count(spelling: str) -> None:
    assert fingerprint("event", b'{"a": %s}' % spelling.encode(), "acme") == fingerprint("event", b'{"a":45}', "acme")


@given(decimals, decimals)
def test_numbers_that_differ_in_any_digit_are_different(one: Decimal, other: Decimal) -> None:
    same = fingerprint("event", body({"a": one}), "acme") == fingerprint("event", body({"a": other}), "acme")
    assert same == (one == other)


def test_the_name_of_the_event_counts() -> None:
    assert fingerprint("card_holder.created", b"{}", "acme") != fingerprint("card_holder.deleted", b"{}", "acme")


def test_delivery_processed_again_keeps_its_event(acme: Acme) -> None:
    for _ in range(2):
        acme.apply("card.transaction.cleared", snapshot("cleared"))
    process_again(acme)
    assert acme.statuses() == ["processed", "duplicate"]
