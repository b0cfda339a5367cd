"""Card-holder events carry no time and no content: they are judged by the events before and after them."""

from __future__ import annotations

import random
import string
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from receiver.events.kinds import BY_NAME
from receiver.processing.claim import Backlog
from receiver.processing.drain import Processor
from receiver.records.history import Subject, read_history
from receiver.records.write import writing_connection
from tests.support.factories import card_holder
from tests.support.processing_steps import NOON, feed, occurred

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Engine

    from receiver.processing.claim import Claim
    from tests.conftest import Acme, Organizations


def test_created_deleted_created_undoes_the_deletion(acme: Acme) -> None:
    for event in ("created", "deleted", "created"):
        acme.apply(f"card_holder.{event}", card_holder())
    assert feed(acme) == ["card_holder.created", "card_holder.deleted", "card_holder.created"]
    row = acme.row("SELECT created_at, deleted_at FROM ems.card_holders")
    assert row["deleted_at"] is None
    assert row["created_at"] == acme.value("SELECT max(occurred_at) FROM receiver.deliveries")


def test_the_latest_card_holder_event_again_is_a_retry(acme: Acme) -> None:
    for event in ("created", "created", "deleted", "deleted"):
        acme.apply(f"card_holder.{event}", card_holder())
    assert acme.statuses() == ["processed", "duplicate", "processed", "duplicate"]
    assert acme.value("SELECT deleted_at IS NOT NULL FROM ems.card_holders")


def test_card_holder_events_of_one_batch_apply_in_sequence(acme: Acme) -> None:
    for event in ("created", "created", "deleted", "created"):
        acme.deliver_ok(f"card_holder.{event}", card_holder())
    acme.process()
    assert acme.statuses() == ["processed", "duplicate", "processed", "processed"]
    assert acme.value("SELECT deleted_at FROM ems.card_holders") is None


def test_late_event_between_equal_ones_makes_the_second_count(acme: Acme) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    acme.deliver_ok("card_holder.created", card_holder())
    occurred(acme, 1, NOON)
    occurred(acme, 2, NOON + timedelta(hours=2))
    acme.process()
    assert acme.statuses() == ["processed", "duplicate"]
    acme.deliver_ok("card_holder.deleted", card_holder())
    occurred(acme, 3, NOON + timedelta(hours=1))
    acme.process()
    assert acme.statuses() == ["processed"] * 3
    assert sorted(feed(acme)) == ["card_holder.created", "card_holder.created", "card_holder.deleted"]
    row = acme.row("SELECT created_at, deleted_at FROM ems.card_holders")
    assert row == {"created_at": NOON + timedelta(hours=2), "deleted_at": None}


def test_same_reference_in_two_organizations_is_two_people(organizations: Organizations) -> None:
    acme, other = organizations.adopt("acme"), organizations.adopt("globex")
    acme.apply("card_holder.created", card_holder())
    other.apply("card_holder.created", card_holder(organization="globex"))
    assert acme.statuses() == ["processed", "processed"]
    assert acme.value("SELECT count(*) FROM ems.card_holders") == 2


def test_two_workers_with_events_of_one_card_holder_write_both(acme: Acme, engine: Engine) -> None:
    for name in ("card_holder.created", "card_holder.deleted"):
        acme.deliver_ok(name, card_holder())
    with closing(Processor(engine)) as one, closing(Processor(engine)) as other:

        def claim_while_the_other_commits(connection: psycopg.Connection[Any]) -> Claim | None:
            claim = Backlog().claim(connection, 1)
            other.drain()
            return claim

        one.process("first", claim_while_the_other_commits)
    assert acme.statuses() == ["processed", "processed"]
    row = acme.row("SELECT created_at IS NOT NULL AS created, deleted_at IS NOT NULL AS deleted FROM ems.card_holders")
    assert row == {"created": True, "deleted": True}


def test_large_payloads_of_a_card_holder_are_not_read_again(acme: Acme) -> None:
    padding = "".join(random.Random(4).choices(string.ascii_letters, k=500_000))  # noqa: S311 - it cannot be compressed
    for event in ("created", "deleted", "created"):
        acme.apply(f"card_holder.{event}", {**card_holder(), "padding": padding})
    assert acme.statuses() == ["processed"] * 3
    with closing(writing_connection(acme.engine)) as connection:
        history = read_history(connection, [Subject(BY_NAME["card_holder"], "acme", "employee-17")])
    (known,) = history.known
    assert [len(event.content) for event in known.events] == [2, 2, 2]
    assert acme.value("SELECT min(length(payload ->> 'padding')) FROM ems.events") == len(padding)
    assert acme.row("SELECT deleted_at IS NULL AS alive, created_at FROM ems.card_holders")["alive"]
