"""``examples/ems_reader.py`` follows the tables as an EMS would, as a process of its own with a reader's rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import URL, make_url

from receiver.ops.recover import recover
from tests.support.factories import enrichment, snapshot
from tests.support.following import as_reader, following
from tests.support.ledger_changes import (
    book_by_mistake,
    create_card_holder_again,
    rebuild_by_corrected_rules,
    send_again_after_a_day,
)
from tests.support.program import db
from tests.support.roles import libpq, new_role
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Acme


@pytest.fixture
def ems(acme: Acme) -> Iterator[URL]:
    """Where schema ems is, as a reader."""
    url = acme.engine.url
    with new_role(url) as role:
        assert db(url, "grant-reader", role).exit_code == 0
        yield as_reader(url, role)


@pytest.fixture
def own(new_database: Callable[[], str]) -> URL:
    """The EMS's own database."""
    return make_url(new_database())


def rows(url: URL, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(libpq(url)) as connection:
        return connection.execute(query.encode()).fetchall()


def clear(acme: Acme, *transactions: str) -> None:
    for transaction in transactions:
        acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction=transaction))
    acme.process()


def test_each_ledger_change_is_notified_at_once(acme: Acme, ems: URL, own: URL) -> None:
    clear(acme, "before-it-began")
    with following(ems, own) as follower:
        assert follower.line() == "acme before-it-began cleared 1249.06 SEK 21.88 network Café Müller"
        clear(acme, "transaction-1")
        assert follower.line() == "acme transaction-1 cleared 1249.06 SEK 21.88 network Café Müller"
        acme.apply("card.transaction.authorized", snapshot("authorized", transaction="pending"))
        acme.apply("transaction.true.vat", enrichment("transaction.true.vat"))
        assert follower.line() == "acme transaction-1 cleared 1249.06 SEK 15.57 merchant Café Müller"
        acme.apply("card.transaction.invoiced", snapshot("invoiced"))
        assert follower.line() == "acme transaction-1 invoiced 1249.06 SEK 15.57 merchant Café Müller"
    assert rows(own, "SELECT position FROM feed_positions") == rows(
        acme.engine.url, "SELECT max(position) FROM ems.events"
    )


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.long)])
def test_killed_again_and_again_it_takes_each_event_once(acme: Acme, ems: URL, own: URL, kills: int) -> None:
    with following(ems, own, "events") as follower:
        for number in range(kills):
            clear(acme, *(f"transaction-{number}-{each}" for each in range(5)))
            follower.line()
            follower.kill()
            said = rows(acme.engine.url, "SELECT position FROM ems.consumers") or [(0,)]
            assert said <= rows(own, "SELECT position FROM feed_positions"), "it says no more than it has kept"
            follower.start_again()
        clear(acme, "the-last")
        while "the-last" not in follower.line():
            pass
    taken = rows(own, "SELECT position, transaction_id FROM archived_events ORDER BY position")
    assert taken == rows(acme.engine.url, "SELECT position, transaction_id FROM ems.events ORDER BY position")


def test_it_says_how_far_it_has_read(acme: Acme, ems: URL, own: URL) -> None:
    with following(ems, own) as follower:
        clear(acme, "one")
        follower.line()
        newest = acme.value("SELECT max(position) FROM ems.events")
        said = "SELECT position FROM ems.consumers WHERE name = :name"
        assert eventually(lambda: acme.rows(said, name=ems.username) == [{"position": newest}], within=10)


def test_both_ways_may_begin_at_the_same_moment(acme: Acme, ems: URL, own: URL) -> None:
    clear(acme, "one")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(libpq(own)) as holder:
        holder.execute("CREATE TABLE feed_positions ()")  # both meet where the first would create it
        with following(ems, own, "ledger") as ledger, following(ems, own, "events") as events:
            assert eventually(lambda: rows(own, waiting) == [(2,)], within=30)
            holder.rollback()
            assert " one " in ledger.line()
            assert events.line().endswith(" one")


def test_a_plain_reader_can_look_without_a_database_of_its_own(acme: Acme, ems: URL) -> None:
    clear(acme, "one")
    with following(ems, None) as follower:
        assert " one " in follower.line()


def test_it_connects_again_when_its_connection_is_cut(acme: Acme, ems: URL, own: URL) -> None:
    with following(ems, own) as follower:
        clear(acme, "one")
        assert " one " in follower.line()
        acme.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :role", role=ems.username)
        assert "PostgreSQL is unavailable" in follower.complaint()
        clear(acme, "two")
        assert " two " in follower.line()


def test_reader_behind_deleted_events_reloads_the_ledger(acme: Acme, ems: URL, own: URL) -> None:
    with following(ems, own) as follower:
        clear(acme, "one")
        follower.line()
    clear(acme, "two")
    acme.execute("DELETE FROM ems.consumers")
    acme.execute("DELETE FROM ems.events")
    with following(ems, own) as follower:
        assert "read the ledger again" in follower.complaint()
        clear(acme, "three")
        assert " three " in follower.line()
    assert rows(own, "SELECT transaction_id FROM bookings ORDER BY 1") == [("one",), ("three",), ("two",)]


def test_reader_of_every_event_stops_when_some_were_deleted(acme: Acme, ems: URL, own: URL) -> None:
    clear(acme, "one")
    acme.execute("DELETE FROM ems.events")
    with following(ems, own, "events") as follower:
        assert follower.complaint() == "events after position 0 were deleted"
        assert follower.process.wait() == 1


def test_event_sent_again_after_a_day_is_taken_once(acme: Acme, ems: URL, own: URL) -> None:
    send_again_after_a_day(acme)
    clear(acme, "another")
    with following(ems, own, "events") as follower:
        assert ["again" in follower.line(), "another" in follower.line()] == [True, True]
    assert rows(own, "SELECT count(*) FROM archived_events") == [(2,)]


def test_card_holder_created_again_is_taken_again(acme: Acme, ems: URL, own: URL) -> None:
    create_card_holder_again(acme)
    with following(ems, own, "events") as follower:
        for _ in range(3):
            follower.line()
    assert rows(own, "SELECT count(*) FROM archived_events") == [(3,)]


def test_booking_is_deleted_when_its_purchase_leaves(acme: Acme, ems: URL, own: URL) -> None:
    book_by_mistake(acme, "leaves")
    with following(ems, own) as follower:
        follower.line()
        rebuild_by_corrected_rules(acme)
        assert follower.line() == "acme leaves left the ledger"
    assert rows(own, "SELECT transaction_id FROM bookings") == []


def begin_epoch(acme: Acme) -> None:
    assert recover(acme.engine).begun


def test_reader_reloads_the_ledger_in_a_new_epoch(acme: Acme, ems: URL, own: URL) -> None:
    with following(ems, own) as follower:
        clear(acme, "one")
        follower.line()
        begin_epoch(acme)
        assert "read the ledger again: epoch " in follower.complaint()
        clear(acme, "two")
        assert " two " in follower.line()
    assert rows(own, "SELECT transaction_id FROM bookings ORDER BY 1") == [("one",), ("two",)]


def test_reader_of_every_event_continues_in_a_new_epoch(acme: Acme, ems: URL, own: URL) -> None:
    with following(ems, own, "events") as follower:
        clear(acme, "one")
        assert "one" in follower.line()
    clear(acme, "two")
    begin_epoch(acme)
    clear(acme, "three")
    with following(ems, own, "events") as follower:
        assert ["two" in follower.line(), "three" in follower.line()] == [True, True]
        assert "are delivered again" in follower.complaint()
    taken = rows(own, "SELECT position, transaction_id FROM archived_events ORDER BY position")
    assert taken == rows(acme.engine.url, "SELECT position, transaction_id FROM ems.events ORDER BY position")


def test_a_position_that_the_database_lost_is_in_no_epoch(acme: Acme, ems: URL, own: URL) -> None:
    with following(ems, own, "events") as follower:
        clear(acme, "lost")
        follower.line()
    with psycopg.connect(libpq(own)) as connection:
        connection.execute("UPDATE feed_positions SET position = position + 500")
    begin_epoch(acme)
    clear(acme, "new")
    with following(ems, own, "events") as follower:
        assert "new" in follower.line()
