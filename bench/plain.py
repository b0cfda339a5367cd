"""The plain way to do it, to compare with: the ORM in the request, and one RQ job for each delivery.

``gunicorn 'bench.plain:create_app()'`` is its web process, ``python -m bench.plain`` its worker. It is spared what
costs time but is not the point: it reads the webhook once, and its worker has the handlers imported before it forks.
"""

from __future__ import annotations

import os
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Final

import structlog
from flask import Flask, Response, abort, request
from redis import Redis
from rq import Queue, SimpleWorker, Worker
from sqlalchemy import Engine, create_engine, make_url, select, text
from sqlalchemy.orm import Session, sessionmaker

from receiver.db import engine_for
from receiver.deliveries.authentication import AuthenticationType, Credentials, Expected, authenticate
from receiver.deliveries.headers import evidence
from receiver.deliveries.models import Delivery, Webhook
from receiver.deliveries.webhooks import ENDPOINT_PATH
from receiver.encryption import Encryption
from receiver.errors import NotAuthentic
from receiver.events.apply import apply
from receiver.events.event import StoredDelivery
from receiver.events.registry import load_handlers
from receiver.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE: Final = "plain"
THREADS: Final = 16
JOB: Final = "bench.plain.apply_delivery"

_DELIVERY: Final = text(
    """
SELECT delivery.id, webhook.organization_reference_id, delivery.event, delivery.version, delivery.body,
    delivery.source, delivery.occurred_at, delivery.attempts
FROM receiver.deliveries AS delivery JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
WHERE delivery.id = :id FOR UPDATE OF delivery
"""
)


def create_app() -> Flask:
    """Return the plain receiver."""
    settings = load_settings(os.environ)
    engine = create_engine(make_url(settings.database_url).set(drivername="postgresql+psycopg"), pool_size=THREADS)
    sessions = sessionmaker(engine)
    queue = Queue(QUEUE, connection=Redis.from_url(settings.redis_url))
    webhook_of = _webhooks(sessions, settings)
    app = Flask("plain", static_folder=None)

    @app.post(ENDPOINT_PATH + "<endpoint_key>")
    def deliver(endpoint_key: str) -> Response:
        webhook_id, expected = webhook_of(endpoint_key)
        body = request.get_data()
        try:
            verification = authenticate(body, request.headers, expected, settings.signature_policy)
        except NotAuthentic:
            abort(401)
        with sessions() as session:
            delivery = Delivery(
                webhook_id=webhook_id,
                event=request.headers["X-Event"],
                version=request.headers.get("X-Version"),
                body=body,
                headers=evidence(request.headers, custom_key=""),
                verification=verification,
            )
            session.add(delivery)
            session.commit()
            queue.enqueue(JOB, delivery.id)
        return Response("{}", mimetype="application/json")

    app.extensions["receiver.close"] = engine.dispose  # gunicorn's settings call it at the end
    return app


def apply_delivery(delivery_id: int) -> None:
    """Apply one delivery: the RQ job."""
    settings = load_settings(os.environ)
    engine = engine_for(settings.database_url, application="plain worker")
    _apply(engine, delivery_id)
    engine.dispose()


def work() -> None:
    """Work off what is queued, and print how many seconds that took; ``--without-fork``: in this very process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    load_handlers()
    kind = SimpleWorker if "--without-fork" in sys.argv else Worker
    worker = kind([QUEUE], connection=Redis.from_url(load_settings(os.environ).redis_url))
    begun = time.perf_counter()
    worker.work(burst=True, logging_level="WARNING")
    sys.stdout.write(f"{time.perf_counter() - begun}\n")


def _apply(engine: Engine, delivery_id: int) -> None:
    with engine.begin() as connection:
        row = connection.execute(_DELIVERY, {"id": delivery_id}).mappings().one()
        apply(connection, [StoredDelivery(**row)])


def _webhooks(sessions: sessionmaker[Session], settings: Settings) -> Callable[[str], tuple[int, Expected]]:
    """Return a function that finds a webhook's id and what proves its deliveries, reading it the first time only."""
    encryption = Encryption(settings.encryption_keys)

    @cache
    def webhook_of(endpoint_key: str) -> tuple[int, Expected]:
        with sessions() as session:
            webhook = session.scalars(select(Webhook).where(Webhook.endpoint_key == endpoint_key)).one()
            return webhook.id, Expected((encryption.decrypt(webhook.secret),), AuthenticationType.NONE, Credentials())

    return webhook_of


if __name__ == "__main__":
    work()
