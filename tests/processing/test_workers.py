"""Several workers at once, and workers that are asked to stop."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from receiver.processing import drain as draining
from receiver.processing.claim import Backlog
from receiver.processing.drain import Processor, drain, stop_requested
from receiver.processing.job import process_deliveries
from receiver.queue import WAITING, connect
from receiver.records.folds.transactions import RANKS
from tests.support.factories import card_holder, enrichment, snapshot
from tests.support.processing_steps import feed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from redis import Redis
    from sqlalchemy import Engine

    from receiver.processing.claim import Claim
    from tests.conftest import Acme


def store_many(acme: Acme, *, transactions: int, copies: int) -> None:
    """Store every state and two enrichments of some transactions, each several times, and a card holder's life."""
    events = [
        event
        for number in range(transactions)
        for event in (
            *((f"card.transaction.{state}", snapshot(state, transaction=f"t{number}")) for state in RANKS),
            ("transaction.line.items", enrichment("transaction.line.items", transaction=f"t{number}")),
            ("receipt.fetched", enrichment("receipt.fetched", transaction=f"t{number}")),
        )
    ] * copies
    random.Random(5).shuffle(events)  # noqa: S311 - the same disorder each time
    for event, payload in events:
        acme.deliver_ok(event, payload)
    for event in ("created", "identified", "deleted"):
        acme.deliver_ok(f"card_holder.{event}", card_holder())


def test_parallel_workers_apply_each_event_once(acme: Acme, engine: Engine) -> None:
    store_many(acme, transactions=12, copies=3)
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda _: drain(engine, batch_size=20), range(3)))
    assert set(acme.statuses()) == {"processed", "duplicate"}
    assert len(feed(acme)) == 12 * 6 + 3
    assert acme.rows("SELECT DISTINCT state FROM ems.transactions") == [{"state": "invoiced"}]
    assert acme.value("SELECT count(*) FROM ems.line_items") == 12 * 2
    assert acme.value("SELECT count(*) FROM receiver.processing_attempts") == 0
    assert acme.value("SELECT count(*) FROM receiver.queue") == 0


@pytest.fixture
def asked_to_stop() -> Iterator[None]:
    stop_requested.set()
    yield
    stop_requested.clear()


@pytest.mark.usefixtures("asked_to_stop")
def test_a_worker_that_is_asked_to_stop_gives_the_rest_back(acme: Acme, engine: Engine) -> None:
    store_many(acme, transactions=2, copies=1)
    assert not drain(engine, batch_size=5)
    assert set(acme.statuses()) == {"pending"}


class StoppingBacklog(Backlog):
    """A backlog whose worker is asked to stop as soon as it has claimed a batch."""

    def claim(self, connection: psycopg.Connection[Any], batch_size: int) -> Claim | None:
        stop_requested.set()
        return super().claim(connection, batch_size)


@pytest.mark.parametrize("batch", [20, 50], ids=["a full batch", "a batch that is not full"])
def test_worker_asked_to_stop_within_a_batch_completes_it(acme: Acme, engine: Engine, batch: int) -> None:
    store_many(acme, transactions=2, copies=2)
    stored = len(acme.statuses())
    try:
        with closing(Processor(engine)) as processor:
            nothing_left = processor.process_backlog(
                "first", StoppingBacklog(), time.monotonic() + 30, batch, lambda: None
            )
    finally:
        stop_requested.clear()
    assert not nothing_left, "it does not know whether there is more"
    assert acme.statuses().count("pending") == max(stored - batch, 0)


def test_worker_asked_to_stop_leaves_what_is_tried_alone(acme: Acme, engine: Engine) -> None:
    store_many(acme, transactions=1, copies=1)
    acme.execute("UPDATE receiver.queue SET alone = true")
    try:
        with closing(Processor(engine)) as processor:
            assert not processor.process_backlog("first", StoppingBacklog(), time.monotonic() + 30, 20, lambda: None)
    finally:
        stop_requested.clear()
    assert set(acme.statuses()) == {"pending"}


def test_a_full_batch_wakes_another_worker(acme: Acme, engine: Engine) -> None:
    store_many(acme, transactions=2, copies=1)
    woken = []
    assert drain(engine, batch_size=5, wake_another=lambda: woken.append(True))
    assert len(woken) == 15 // 5


def test_job_drains_and_lets_the_next_delivery_wake_again(
    acme: Acme, redis_url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # of a database of Valkey that the web process does not know: it wakes in its own time
    apart = f"{redis_url.rpartition('/')[0]}/7"
    for name, value in {**environment, "REDIS_URL": apart}.items():
        monkeypatch.setenv(name, value)
    acme.deliver_ok("card.transaction.cleared", snapshot("cleared"))
    with closing(connect(apart)) as redis:
        redis.set(WAITING, 1)
        process_deliveries()
        assert acme.statuses() == ["processed"]
        assert redis.get(WAITING) is None


def test_a_job_that_finds_postgresql_away_ends_quietly(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    del redis  # asked for so that Valkey is there
    for name, value in {**environment, "DATABASE_URL": "postgresql://127.0.0.1:1/nothing"}.items():
        monkeypatch.setenv(name, value)
    process_deliveries()


def test_a_job_that_runs_out_of_time_hands_over(
    acme: Acme, redis: Redis, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(draining, "DRAIN_SECONDS", -1.0)
    redis.flushdb()
    acme.deliver_ok("card.transaction.cleared", snapshot("cleared"))
    process_deliveries()
    assert acme.statuses() == ["pending"]
    assert redis.get(WAITING) == b"1"
