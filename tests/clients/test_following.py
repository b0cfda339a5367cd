"""``follow()`` of both clients: their example programs lose nothing and store nothing twice, whatever happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from receiver.ops.recover import recover
from tests.support.factories import enrichment, snapshot
from tests.support.following import following
from tests.support.ledger_changes import (
    book_by_mistake,
    create_card_holder_again,
    rebuild_by_corrected_rules,
    send_again_after_a_day,
)
from tests.support.roles import libpq
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import URL

    from tests.conftest import Acme

EVENTS = "SELECT position, transaction_id FROM ems.events ORDER BY position"
STORED = "SELECT position, transaction_id FROM stored_events ORDER BY position"


def rows(url: URL, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(libpq(url)) as connection:
        return connection.execute(query.encode()).fetchall()


def booked(own: URL) -> list[tuple[Any, ...]]:
    return rows(own, "SELECT transaction_id, amount::text, vat::text FROM ledger_lines ORDER BY 1")


def clear(acme: Acme, *transactions: str, **changes: object) -> None:
    for transaction in transactions:
        acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction=transaction, **changes))
    acme.process()


def test_ledger_changes_are_booked_exactly(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    clear(acme, "exact", accounting_amount=1234567890123456.789012)
    with following(ems, own, "ledger", program) as follower:
        assert follower.line().startswith("1 events up to ")
        clear(acme, "unknown", accounting_amount=None, vat_amount=None)
        # by a notification: without one it looks once a minute
        assert eventually(lambda: len(booked(own)) == 2, within=30)
        assert follower.line().startswith("1 events up to ")
        acme.apply("transaction.true.vat", enrichment("transaction.true.vat", transaction="exact"))
        assert follower.line().startswith("1 events up to ")
    assert booked(own) == rows(
        acme.engine.url, "SELECT transaction_id, accounting_amount::text, vat_amount::text FROM ems.ledger ORDER BY 1"
    )
    assert ("unknown", None, None) in booked(own)


@pytest.mark.timeout(900)  # a process for each kill
@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.long)])
def test_killed_often_it_stores_each_event_once(
    acme: Acme, ems: URL, own: URL, program: Sequence[str], kills: int
) -> None:
    with following(ems, own, "events", program) as follower:
        for number in range(kills):
            clear(acme, *(f"transaction-{number}-{each}" for each in range(5)))
            follower.line()
            follower.kill()
            committed = rows(acme.engine.url, "SELECT position FROM ems.consumers") or [(0,)]
            assert committed <= rows(own, "SELECT position FROM feed_position"), "it reports no more than it stored"
            follower.start_again()
        assert eventually(lambda: rows(own, STORED) == rows(acme.engine.url, EVENTS))


def test_it_reports_how_far_it_has_read(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    clear(acme, "one")
    with following(ems, own, "ledger", program):
        committed = "SELECT position FROM ems.consumers"
        newest = rows(acme.engine.url, "SELECT max(position) FROM ems.events")
        assert eventually(lambda: rows(acme.engine.url, committed) == newest)


LOOKS_ANYWAY = 60
"""Seconds after which it looks for what is new without a notification."""


def test_it_connects_again_when_its_session_is_ended(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    with following(ems, own, "events", program) as follower:
        clear(acme, "one")
        follower.line()
        acme.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :role", role=ems.username)
        began = time.monotonic()
        clear(acme, "two")  # before it listens again
        assert "PostgreSQL is not available" in follower.complaint()
        follower.line()
        assert time.monotonic() - began < LOOKS_ANYWAY / 2, "it reads what it was not notified of at once"
    assert rows(own, STORED) == rows(acme.engine.url, EVENTS)


def test_it_reads_the_ledger_again_in_a_new_epoch(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    with following(ems, own, "ledger", program) as follower:
        clear(acme, "one")
        follower.line()
        assert recover(acme.engine).begun
        assert follower.line() == "epoch 1 of the feed began: the database was restored or failed over"
        clear(acme, "two")
        follower.line()
    assert [each[0] for each in booked(own)] == ["one", "two"]


def test_every_event_is_stored_once_across_epochs(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    clear(acme, "one")
    with following(ems, own, "events", program) as follower:
        follower.line()
    clear(acme, "two")
    assert recover(acme.engine).begun
    clear(acme, "three")
    with following(ems, own, "events", program):
        assert eventually(lambda: rows(own, STORED) == rows(acme.engine.url, EVENTS))


def test_event_sent_again_after_a_day_is_stored_once(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    send_again_after_a_day(acme)
    with following(ems, own, "events", program) as follower:
        assert follower.line() == "2 events up to 2"
        clear(acme, "another")
        follower.line()
    assert [row[1] for row in rows(own, STORED)] == ["again", "another"]


def test_card_holder_created_again_is_stored_again(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    create_card_holder_again(acme)
    with following(ems, own, "events", program) as follower:
        follower.line()
    assert rows(own, "SELECT count(*) FROM stored_events") == [(3,)]


def test_booking_is_deleted_when_its_purchase_leaves(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    clear(acme, "stays")
    book_by_mistake(acme, "leaves")
    with following(ems, own, "ledger", program) as follower:
        follower.line()
        rebuild_by_corrected_rules(acme)
        follower.line()
        assert [each[0] for each in booked(own)] == ["stays"]


def test_a_position_that_a_restore_lost_is_in_no_epoch(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    clear(acme, "lost")
    with following(ems, own, "events", program) as follower:
        follower.line()
    with psycopg.connect(libpq(own)) as connection:
        connection.execute("UPDATE feed_position SET position = position + 500")
    with following(ems, own, "events", program) as follower:  # nothing has been appended since
        assert recover(acme.engine).begun
        clear(acme, "new")
        assert follower.line().startswith("0 events up to ")
        assert follower.line().startswith("1 events up to ")


def test_it_reads_the_ledger_again_after_a_deletion(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    clear(acme, "one")
    acme.execute("DELETE FROM ems.events")
    with following(ems, own, "ledger", program) as follower:
        assert follower.line() == "events after position 0 were deleted"
    assert [each[0] for each in booked(own)] == ["one"]


def test_it_stops_if_an_event_that_it_needs_is_deleted(acme: Acme, ems: URL, own: URL, program: Sequence[str]) -> None:
    clear(acme, "one")
    acme.execute("DELETE FROM ems.events")
    with following(ems, own, "events", program) as follower:
        assert follower.process.wait() == 1
        assert "events after position 0 were deleted" in follower.process.communicate()[1]
