"""What ``GET /metrics`` counts: requests, attempts, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from receiver.counter_store import Flusher, connecting
from receiver.counters import OTHER, unstored_counts
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from sqlalchemy import Engine

    from receiver.settings import Settings
    from tests.conftest import Acme

Shown = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def _counts_of_this_test(app: Flask, engine: Engine) -> None:
    """Store and discard the counts of earlier tests before anything is counted."""
    unstored_counts.take()
    assert app.extensions["receiver.flusher"].flush()
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE receiver.counters, receiver.counter_flushes"))


def scrape(client: FlaskClient, settings: Settings) -> Shown:
    assert Flusher(connecting(settings.database_url)).flush()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def number(shown: Shown, name: str, **labels: str) -> float:
    return shown.get((name, frozenset(labels.items())), 0)


def test_requests_are_counted_by_what_was_answered_and_why(acme: Acme, settings: Settings) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    for _ in range(2):
        acme.deliver("card_holder.created", card_holder(), headers={"X-Data-Signature": "f" * 64})
    acme.deliver("card_holder.created", card_holder(), headers={"X-Event": None})
    acme.client.post("/hooks/opencard/nobody", data=b"{}")
    acme.client.get(acme.path, query_string={"challenge": "abc"})
    acme.client.get(acme.path)
    acme.client.post("/hooks/oauth/token")
    acme.client.get("/nowhere")
    shown = scrape(acme.client, settings)
    for route, status, reason, times in (
        ("delivery", "200", "stored", 1),
        ("delivery", "401", "signature-wrong", 2),
        ("delivery", "400", "no-event", 1),
        ("delivery", "404", "unknown-endpoint", 1),
        ("delivery", "503", "store-unavailable", 0),
        ("challenge", "200", "answered", 1),
        ("challenge", "400", "no-challenge", 1),
        ("token", "400", "invalid_request", 1),
        ("other", "404", "http", 1),
    ):
        assert number(shown, "receiver_requests_total", route=route, status=status, reason=reason) == times, reason
    assert number(shown, "receiver_store_seconds_count") == 1


def test_attempts_are_counted_by_event_and_outcome(acme: Acme, settings: Settings) -> None:
    acme.apply("card_holder.created", card_holder())
    acme.apply("card_holder.created", card_holder())
    acme.apply("card_holder.created", card_holder(organization="globex"))
    acme.apply("card_holder.created", b"{}")
    acme.apply("an.event.of.tomorrow", card_holder())
    shown = scrape(acme.client, settings)
    for event, outcome in (
        ("card_holder.created", "processed"),
        ("card_holder.created", "duplicate"),
        ("card_holder.created", "quarantined"),
        ("card_holder.created", "dead"),
        (OTHER, "ignored"),
    ):
        assert number(shown, "receiver_processing_attempts_total", event=event, outcome=outcome) == 1, outcome
    assert number(shown, "receiver_batch_seconds_count") == number(shown, "receiver_batch_deliveries_sum") == 5


def test_time_until_visible_counts_from_the_arrival(acme: Acme, settings: Settings) -> None:
    """Of what OpenCard sent and was applied at the first attempt: no replay, and nothing that was not applied."""
    acme.deliver_ok("card_holder.created", card_holder("employee-1"))
    acme.execute("UPDATE receiver.stored_deliveries SET occurred_at = now() - interval '20 seconds'")
    acme.process()
    acme.apply("card_holder.created", card_holder("employee-2"))
    acme.apply("card_holder.created", b"{}")
    acme.execute("INSERT INTO receiver.queue (delivery_id) SELECT min(id) FROM receiver.stored_deliveries")
    acme.process()
    shown = scrape(acme.client, settings)
    assert number(shown, "receiver_visible_seconds_count") == 2
    assert number(shown, "receiver_visible_seconds_bucket", le="10.0") == 1
    assert 20 <= number(shown, "receiver_visible_seconds_sum") < 30


def test_requests_cannot_create_labels(acme: Acme, settings: Settings) -> None:
    before = scrape(acme.client, settings).keys()
    for name in ("eins", "zwei"):
        acme.apply(f"event.{name}", card_holder())
        acme.client.post(f"/hooks/opencard/{name}", headers={"X-Event": name})
        acme.client.get(f"/{name}")
    shown = scrape(acme.client, settings)
    assert not [key for key in shown if "eins" in str(key) or "zwei" in str(key)]
    assert len(shown.keys() - before) <= 3, "unknown endpoint, no such page, an event of another name"


def test_rolled_back_attempt_is_not_counted(acme: Acme, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("went wrong")

    monkeypatch.setattr("receiver.processing.batch.commit", fail)
    acme.apply("card_holder.deleted", card_holder())
    shown = scrape(acme.client, settings)
    assert number(shown, "receiver_processing_attempts_total", event="card_holder.deleted", outcome="processed") == 0
    assert number(shown, "receiver_processing_attempts_total", event="card_holder.deleted", outcome="failed") == 1


def test_every_family_is_explained_though_nothing_was_counted(client: FlaskClient) -> None:
    shown = client.get("/metrics").text
    for name, kind in (
        ("receiver_requests_total", "counter"),
        ("receiver_store_seconds", "histogram"),
        ("receiver_processing_attempts_total", "counter"),
        ("receiver_wake_ups_failed_total", "counter"),
        ("receiver_opencard_requests_total", "counter"),
        ("receiver_reconcile_runs_total", "counter"),
        ("receiver_sign_ins_failed_total", "counter"),
    ):
        assert f"# HELP {name} " in shown
        assert f"# TYPE {name} {kind}\n" in shown
    assert "receiver_wake_ups_failed_total 0.0\n" in shown
    assert "_created" not in shown
