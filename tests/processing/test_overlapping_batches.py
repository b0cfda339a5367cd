"""Two workers read the history of one card holder before either appends: the second reads again."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from receiver.locks import Lock
from receiver.processing.claim import Backlog
from receiver.processing.drain import Processor
from receiver.records.epochs import notice_branch
from tests.support.factories import card_holder
from tests.support.processing_steps import NOON, feed, occurred
from tests.support.session_locks import WAITING
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.processing.claim import Claim
    from tests.conftest import Acme


def process_overlapping(acme: Acme, engine: Engine) -> None:
    """Process two deliveries, the first one first, by workers that both have read the history before that."""
    notice_branch(engine)  # the first append to a database stores its history, and then waits for the lock once more
    with ThreadPoolExecutor(2) as pool, closing(Processor(engine)) as one, closing(Processor(engine)) as other:
        for worker in (one, other):  # connected before either waits: that has a time limit
            assert worker.process("first", lambda _of: None) is None
        with engine.connect() as holder:
            holder.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
            batches: list[Future[Claim | None]] = []
            for worker in (one, other):
                batches.append(pool.submit(worker.process, "first", lambda of: Backlog().claim(of, 1)))
                assert eventually(lambda: acme.value(WAITING) == len(batches), within=30)
        for batch in batches:
            assert batch.result(timeout=30) is not None


def test_event_added_meanwhile_is_in_the_row(acme: Acme, engine: Engine) -> None:
    for event in ("created", "deleted"):
        acme.deliver_ok(f"card_holder.{event}", card_holder())
    process_overlapping(acme, engine)
    assert (acme.statuses(), feed(acme)) == (["processed"] * 2, ["card_holder.created", "card_holder.deleted"])
    row = acme.row("SELECT created_at IS NOT NULL AS created, deleted_at IS NOT NULL AS deleted FROM ems.card_holders")
    assert row == {"created": True, "deleted": True}


def test_retry_added_meanwhile_counts_once_it_is_an_event(acme: Acme, engine: Engine) -> None:
    for number, event in enumerate(("created", "created", "deleted"), start=1):
        acme.deliver_ok(f"card_holder.{event}", card_holder())
        occurred(acme, number, NOON + timedelta(hours={1: 0, 2: 2, 3: 1}[number]))
        if number == 1:
            acme.process()
    process_overlapping(acme, engine)
    assert acme.statuses() == ["processed"] * 3
    row = acme.row("SELECT created_at, deleted_at FROM ems.card_holders")
    assert row == {"created_at": NOON + timedelta(hours=2), "deleted_at": None}
