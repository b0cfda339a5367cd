"""``GET /metrics``: what Prometheus reads, whichever process answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from receiver.ops import status
from receiver.ops.status import read_status
from tests.support.applications import receiver_with, unreachable_database
from tests.support.factories import card_holder
from tests.support.service_states import add_run
from tests.support.stored import store

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from sqlalchemy import Connection, Engine

    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations

TOKEN = "a-token-for-prometheus"


def values(client: FlaskClient) -> dict[tuple[str, str], float]:
    """Scrape, and return (name, value of the label) → value."""
    response = client.get("/metrics")
    assert response.status_code == 200, response.text
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_backlog_is_shown_by_status_with_the_oldest_age(acme: Acme) -> None:
    for number in range(3):
        acme.deliver_ok("card_holder.created", card_holder(f"employee-{number}"))
    acme.execute("UPDATE receiver.stored_deliveries SET received_at = now() - interval '1 hour'")
    shown = values(acme.client)
    assert shown["receiver_deliveries_waiting", "pending"] == 3
    assert 3600 <= shown["receiver_deliveries_oldest_waiting_seconds", ""] < 3660
    acme.process()
    shown = values(acme.client)
    assert shown["receiver_deliveries_waiting", "pending"] == 0
    assert shown["receiver_deliveries_oldest_waiting_seconds", ""] == 0


def test_the_last_deploy_is_shown_with_its_version(acme: Acme) -> None:
    assert not [name for name, _ in values(acme.client) if name.startswith("receiver_last_deploy")]
    for version, at in (("1.0.0", "2026-01-01Z"), ("1.1.0", "2026-02-01Z")):
        acme.execute("INSERT INTO receiver.deploys (version, at) VALUES (:version, :at)", version=version, at=at)
    shown = {key: value for key, value in values(acme.client).items() if key[0].startswith("receiver_last_deploy")}
    assert shown == {("receiver_last_deploy_timestamp_seconds", "1.1.0"): 1769904000}


def test_metrics_show_findings_that_need_attention(acme: Acme) -> None:
    acme.apply("card_holder.created", card_holder(organization="globex"))
    acme.apply("card_holder.created", b"{}")
    shown = values(acme.client)
    assert {status: shown["receiver_deliveries_waiting", status] for status in ("dead", "quarantined")} == {
        "dead": 1,
        "quarantined": 1,
    }
    assert shown["receiver_deliveries_oldest_waiting_seconds", ""] == 0, "of what waits for a worker"


def test_each_organization_is_labelled_by_its_own_id(organizations: Organizations) -> None:
    acme = organizations.adopt("acme")
    organizations.adopt('the "globex"\\corporation')
    add_run(acme.engine, "acme", minutes_ago=10, recovered_in_all=4, unconfirmed=9)
    add_run(acme.engine, "acme", minutes_ago=5, recovered_in_all=7, unconfirmed=2, unrecoverable=1)
    add_run(acme.engine, "acme", error="GET .../events: 403, the client lacks webhook-events-read")
    shown = values(acme.client)
    organizations_alone = {"acme", 'the "globex"\\corporation'}
    reconcile = {key: value for key, value in shown.items() if key[1] in organizations_alone}
    checked_until = reconcile.pop(("receiver_reconcile_checked_until_timestamp_seconds", "acme"))
    assert 300 <= time.time() - checked_until < 360, "the failed run checked nothing"
    names = ("recovered_total", "unconfirmed", "unrecoverable", "last_run_failed")
    assert reconcile == {
        **dict(zip([(f"receiver_reconcile_{name}", "acme") for name in names], (7, 2, 1, 1), strict=True)),
        **{(f"receiver_reconcile_{name}", 'the "globex"\\corporation'): 0 for name in names},
    }


def test_organization_metrics_sum_and_use_the_oldest_check(
    organizations: Organizations,
) -> None:
    acme = organizations.adopt("acme")
    add_run(acme.engine, "acme", minutes_ago=1, recovered_in_all=3, unconfirmed=1)
    organizations.adopt("acme")
    assert ("receiver_reconcile_checked_until_timestamp_seconds", "acme") not in values(acme.client)
    add_run(acme.engine, "acme", minutes_ago=60, recovered_in_all=4, unrecoverable=2)
    shown = values(acme.client)
    assert 3600 <= time.time() - shown["receiver_reconcile_checked_until_timestamp_seconds", "acme"] < 3660
    assert shown["receiver_reconcile_recovered_total", "acme"] == 7
    assert shown["receiver_reconcile_unconfirmed", "acme"] == 1
    assert shown["receiver_reconcile_unrecoverable", "acme"] == 2


def test_every_process_shows_the_same_values(acme: Acme, settings: Settings) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    with receiver_with(settings) as another:
        shown = values(another.test_client())
    assert shown.keys() == values(acme.client).keys()
    assert shown["receiver_deliveries_waiting", "pending"] == 1


def test_prometheus_gets_the_format_that_it_asks_for(client: FlaskClient) -> None:
    plain = client.get("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
    assert plain.content_type == "text/plain; version=0.0.4; charset=utf-8"
    openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("authorization", "answer"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (None, 401),
        ("Bearer ", 401),
        ("Bearer another-token", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer t\xf6ken", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_with_a_token_only_who_bears_it_is_answered(
    engine: Engine, settings: Settings, authorization: str | None, answer: int
) -> None:
    del engine  # asked for so that there is a database
    headers = {} if authorization is None else {"Authorization": authorization}
    with receiver_with(settings, metrics_token=TOKEN) as app:
        response = app.test_client().get("/metrics", headers=headers)
    assert response.status_code == answer
    if answer == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json == {"error": "unauthorized"}


@pytest.mark.parametrize("token", ["a=b", "a-token==", "a token", "t\u00f6ken"])
def test_a_token_of_any_characters_is_accepted(engine: Engine, settings: Settings, token: str) -> None:
    del engine  # asked for so that there is a database
    sent = f"Bearer {token}".encode().decode("latin-1")
    with receiver_with(settings, metrics_token=token) as app:
        assert app.test_client().get("/metrics", headers={"Authorization": sent}).status_code == 200


def test_metrics_answer_503_without_the_database(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.ops.metrics.SECONDS_FOR_A_CONNECTION", 0.05)
    with receiver_with(settings, database_url=unreachable_database()) as app:
        response = app.test_client().get("/metrics")
    assert (response.status_code, response.json) == (503, {"error": "the database cannot be read"})


def rows_read(connection: Connection, query: str, table: str) -> int:
    """Return how many rows PostgreSQL looks at in *table* to answer *query*."""

    def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
        return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]

    (plan,) = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")).scalar_one()
    return sum(
        int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in nodes(plan["Plan"])
        if node.get("Relation Name") == table
    )


def test_200_webhooks_cost_a_few_rows_each(organizations: Organizations) -> None:
    for number in range(200):
        acme = organizations.adopt(f"organization-{number}")
    acme.execute(
        "INSERT INTO receiver.reconcile_runs (webhook_id, started_at, ended_at, checked_until)"
        " SELECT id, at, at, at FROM receiver.webhooks, generate_series(now() - interval '8 hours', now(), '5 min') at"
    )
    acme.execute("ANALYZE receiver.reconcile_runs")
    with acme.engine.connect() as connection:
        assert rows_read(connection, status._WEBHOOKS, "reconcile_runs") <= 3 * 200
    assert len([key for key in values(acme.client) if key[0] == "receiver_reconcile_recovered_total"]) == 200


def test_processed_deliveries_are_not_read_for_metrics(acme: Acme) -> None:
    store(acme.engine, number=20_000)
    acme.apply("card_holder.created", card_holder(organization="globex"))
    acme.deliver_ok("card_holder.created", card_holder())
    acme.execute("ANALYZE receiver.stored_deliveries, receiver.outcomes, receiver.queue")
    acme.execute("ANALYZE receiver.processing_attempts")
    with acme.engine.connect() as connection:
        for query in (status._WAITING, status._NOT_APPLIED):
            for table in ("stored_deliveries_0", "outcomes", "queue"):
                assert rows_read(connection, query, table) <= 2
        service = read_status(lambda query: [*map(dict, connection.execute(text(query)).mappings())])
    assert {name: each.number for name, each in service.deliveries.items()} == {
        "pending": 1,
        "failed": 0,
        "dead": 0,
        "quarantined": 1,
        "ignored": 0,
    }
