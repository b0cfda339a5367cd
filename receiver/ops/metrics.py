"""``GET /metrics`` for Prometheus. Every value is read from the database when it is asked for.

So it is right whichever of the web processes answers, and after each of them was restarted: the service's status is
counted there and then, and what happened is the sum of all processes' counts (``receiver.counter_store``).
"""

from __future__ import annotations

import hmac
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import psycopg
from flask import Blueprint, Response, jsonify, request
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from psycopg.rows import dict_row
from psycopg_pool import PoolTimeout

from receiver.ops.counted import COUNTED, counted, counted_families
from receiver.ops.deploys import read_last_deploy
from receiver.ops.findings import Severity
from receiver.ops.status import WAITING, ServiceStatus, WebhookStatus, read_status
from receiver.queue import SHORT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from prometheus_client.metrics_core import Metric
    from psycopg_pool import ConnectionPool

    from receiver.counters import Sample
    from receiver.ops.deploys import Deploy

WEBHOOK_STATES: Final = ("active", "inactive", "unknown", "unregistered")
SECONDS_FOR_A_CONNECTION: Final = 4 * SHORT_TIMEOUT


def metrics(pool: ConnectionPool[Any], *, token: str, can_store: Callable[[], bool]) -> Blueprint:
    """Return the blueprint. With a *token*, requests must present it; *can_store* is about this process."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def show() -> Response | tuple[Response, int] | tuple[Response, int, dict[str, str]]:
        if token and not _has_token(token):
            return jsonify(error="unauthorized"), 401, {"WWW-Authenticate": "Bearer"}
        try:
            read = _read(pool)
        except (psycopg.Error, PoolTimeout):
            return jsonify(error="the database cannot be read"), 503
        stores = can_store()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(MetricsCollector(*read, can_store=stores)), content_type=content_type)

    return blueprint


def _has_token(token: str) -> bool:
    # the very bytes: what parses this header takes a token with "=" in it for parameters
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    sent = credential.strip().encode("latin-1", "replace")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent, token.encode())


def _read(pool: ConnectionPool[Any]) -> tuple[ServiceStatus, Deploy | None, dict[Sample, float]]:
    with (
        pool.connection(timeout=SECONDS_FOR_A_CONNECTION) as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):

        def query(statement: str) -> Iterable[Mapping[str, Any]]:
            rows: list[dict[str, Any]] = cursor.execute(statement.encode()).fetchall()
            return rows

        return read_status(query), read_last_deploy(query), counted(query(COUNTED))


class MetricsCollector(Collector):
    """Shows the service's status and counts in Prometheus' format."""

    def __init__(
        self, service: ServiceStatus, deploy: Deploy | None, counts: Mapping[Sample, float], *, can_store: bool
    ) -> None:
        self._service = service
        self._deploy = deploy
        self._counts = counts
        self._can_store = can_store

    def collect(self) -> Iterable[Metric]:
        """Return each family of values; the organizations are the EMS's own ids."""
        yield from self._deliveries()
        yield from self._reconcile()
        yield from self._receipts()
        yield from self._other_work()
        yield from counted_families(self._counts)

    def _deliveries(self) -> Iterable[Metric]:
        service = self._service
        yield GaugeMetricFamily(
            "receiver_can_store",
            "1 if the web process that answers can store deliveries, as /readyz says.",
            value=int(self._can_store),
        )
        waiting = GaugeMetricFamily(
            "receiver_deliveries_waiting",
            "Deliveries by status. Only pending and failed wait for a worker; the others need an operator.",
            labels=["status"],
        )
        for status, each in service.deliveries.items():
            waiting.add_metric([status], each.number)
        yield waiting
        ages = GaugeMetricFamily(
            "receiver_deliveries_oldest_seconds",
            "Seconds since the oldest delivery of a status was received; 0 if there is none.",
            labels=["status"],
        )
        for status, each in service.deliveries.items():
            ages.add_metric([status], self._age(each.oldest))
        yield ages
        yield GaugeMetricFamily(
            "receiver_deliveries_oldest_waiting_seconds",
            f"Age of the oldest delivery that is {' or '.join(WAITING)}; 0 if there is none.",
            value=self._age(service.oldest_waiting),
        )
        yield GaugeMetricFamily(
            "receiver_unknown_versions",
            "Events and versions, unknown to this release, that were applied in the last eight days.",
            value=len(service.unknown.applied),
        )
        issues = GaugeMetricFamily(
            "receiver_issues_open", "Open issues that are not acknowledged.", labels=["kind", "severity"]
        )
        for found in service.issues:
            issues.add_metric([found.kind, Severity(found.severity).name.lower()], found.number)
        yield issues
        lock = service.feed_lock
        yield GaugeMetricFamily(
            "receiver_feed_lock_held_seconds",
            "Seconds that a process has held the feed's lock, at least; 0 if no process holds it.",
            value=0 if lock is None else lock.seconds,
        )
        epoch = service.feed_epoch
        yield GaugeMetricFamily(
            "receiver_feed_epoch",
            "Current epoch of the feed; it increases after PostgreSQL was restored or failed over.",
            value=0 if epoch is None else epoch.epoch,
        )
        yield GaugeMetricFamily(
            "receiver_feed_epoch_needs_attention",
            "1 if the feed's epoch began within eight days and is not acknowledged.",
            value=int(epoch is not None and epoch.needs_attention),
        )

        yield from self._consumers()

    def _consumers(self) -> Iterable[Metric]:
        events = GaugeMetricFamily(
            "receiver_consumer_lag_events",
            "Events of the feed that a registered consumer has not read, counted up to 100,000.",
            labels=["consumer"],
        )
        seconds = GaugeMetricFamily(
            "receiver_consumer_lag_seconds",
            "Age of the oldest event that a registered consumer has not read; 0 if there is none.",
            labels=["consumer"],
        )
        stopped = GaugeMetricFamily(
            "receiver_consumer_stopped",
            "1 if a registered consumer is behind and has committed no position for 15 minutes.",
            labels=["consumer"],
        )
        for each in self._service.consumers:
            events.add_metric([each.name], each.lag_events)
            seconds.add_metric([each.name], each.lag_seconds)
            stopped.add_metric([each.name], int(each.has_stopped(self._service.at)))
        yield from (events, seconds, stopped)

    def _age(self, since: datetime | None) -> float:
        return 0 if since is None else max(0.0, (self._service.at - since).total_seconds())

    def _reconcile(self) -> Iterable[Metric]:
        checked = _gauge(
            "checked_until_timestamp_seconds",
            "Time until which the delivery log was compared; absent before the first run.",
        )
        recovered = CounterMetricFamily(
            "receiver_reconcile_recovered",
            "Events that did not arrive and were recovered from the delivery log.",
            labels=["organization"],
        )
        unconfirmed = _gauge("unconfirmed", "Deliveries of the last eight days that are not in the delivery log.")
        unrecoverable = _gauge(
            "unrecoverable", "Events that did not arrive and whose payload the delivery log does not have."
        )
        failed = _gauge("last_run_failed", "1 if the last reconcile run of one of the organization's webhooks failed.")
        for each in self._service.organizations:
            labels = [each.organization_reference_id]
            if each.checked_until is not None:
                checked.add_metric(labels, each.checked_until.timestamp())
            recovered.add_metric(labels, each.recovered)
            unconfirmed.add_metric(labels, each.unconfirmed)
            unrecoverable.add_metric(labels, each.unrecoverable)
            failed.add_metric(labels, int(each.last_error is not None))
        yield from (checked, recovered, unconfirmed, unrecoverable, failed)

    def _receipts(self) -> Iterable[Metric]:
        receipts = self._service.receipts
        if receipts is None:
            return
        for name, words, number in (
            ("waiting", "Files of receipts and signed TPAs that are not downloaded yet.", receipts.waiting),
            ("failing", "Files that are not downloaded yet and failed three times or more.", receipts.failing),
            ("lost", "Receipts of the last eight days whose URLs expired before the download.", receipts.newly_expired),
            (
                "refused",
                "Files of the last eight days refused for host, size or type.",
                receipts.newly_refused,
            ),
        ):
            yield GaugeMetricFamily(f"receiver_receipts_{name}", words, value=number)
        expires = GaugeMetricFamily(
            "receiver_receipts_first_expiry_timestamp_seconds",
            "Time at which the URL of the first failing file expires; absent if none fails.",
        )
        if receipts.first_expires_at is not None:
            expires.add_metric([], receipts.first_expires_at.timestamp())
        yield expires

    def _other_work(self) -> Iterable[Metric]:
        service = self._service
        webhooks = GaugeMetricFamily(
            "receiver_webhooks",
            "Managed webhooks by their state at OpenCard, as last read.",
            labels=["state"],
        )
        states = Counter(map(_state, service.webhooks))
        for state in WEBHOOK_STATES:
            webhooks.add_metric([state], states[state])
        yield webhooks
        yield GaugeMetricFamily(
            "receiver_organizations_without_webhook",
            "Organizations of the account without an active webhook: OpenCard sends nothing about them.",
            value=len(service.without_webhook),
        )
        deployed = GaugeMetricFamily(
            "receiver_last_deploy_timestamp_seconds", "Time of the last deploy, by version.", labels=["version"]
        )
        if self._deploy is not None:
            deployed.add_metric([self._deploy.version], self._deploy.at.timestamp())
        yield deployed
        yield GaugeMetricFamily("receiver_replays_running", "Replays that have not ended.", value=len(service.replays))
        last = service.retention
        ended_well = GaugeMetricFamily(
            "receiver_retention_last_success_timestamp_seconds",
            "Time at which retention last succeeded; absent if it never did.",
        )
        if last is not None and last.succeeded_at is not None:
            ended_well.add_metric([], last.succeeded_at.timestamp())
        yield ended_well
        yield GaugeMetricFamily(
            "receiver_retention_last_run_failed",
            "1 if the last run of retention failed.",
            value=int(last is not None and last.error is not None),
        )


def _state(webhook: WebhookStatus) -> str:
    if webhook.opencard_webhook_id is None:
        return "unregistered"
    return {True: "active", False: "inactive", None: "unknown"}[webhook.active]


def _gauge(name: str, words: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"receiver_reconcile_{name}", words, labels=["organization"])
