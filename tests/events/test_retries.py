"""A retry is not a new event, and an identical event may be a new one."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.events.card_holder_history import Mention, card_holder_times, newly_events, runs
from receiver.events.understand import fingerprint
from receiver.records.transactions import RANKS
from tests.factories import body, card_holder, enrichment, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

NOON = datetime(2026, 2, 13, 12, tzinfo=UTC)


def occurred(acme: Acme, delivery: int, moment: datetime) -> None:
    """Say when the *delivery*-th delivery (from 1) occurred, before it is processed."""
    acme.execute(
        "UPDATE receiver.deliveries SET occurred_at = :moment "
        "WHERE id = (SELECT id FROM receiver.deliveries ORDER BY id OFFSET :skip LIMIT 1)",
        moment=moment,
        skip=delivery - 1,
    )


def feed(acme: Acme) -> list[str]:
    return [row["type"] for row in acme.rows("SELECT type FROM ems.events ORDER BY position")]


def test_a_retry_is_kept_as_its_own_row_and_marked_duplicate(acme: Acme) -> None:
    for _ in range(3):
        acme.take("card.transaction.authorized", snapshot("authorized"))
    acme.process()
    assert acme.statuses() == ["processed", "duplicate", "duplicate"]
    assert len(feed(acme)) == 1


def test_a_retry_is_recognized_by_value_though_its_bytes_differ(acme: Acme) -> None:
    acme.tell("card.transaction.authorized", snapshot("authorized", original_amount=Decimal("45.0")))
    reordered = dict(reversed(snapshot("authorized", original_amount=45).items()))
    acme.tell("card.transaction.authorized", reordered)
    assert acme.statuses() == ["processed", "duplicate"]


def test_a_retry_undoes_nothing_newer(acme: Acme) -> None:
    first = snapshot("authorized", original_amount=Decimal("100.00"))
    acme.tell("card.transaction.authorized", first)
    acme.tell("card.transaction.authorized", snapshot("authorized", original_amount=Decimal("110.00")))
    acme.tell("card.transaction.authorized", first)
    assert acme.statuses() == ["processed", "processed", "duplicate"]
    assert acme.value("SELECT original_amount FROM ems.transactions") == Decimal("110.00")


def test_a_retry_of_an_older_set_of_lines_undoes_nothing_newer(acme: Acme) -> None:
    old = enrichment("transaction.line.items", line_items=[{"description": "old"}])
    acme.tell("transaction.line.items", old)
    acme.tell("transaction.line.items", enrichment("transaction.line.items", line_items=[{"description": "new"}]))
    acme.tell("transaction.line.items", old)
    assert [row["description"] for row in acme.rows("SELECT description FROM ems.line_items")] == ["new"]


@pytest.mark.parametrize(("apart", "statuses"), [(23, ["processed", "duplicate"]), (25, ["processed", "processed"])])
def test_an_equal_snapshot_is_a_new_event_after_a_day(acme: Acme, apart: int, statuses: list[str]) -> None:
    for _ in range(2):
        acme.take("card.transaction.authorized", snapshot("authorized"))
    occurred(acme, 1, NOON)
    occurred(acme, 2, NOON + timedelta(hours=apart))
    acme.process()
    assert acme.statuses() == statuses
    assert len(feed(acme)) == statuses.count("processed")


def test_equal_events_of_different_organizations_are_not_retries_of_each_other(organizations: Organizations) -> None:
    acme, other = organizations.adopt("acme"), organizations.adopt("globex")
    acme.tell("card.transaction.authorized", snapshot("authorized"))
    other.tell("card.transaction.authorized", snapshot("authorized", organization={"reference_id": "globex"}))
    assert acme.statuses() == ["processed", "processed"]
    assert acme.value("SELECT count(*) FROM ems.transactions") == 2


def test_the_same_event_over_two_webhooks_of_an_organization_is_one_event(organizations: Organizations) -> None:
    for webhook in (organizations.adopt("acme"), organizations.adopt("acme")):
        webhook.tell("card.transaction.authorized", snapshot("authorized"))
    assert webhook.statuses() == ["processed", "duplicate"]


def test_a_processed_delivery_that_is_processed_again_changes_nothing_and_stays_processed(acme: Acme) -> None:
    for state in ("authorized", "cleared"):
        acme.take(f"card.transaction.{state}", snapshot(state))
    acme.take("card_holder.created", card_holder())
    acme.process()
    before = acme.rows("SELECT * FROM ems.events"), acme.rows("SELECT * FROM ems.transaction_states")
    current = acme.row("SELECT state, authorized_at, cleared_at, accounting_amount FROM ems.transactions")
    acme.execute("UPDATE receiver.deliveries SET status = 'pending', next_attempt_at = now()")
    acme.process()
    assert acme.statuses() == ["processed"] * 3
    assert (acme.rows("SELECT * FROM ems.events"), acme.rows("SELECT * FROM ems.transaction_states")) == before
    assert acme.row("SELECT state, authorized_at, cleared_at, accounting_amount FROM ems.transactions") == current


def test_a_retry_that_is_processed_before_its_original_does_not_outlive_what_came_between(acme: Acme) -> None:
    first = snapshot("authorized", original_amount=Decimal("100.00"))
    acme.take("card.transaction.authorized", first)
    acme.take("card.transaction.authorized", snapshot("authorized", original_amount=Decimal("110.00")))
    acme.take("card.transaction.authorized", first)
    for delivery in (1, 2, 3):
        occurred(acme, delivery, NOON + timedelta(minutes=delivery))
    process_in_order(acme, [3, 2, 1])
    assert acme.statuses() == ["duplicate", "processed", "processed"]
    row = acme.row("SELECT original_amount, authorized_at FROM ems.transactions")
    assert row == {"original_amount": Decimal("110.00"), "authorized_at": NOON + timedelta(minutes=1)}


def process_in_order(acme: Acme, order: list[int]) -> None:
    """Process the deliveries (from 1) one by one in this order, as workers side by side may come to do."""
    ids = [row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY id")]
    acme.execute("UPDATE receiver.deliveries SET next_attempt_at = now() + interval '1 day' WHERE status = 'pending'")
    for number in order:
        acme.execute("UPDATE receiver.deliveries SET next_attempt_at = now() WHERE id = :id", id=ids[number - 1])
        acme.process()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_order_in_which_workers_process_what_is_stored_does_not_show(acme: Acme, data: st.DataObject) -> None:
    told = data.draw(
        st.lists(st.tuples(st.sampled_from(RANKS), st.sampled_from([100, 110])), min_size=2, max_size=5), label="told"
    )
    acme.execute(
        "TRUNCATE receiver.deliveries, receiver.known_events, ems.transactions, ems.transaction_states CASCADE"
    )
    for number, (state, amount) in enumerate(told, start=1):
        acme.take(f"card.transaction.{state}", snapshot(state, original_amount=amount))
        occurred(acme, number, NOON + timedelta(minutes=number))
    process_in_order(acme, data.draw(st.permutations(range(1, len(told) + 1)), label="order"))

    events: dict[tuple[str, int], int] = {}
    for number, event in enumerate(told, start=1):
        events.setdefault(event, number)
    state, amount = max(events, key=lambda event: (RANKS.index(event[0]), events[event]))
    row = acme.row("SELECT * FROM ems.transactions")
    assert (row["state"], row["original_amount"]) == (state, amount)
    for each in RANKS:
        first = min((events[event] for event in events if event[0] == each), default=None)
        assert row[f"{each}_at"] == (None if first is None else NOON + timedelta(minutes=first))


# --- card holders: valued by what stands beside them in time ---------------------------------------------------------


def test_created_deleted_created_is_three_events_and_the_deletion_is_taken_back(acme: Acme) -> None:
    for event in ("created", "deleted", "created"):
        acme.tell(f"card_holder.{event}", card_holder())
    assert feed(acme) == ["card_holder.created", "card_holder.deleted", "card_holder.created"]
    row = acme.row("SELECT created_at, deleted_at FROM ems.card_holders")
    assert row["deleted_at"] is None
    assert row["created_at"] == acme.value("SELECT max(occurred_at) FROM receiver.deliveries")


def test_the_latest_card_holder_event_again_is_a_retry(acme: Acme) -> None:
    for event in ("created", "created", "deleted", "deleted"):
        acme.tell(f"card_holder.{event}", card_holder())
    assert acme.statuses() == ["processed", "duplicate", "processed", "duplicate"]
    assert acme.value("SELECT deleted_at IS NOT NULL FROM ems.card_holders")


def test_in_one_batch_card_holder_events_count_as_one_after_the_other(acme: Acme) -> None:
    for event in ("created", "created", "deleted", "created"):
        acme.take(f"card_holder.{event}", card_holder())
    acme.process()
    assert acme.statuses() == ["processed", "duplicate", "processed", "processed"]
    assert acme.value("SELECT deleted_at FROM ems.card_holders") is None


def test_an_event_found_late_between_two_equal_ones_makes_the_second_an_event(acme: Acme) -> None:
    acme.take("card_holder.created", card_holder())
    acme.take("card_holder.created", card_holder())
    occurred(acme, 1, NOON)
    occurred(acme, 2, NOON + timedelta(hours=2))
    acme.process()
    assert acme.statuses() == ["processed", "duplicate"]
    acme.take("card_holder.deleted", card_holder())
    occurred(acme, 3, NOON + timedelta(hours=1))
    acme.process()
    assert acme.statuses() == ["processed"] * 3
    assert sorted(feed(acme)) == ["card_holder.created", "card_holder.created", "card_holder.deleted"]
    row = acme.row("SELECT created_at, deleted_at FROM ems.card_holders")
    assert row == {"created_at": NOON + timedelta(hours=2), "deleted_at": None}


def test_card_holders_of_two_organizations_with_one_reference_are_two_people(organizations: Organizations) -> None:
    acme, other = organizations.adopt("acme"), organizations.adopt("globex")
    acme.tell("card_holder.created", card_holder())
    other.tell("card_holder.created", card_holder(organization="globex"))
    assert acme.statuses() == ["processed", "processed"]
    assert acme.value("SELECT count(*) FROM ems.card_holders") == 2


mentions = st.lists(
    st.builds(
        Mention,
        delivery_id=st.integers(1, 10**6),
        name=st.sampled_from(["card_holder.created", "card_holder.deleted", "card_holder.identified"]),
        occurred_at=st.integers(0, 30).map(lambda minutes: NOON + timedelta(minutes=minutes)),
        counted=st.just(value=False),
    ),
    unique_by=lambda mention: mention.delivery_id,
    min_size=1,
)


@given(mentions, st.randoms())
def test_a_history_does_not_depend_on_the_order_in_which_it_is_read(told: list[Mention], rng: object) -> None:
    shuffled = list(told)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert runs(shuffled) == runs(told)
    assert card_holder_times(shuffled) == card_holder_times(told)


@given(mentions)
def test_each_run_of_equal_mentions_is_one_event_and_neighbours_differ(told: list[Mention]) -> None:
    names = [run[0].name for run in runs(told)]
    assert len(newly_events(told)) == len(names)
    assert all(one != other for one, other in itertools.pairwise(names))


@given(mentions, st.data())
def test_counting_the_mentions_as_they_arrive_counts_each_run_once(told: list[Mention], data: st.DataObject) -> None:
    arrived: list[Mention] = []
    for mention in data.draw(st.permutations(told)):
        arrived.append(mention)
        chosen = newly_events(arrived)
        arrived = [
            Mention(one.delivery_id, one.name, one.occurred_at, counted=one.counted or one.delivery_id in chosen)
            for one in arrived
        ]
    for run in runs(arrived):
        assert any(mention.counted for mention in run)


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
    assert fingerprint("event", body(payload)) == fingerprint("event", body(reordered))


@pytest.mark.parametrize("spelling", ["45", "45.0", "45.000", "4.5e1", "4.5E+1", "450e-1"])
def test_the_spelling_of_a_number_does_not_count(spelling: str) -> None:
    assert fingerprint("event", b'{"a": %s}' % spelling.encode()) == fingerprint("event", b'{"a":45}')


@given(decimals, decimals)
def test_numbers_that_differ_in_any_digit_are_different(one: Decimal, other: Decimal) -> None:
    same = fingerprint("event", body({"a": one})) == fingerprint("event", body({"a": other}))
    assert same == (one == other)


def test_the_name_of_the_event_counts() -> None:
    assert fingerprint("card_holder.created", b"{}") != fingerprint("card_holder.deleted", b"{}")
