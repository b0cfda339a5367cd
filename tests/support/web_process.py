"""A real web process that serves the organization acme."""

from __future__ import annotations

import http.client
import json
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import stamina

from receiver.sandbox.embedded import LOOPBACK, free_port
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from tests.support.factories import body, card_holder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Acme

EVENT = "card_holder.created"
SECONDS = 60


@dataclass
class Web:
    """A web process of its own, and a client that knows acme's secrets."""

    processes: ProcfileProcesses
    port: int
    acme: Acme

    def deliver(self, reference_id: str) -> int:
        """Deliver over a connection of its own and return the status. Raises ``OSError`` when there is no answer."""
        content = body(card_holder(reference_id))
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=SECONDS)
        with closing(connection):
            try:
                connection.request("POST", self.acme.path, content, self.acme.registration.headers(EVENT, content))
                return connection.getresponse().status
            except http.client.HTTPException as error:
                raise ConnectionError from error

    def stored(self) -> set[str]:
        """Return the reference ids of the card holders whose deliveries are stored."""
        return {
            json.loads(row["body"])["card_holder"]["reference_id"]
            for row in self.acme.rows("SELECT body FROM receiver.deliveries")
        }


@contextmanager
def running(acme: Acme, environment: dict[str, str], logs: Path, *arguments: str) -> Iterator[Web]:
    stamina.instrumentation.set_on_retry_hooks(())
    port = free_port()
    given = local_environment(
        database_url=environment["DATABASE_URL"],
        redis_url=environment["REDIS_URL"],
        port=port,
        encryption_key=environment["ENCRYPTION_KEYS"],
    )
    given |= {"WEB_CONCURRENCY": "1", "GUNICORN_CMD_ARGS": " ".join([given["GUNICORN_CMD_ARGS"], *arguments])}
    with ProcfileProcesses(given, logs) as processes:
        processes.start("web")
        wait_until_ready(given["PUBLIC_URL"], processes)
        yield Web(processes, port, acme)
