"""Each number that is counted is what was done, no more and no less; and no family is left out of these tests."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import errors
from sqlalchemy import text

from receiver.connections import WORK
from receiver.counter_store import Flusher, connecting
from receiver.counters import families, unstored_counts
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.locks import Lock
from receiver.opencard.auth import Access
from receiver.ops.retention import schedule
from receiver.processing.drain import drain
from receiver.queue import wake_worker_if_possible
from receiver.reconcile.run import Reconciler
from receiver.sandbox.provider import ApiFault
from receiver.webhooks.addresses import ENDPOINT_PATH, TOKEN_PATH
from tests.files.conftest import receipts
from tests.ops.console.conftest import console_app, console_environment, console_settings
from tests.support.applications import unreachable_redis
from tests.support.factories import card_holder
from tests.support.retention_steps import days_pass
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from sqlalchemy import Engine
    from werkzeug.test import TestResponse

    from receiver.settings import Settings
    from tests.conftest import Acme
    from tests.files.conftest import Receipts
    from tests.support.world import World

    Count = Callable[[str], dict[str, float]]

__all__ = ["console_app", "console_environment", "console_settings", "receipts"]


@pytest.fixture
def count(app: Flask, engine: Engine, settings: Settings) -> Count:
    """Returns what all of this process counted of a family since the test began: labels → number."""
    unstored_counts.take()
    assert app.extensions["receiver.flusher"].flush()
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE receiver.counters, receiver.counter_flushes"))

    def read(family: str) -> dict[str, float]:
        assert Flusher(connecting(settings.database_url)).flush()
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT labels, sum(value) AS number FROM receiver.counters WHERE name = :name GROUP BY 1"),
                {"name": next(name for name in (f"{family}_total", f"{family}_count") if name in KNOWN)},
            )
            return {" ".join(value for _, value in sorted(row.labels.items())): row.number for row in rows}

    return read


KNOWN = {sample.name for family in families() for sample in family.samples} | {
    f"{family.name}_total" for family in families() if family.type == "counter"
}


def test_requests_and_stored_deliveries(acme: Acme, count: Count) -> None:
    for _ in range(3):
        acme.deliver_ok("card_holder.created", card_holder())
    for _ in range(2):
        acme.deliver("card_holder.created", card_holder(), headers={"X-Data-Signature": "f" * 64})
    acme.client.get(acme.path, query_string={"challenge": "abc"})
    assert count("receiver_requests") == {
        "stored delivery 200": 3,
        "signature-wrong delivery 401": 2,
        "answered challenge 200": 1,
    }
    assert count("receiver_store_seconds") == {"": 3}


def test_each_refused_request_is_counted_once(acme: Acme, count: Count, settings: Settings) -> None:
    refuse: list[Callable[[], TestResponse]] = [
        lambda: acme.deliver("card_holder.created", card_holder(), headers={"X-Data-Signature": None}),
        lambda: acme.deliver("card_holder.created", card_holder(), headers={"X-Event": None}),
        lambda: acme.deliver("card_holder.created", card_holder(), headers={"Content-Type": "text/plain"}),
        lambda: acme.deliver("card_holder.created", b" " * (settings.max_body_bytes + 1)),
        lambda: acme.client.post(f"{ENDPOINT_PATH}{'k' * 43}", json={}),
        lambda: acme.client.get(acme.path),
        lambda: acme.client.put(acme.path),
        lambda: acme.client.post(TOKEN_PATH, data={"grant_type": "client_credentials"}),
        lambda: acme.client.get("/nowhere"),
    ]
    for number, ask in enumerate(refuse, 1):
        assert ask().status_code >= 400
        assert sum(count("receiver_requests").values()) == number
    assert set(count("receiver_requests").values()) == {1}


def test_attempts_and_batches(acme: Acme, count: Count) -> None:
    for payload in (card_holder(), card_holder(), b"{}"):
        acme.deliver_ok("card_holder.created", payload)
    acme.process()
    assert count("receiver_processing_attempts") == {
        "card_holder.created processed": 1,
        "card_holder.created duplicate": 1,
        "card_holder.created dead": 1,
    }
    assert count("receiver_batch_seconds") == {"": 1}
    assert count("receiver_batch_deliveries") == {"": 1}
    assert count("receiver_visible_seconds") == {"": 1}, "of the one that was applied"
    assert count("receiver_batches_failed") == {}


def test_batches_that_fail_as_a_whole(acme: Acme, count: Count) -> None:
    acme.execute("ALTER TABLE ems.card_holders ADD CONSTRAINT spoilt CHECK (reference_id <> 'emp-bad')")
    try:
        acme.deliver_ok("card_holder.created", card_holder("emp-good"))
        acme.deliver_ok("card_holder.created", card_holder("emp-bad"))
        acme.process()
    finally:
        acme.execute("ALTER TABLE ems.card_holders DROP CONSTRAINT spoilt")
    assert count("receiver_batches_failed") == {"": 1}
    assert count("receiver_processing_attempts") == {
        "card_holder.created processed": 1,
        "card_holder.created failed": 1,
    }


def test_batches_that_are_given_back_for_the_lock_of_the_feed(acme: Acme, settings: Settings, count: Count) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    engine = engine_for(settings.database_url, application="worker", timeouts=replace(WORK, lock=1))
    with acme.engine.begin() as holder:
        holder.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(Lock.FEED)})
        with pytest.raises(errors.LockNotAvailable, match="lock timeout"):
            drain(engine)
    engine.dispose()
    assert count("receiver_feed_lock_timeouts") == {"": 1}
    assert count("receiver_processing_attempts") == {}


def test_wake_ups_that_fail(count: Count) -> None:
    for _ in range(2):
        assert not wake_worker_if_possible(unreachable_redis())
    assert count("receiver_wake_ups_failed") == {"": 2}


def test_requests_to_opencard(world: World, count: Count) -> None:
    world.provider.faults.add(ApiFault.answers(503, path="/organizations$"))
    world.bootstrap()
    requests = count("receiver_opencard_requests")
    assert requests["GET /accounts/{account}/organizations 503"] == 1
    assert requests["GET /accounts/{account}/organizations 200"] == 1
    assert sum(requests.values()) == len(world.provider.requests.all())


def test_requests_that_are_repeated_with_a_new_token(world: World, count: Count) -> None:
    world.bootstrap()
    world.provider.faults.add(ApiFault("expire-token", path="/organizations$"))
    world.bootstrap()
    requests = count("receiver_opencard_requests")
    assert requests["GET /accounts/{account}/organizations 401"] == 1
    assert sum(requests.values()) == len(world.provider.requests.all())


@pytest.mark.parametrize("kind", ["cut", "expire-token", "error-page", "login-redirect"])
def test_requests_for_files(receipts: Receipts, count: Count, kind: Any) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault(kind, path="/files/"))
    receipts.fetch()
    assert sum(count("receiver_opencard_requests").values()) == len(receipts.provider.requests.all())


def test_runs_of_reconcile(world: World, count: Count) -> None:
    world.bootstrap()
    access = Access(world.api_url, "1", world.client.id, world.client.secret)
    encryption = Encryption(world.settings.encryption_keys)
    reconciler = Reconciler(world.engine, encryption, access, grace=timedelta(minutes=15))
    reconciler.run()
    world.provider.faults.add(ApiFault.answers(404, path="/events$"))
    reconciler.run()
    assert count("receiver_reconcile_runs") == {"ended": 1, "failed": 1}
    assert count("receiver_reconcile_seconds") == {"": 2}


def test_retention_counts_removed_rows(
    acme: Acme, count: Count, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        acme.apply("card_holder.created", card_holder(f"emp-{number}"))
    days_pass(acme.engine, 30)
    for name, value in {**environment, "RETAIN_PROCESSED_DAYS": "14"}.items():
        monkeypatch.setenv(name, value)
    schedule.retain()
    assert count("receiver_retention_removed") == {"processed_bodies": 3}


def test_refused_deliveries_by_webhook(acme: Acme, count: Count) -> None:
    changes: list[dict[str, str | None]] = [{"X-Data-Signature": "f" * 64}, {"X-Event": None}, {}]
    for headers in changes:
        acme.deliver("card_holder.created", card_holder(), headers=headers)
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    assert count("receiver_deliveries_refused") == {f"no-event {webhook}": 1, f"signature-wrong {webhook}": 1}


def test_failed_sign_ins(console_app: Flask, acme: Acme, count: Count) -> None:
    del acme
    visitor = Visitor(console_app.test_client())
    assert visitor.sign_in("olga", "wrong").status_code == 401
    assert visitor.sign_in("olga").status_code == 302
    assert count("receiver_sign_ins_failed") == {"": 1}


def test_no_family_is_left_out() -> None:
    counted = set(re.findall(r'count\("(\w+)"\)', Path(__file__).read_text()))
    assert {family.name for family in families()} == counted
