"""Eight writers, and readers that come and go: each event once, in order, none skipped."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Event
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.errors import SerializationFailure
from sqlalchemy import URL, make_url

from receiver.db import engine_for
from receiver.migrate import upgrade
from receiver.records.write import writing_connection
from receiver.sandbox.embedded import EmbeddedPostgres
from tests.conftest import DATA_FOLDER
from tests.support.appending import append
from tests.support.factories import snapshot
from tests.support.following import as_reader, following
from tests.support.program import db
from tests.support.roles import libpq, new_role
from tests.support.stored import store

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from tests.conftest import Acme

pytestmark = pytest.mark.long

WRITERS = 8
BATCHES = 700
"""Of each writer: it is the number of transactions that matters."""
AT_ONCE = 3


def write(engine: Engine, batches: list[list[int]], chance: random.Random) -> list[int]:
    """Append each batch in a transaction of its own, roll some back; return what was committed."""
    written = []
    with closing(writing_connection(engine)) as connection:
        for batch in batches:
            commit = chance.random() >= 0.1
            with suppress(SerializationFailure):
                append(connection, batch, commit=commit)
            written += batch if commit else []
    return written


def come_and_go(url: URL, done: Event, chance: random.Random) -> list[int]:
    """Follow the feed by position over many connections, some of which break off before the position is kept."""
    seen: list[int] = []
    query = "SELECT position FROM ems.events WHERE position > %s ORDER BY position LIMIT %s"
    while True:
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            connection.execute("LISTEN ems_events")
            for _ in range(chance.randint(1, 20)):
                all_written = done.is_set()
                batch = connection.execute(query, [seen[-1] if seen else 0, chance.randint(1, 200)]).fetchall()
                if chance.random() < 0.2:
                    break  # killed between reading and keeping the position
                seen += [position for (position,) in batch]
                if all_written and not batch:
                    return seen
                if not batch:
                    list(connection.notifies(timeout=1, stop_after=1))


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same seed repeats the run


def test_readers_that_come_and_go_see_each_event_once_in_order(
    acme: Acme, new_database: Callable[[], str], record_property: Callable[[str, object], None]
) -> None:
    ids = store(acme.engine, number=WRITERS * BATCHES * AT_ONCE)
    dice(1).shuffle(ids)
    batches = [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
    done = Event()
    url = acme.engine.url
    own = make_url(new_database())
    engine = engine_for(url.render_as_string(hide_password=False), application="tests")
    with new_role(url) as role, ThreadPoolExecutor(WRITERS + 4) as pool:
        assert db(url, "grant-reader", role).exit_code == 0
        readers = [pool.submit(come_and_go, url, done, dice(number)) for number in range(4)]
        writers = [pool.submit(write, engine, batches[n::WRITERS], dice(n)) for n in range(WRITERS)]
        with following(as_reader(url, role), own, "events") as follower:
            for _ in range(10):
                for _ in range(100):
                    follower.line()
                follower.start_again()
            written = [delivery_id for writer in writers for delivery_id in writer.result()]
            done.set()
            expected = [event["position"] for event in acme.rows("SELECT position FROM ems.events ORDER BY position")]
            while follower.line().split(" ")[0] != str(expected[-1]):
                pass
        seen = [reader.result() for reader in readers]
    engine.dispose()
    record_property("events", len(expected))
    assert len(expected) == len(written)
    assert all(positions == expected for positions in seen)
    with psycopg.connect(libpq(own)) as connection:
        taken = connection.execute("SELECT position FROM archived_events ORDER BY position").fetchall()
    assert [position for (position,) in taken] == expected


def test_the_example_goes_on_after_a_restart_of_postgresql(new_database: Callable[[], str]) -> None:
    server = EmbeddedPostgres(DATA_FOLDER / "restarted")
    try:
        ems = make_url(server.create_database("feed", drop_first=True)).set(drivername="postgresql+psycopg")
        engine = engine_for(ems.render_as_string(hide_password=False), application="tests")
        with engine.connect() as connection:
            upgrade(connection)
        with following(ems, make_url(new_database())) as follower:
            book(ems, "one")
            assert " one " in follower.line()
            server.kill()
            assert "PostgreSQL is unavailable" in follower.complaint()
            server.start()
            book(ems, "two")
            assert " two " in follower.line()
        engine.dispose()
    finally:
        server.stop()


def book(url: URL, transaction: str) -> None:
    """Put a purchase into the tables and the feed, as the service does."""
    last = snapshot("cleared", transaction=transaction)
    with psycopg.connect(libpq(url)) as connection:
        connection.execute(
            "INSERT INTO ems.transactions (organization_reference_id, id, state, card_holder_reference_id,"
            " accounting_amount, accounting_currency, booked_on, snapshot_at, delivery_id, updated_at)"
            " VALUES ('acme', %s, 'cleared', 'employee-17', %s, 'SEK', now(), now(), 1, now())",
            [transaction, last["accounting_amount"]],
        )
        connection.execute(
            "INSERT INTO ems.events (type, organization_reference_id, transaction_id, occurred_at, source, delivery_id,"
            " payload, subject_id) VALUES ('card.transaction.cleared', 'acme', %s, now(), 'push', %s, '{}', %s)",
            [transaction, hash(transaction) % 2**31, transaction],
        )
        connection.execute("NOTIFY ems_events")
