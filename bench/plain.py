"""The plain way, as a comparison: the ORM in the request, and one RQ job for each delivery.

``gunicorn 'bench.plain:create_app()'`` is its web process, ``python -m bench.plain`` its worker. To be fair, it
leaves out what is not the point: it reads the webhook once, and its worker imports the processing code before it forks.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Final

import structlog
from flask import Flask, Response, abort, request
from redis import Redis
from rq import Queue, SimpleWorker, Worker
from sqlalchemy import Engine, create_engine, make_url, select
from sqlalchemy.orm import Session, sessionmaker

from receiver.db import engine_for
from receiver.deliveries.authentication import authenticate
from receiver.deliveries.headers import evidence
from receiver.deliveries.models import Body, QueuedDelivery, StoredDelivery
from receiver.encryption import Encryption
from receiver.errors import NotAuthentic
from receiver.processing.claim import Backlog
from receiver.processing.drain import Processor
from receiver.settings import Settings, load_settings
from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.credentials import AuthenticationType, Credentials, Expected
from receiver.webhooks.models import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE: Final = "plain"
THREADS: Final = 16
JOB: Final = "bench.plain.apply_delivery"


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
            delivery = StoredDelivery(
                webhook_id=webhook_id,
                event=request.headers["X-Event"],
                version=request.headers.get("X-Version"),
                verification=verification,
            )
            session.add(delivery)
            session.flush()
            session.add(Body(delivery_id=delivery.id, body=body, headers=evidence(request.headers, custom_key="")))
            session.add(QueuedDelivery(delivery_id=delivery.id))
            session.commit()
            queue.enqueue(JOB)
        return Response("{}", mimetype="application/json")

    app.extensions["receiver.close"] = engine.dispose  # gunicorn's settings call it at the end
    return app


def apply_delivery() -> None:
    """Apply one delivery: the RQ job."""
    settings = load_settings(os.environ)
    engine = engine_for(settings.database_url, application="plain worker")
    _apply(engine)
    engine.dispose()


def work() -> None:
    """Work off what is queued, and print how many seconds that took; ``--without-fork``: in this very process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    kind = SimpleWorker if "--without-fork" in sys.argv else Worker
    worker = kind([QUEUE], connection=Redis.from_url(load_settings(os.environ).redis_url))
    begun = time.perf_counter()
    worker.work(burst=True, logging_level="WARNING")
    sys.stdout.write(f"{time.perf_counter() - begun}\n")


def _apply(engine: Engine) -> None:
    with closing(Processor(engine)) as processor:
        processor.process("plain", lambda connection: Backlog().claim(connection, 1))


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
