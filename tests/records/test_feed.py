"""The change feed: each event once, and no gap for its readers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.errors import LockNotAvailable, SerializationFailure
from sqlalchemy import text

from receiver.locks import Lock
from receiver.records.write import writing_connection
from tests.support.appending import append
from tests.support.factories import card_holder, sample, snapshot
from tests.support.stored import store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.conftest import Acme


@pytest.fixture
def deliveries(acme: Acme) -> list[int]:
    """Stored deliveries, each good for one event."""
    return store(acme.engine, number=480)


def test_position_is_assigned_after_the_previous_is_committed(engine: Engine, deliveries: list[int]) -> None:
    with engine.connect() as slow, closing(writing_connection(engine)) as fast:
        slow.begin()
        slow.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
        fast.execute("SET lock_timeout = '100ms'")
        with pytest.raises(LockNotAvailable):
            append(fast, [deliveries[1]])
        slow.rollback()
        append(fast, deliveries[:2])
    with engine.connect() as connection:
        written = connection.scalars(text("SELECT delivery_id FROM ems.events ORDER BY position"))
        assert list(written) == deliveries[:2]


def test_follower_sees_each_event_once_while_many_write(engine: Engine, deliveries: list[int]) -> None:
    writers, at_once = 4, 3
    batches = [deliveries[start : start + at_once] for start in range(0, len(deliveries), at_once)]

    def write(theirs: list[list[int]]) -> None:
        for number, batch in enumerate(theirs):
            with closing(writing_connection(engine)) as connection, suppress(SerializationFailure):
                append(connection, batch, commit=number % 7 != 0)

    seen: list[int] = []
    with ThreadPoolExecutor(writers) as pool, engine.connect() as reader:
        running = [pool.submit(write, batches[number::writers]) for number in range(writers)]
        while True:
            finished = all(writer.done() for writer in running)
            last = seen[-1] if seen else 0
            query = text("SELECT position FROM ems.events WHERE position > :last ORDER BY position")
            seen += reader.scalars(query, {"last": last})
            reader.rollback()
            if finished:
                break
    for writer in running:
        writer.result()
    with engine.connect() as connection:
        assert seen == list(connection.scalars(text("SELECT position FROM ems.events ORDER BY position")))
    rolled_back = sum(len(batch) for number in range(writers) for batch in batches[number::writers][::7])
    assert len(seen) == len(deliveries) - rolled_back


def test_reader_that_is_behind_detects_deleted_events(acme: Acme) -> None:
    for number in range(3):
        acme.apply("card_holder.created", card_holder(f"employee-{number}"))
    positions = [event["position"] for event in acme.rows("SELECT position FROM ems.events ORDER BY position")]
    assert acme.rows("SELECT * FROM ems.feed_horizon") == []
    acme.execute("DELETE FROM ems.events WHERE position = :position", position=positions[1])
    acme.execute("DELETE FROM ems.events WHERE position = :position", position=positions[0])
    acme.execute("DELETE FROM ems.events WHERE position = :position", position=positions[0])
    assert acme.value("SELECT deleted_through FROM ems.feed_horizon") == positions[1]


def test_position_is_not_reused_after_all_events_are_deleted(acme: Acme) -> None:
    acme.apply("card_holder.created", card_holder("employee-1"))
    acme.execute("DELETE FROM ems.events")
    acme.apply("card_holder.created", card_holder("employee-2"))
    assert acme.value("SELECT position FROM ems.events") > acme.value("SELECT deleted_through FROM ems.feed_horizon")


@pytest.fixture
def listener(acme: Acme) -> Iterator[psycopg.Connection[Any]]:
    url = acme.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN ems_events")
        yield connection


def test_readers_are_notified_with_the_newest_position(acme: Acme, listener: psycopg.Connection[Any]) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    acme.deliver_ok("card.transaction.cleared", snapshot("cleared"))
    acme.process()
    (notice,) = listener.notifies(timeout=10, stop_after=1)
    assert int(notice.payload) == acme.value("SELECT max(position) FROM ems.events")


def test_nothing_new_sends_no_notification(acme: Acme, listener: psycopg.Connection[Any]) -> None:
    acme.apply("card_holder.created", card_holder())
    assert len(list(listener.notifies(timeout=10, stop_after=1))) == 1
    acme.apply("card_holder.created", card_holder())
    listener.execute("SELECT 1")
    assert list(listener.notifies(timeout=0)) == []


def test_an_event_bears_its_references_and_its_whole_payload(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", {**snapshot("cleared"), "unknown": 1})
    event = acme.row(
        "SELECT type, organization_reference_id, card_holder_reference_id, transaction_id, source, "
        "payload ->> 'unknown' AS unknown, delivery_id FROM ems.events"
    )
    assert event == {
        "type": "card.transaction.cleared",
        "organization_reference_id": "acme",
        "card_holder_reference_id": "employee-17",
        "transaction_id": "transaction-1",
        "source": "push",
        "unknown": "1",
        "delivery_id": acme.value("SELECT id FROM receiver.deliveries"),
    }


def test_an_invoice_takes_its_organization_from_its_webhook(acme: Acme) -> None:
    acme.apply("invoice.created", sample("invoice.created"))
    assert acme.value("SELECT organization_reference_id FROM ems.invoices") == "acme"
    assert acme.value("SELECT organization_reference_id FROM ems.events") == "acme"
