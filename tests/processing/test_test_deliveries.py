"""Nothing that came to a test webhook is ever applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from receiver.ops.deliveries import Filter, read_delivery
from receiver.ops.replay import start_replay
from receiver.ops.replay_selection import preview
from tests.support.factories import card_holder, snapshot
from tests.support.processing_steps import feed
from tests.support.replay_steps import EVERYTHING, counts, ids, product, start, state
from tests.support.stored import become

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

CLEARED = "card.transaction.cleared"
TESTED = {"status": "ignored", "error": "test delivery"}


@pytest.fixture
def tested(organizations: Organizations) -> Acme:
    """A test webhook of acme, in addition to its own."""
    organizations.adopt("acme")
    tested = organizations.adopt("acme")
    tested.execute("UPDATE receiver.webhooks SET test = true WHERE id = (SELECT max(id) FROM receiver.webhooks)")
    return tested


def outcomes(acme: Acme) -> list[dict[str, object]]:
    return acme.rows("SELECT status, error FROM receiver.deliveries ORDER BY id")


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (CLEARED, snapshot("cleared")),
        (CLEARED, snapshot("cleared", organization={"reference_id": "globex"})),
        ("card_holder.created", card_holder()),
        ("moon.landed", {}),
        (CLEARED, b"{broken"),
    ],
    ids=["a purchase", "another organization", "a card holder", "an unknown event", "no JSON"],
)
def test_delivery_to_a_test_webhook_is_ignored(tested: Acme, event: str, payload: object) -> None:
    before = product(tested)
    tested.apply(event, payload)
    assert outcomes(tested) == [TESTED]
    assert product(tested) == before
    kept = tested.row("SELECT body, verification, attempts, processed_at FROM receiver.deliveries")
    assert kept["body"]
    assert (kept["verification"], kept["attempts"], kept["processed_at"] is None) == ("signature", 1, False)


def test_a_batch_with_a_test_delivery_applies_the_others(tested: Acme, organizations: Organizations) -> None:
    own = organizations.adopt("globex")
    tested.deliver_ok(CLEARED, snapshot("cleared", transaction="t1"))
    own.deliver_ok(CLEARED, snapshot("cleared", transaction="t2", organization={"reference_id": "globex"}))
    tested.process()
    assert tested.statuses() == ["ignored", "processed"]
    assert [row["id"] for row in tested.rows("SELECT id FROM ems.transactions")] == ["t2"]


def test_a_test_delivery_does_not_make_the_real_event_a_retry(tested: Acme, organizations: Organizations) -> None:
    own = organizations.adopt("acme")
    for each in (tested, own):
        each.apply("card_holder.created", card_holder())
        each.apply(CLEARED, snapshot("cleared"))
    assert tested.statuses() == ["ignored", "ignored", "processed", "processed"]
    assert feed(tested) == ["card_holder.created", CLEARED]


def test_a_replay_leaves_test_deliveries_out(tested: Acme) -> None:
    tested.apply(CLEARED, snapshot("cleared"))
    for wanted in (EVERYTHING, Filter(statuses=("ignored",)), tuple(ids(tested))):
        with tested.engine.connect() as connection:
            shown = preview(connection, wanted)
        assert (shown.selected, shown.tests) == (0, 1)
        assert start_replay(tested.engine, wanted, requested_by="operator", reason="a test") is None
    assert outcomes(tested) == [TESTED]
    with tested.engine.connect() as connection:
        found = read_delivery(connection, ids(tested)[0])
    assert found is not None
    assert found.test


def test_replayed_test_delivery_is_ignored(tested: Acme) -> None:
    tested.apply(CLEARED, snapshot("cleared"))
    become(tested.engine, "dead", ids(tested), error="RuntimeError: a disk is full")
    replay_id = start(tested, EVERYTHING)
    tested.process()
    assert counts(state(tested, replay_id)) == (1, 0, 1)
    assert (outcomes(tested), feed(tested)) == ([TESTED], [])
