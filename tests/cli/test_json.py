"""Every command that has ``--json`` prints one JSON document, while web, worker and scheduler run and there is data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
from rq import Worker
from sqlalchemy import make_url, text

from receiver.queue import BOOTSTRAP_QUEUE, FILES_QUEUE, QUEUE, RECONCILE_QUEUE, RETENTION_QUEUE
from receiver.sandbox.demo import wait_until_processed
from receiver.sandbox.embedded import free_port
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.sandbox.provider import SCOPES, Provider, serving
from receiver.sandbox.provider import environment as environment_of
from receiver.sandbox.receipt_files import signed_url
from receiver.tls import tls_context
from tests.support.factories import body, card_holder, enrichment, snapshot
from tests.support.forked_commands import ForkedCommands, forking
from tests.support.program import with_option
from tests.support.roles import new_role
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis
    from sqlalchemy import Engine

    from receiver.sandbox.registration import Registration

SECONDS = 90
TRANSACTION = "transaction-1"
QUEUES = {QUEUE, RECONCILE_QUEUE, FILES_QUEUE, BOOTSTRAP_QUEUE, RETENTION_QUEUE}
ELSEWHERE = {
    "demo": "starts servers of its own: tests/test_package.py runs it and reads its document",
    "drill": "needs a backup: tests/ops/test_drill.py reads its document",
    "deliveries accept": "needs a delivery that the log lacks: tests/ops/test_decisions.py reads its document",
    "deliveries retract": "needs a delivery that the log lacks: tests/ops/test_retracting.py reads its document",
}
MAY_FAIL = {"status", "doctor", "replay", "notify test", "close"}
"""Commands that exit with 1 here, as a delivery is dead and no address takes messages."""


@dataclass
class Living:
    """A receiver with its processes and data, and the local OpenCard that it is registered at."""

    environment: dict[str, str]
    engine: Engine
    registration: Registration
    folder: Path
    role: str
    commands: ForkedCommands

    def value(self, query: str) -> str:
        with self.engine.connect() as connection:
            return str(connection.scalar(text(query)))

    def send(self, event: str, payload: object) -> None:
        """Have the web process take a delivery."""
        content = body(payload)
        headers = self.registration.headers(event, content)
        assert (
            httpx.post(self.registration.url, content=content, headers=headers, verify=tls_context()).status_code == 200
        )

    def arguments(self) -> dict[str, list[str]]:
        """Return what each command needs besides ``--json``."""
        sending = ["--url", self.registration.url, "--secret", self.registration.secret, "--organization", "acme"]
        credentials = [str(self.registration.basic_username), "--basic-password", str(self.registration.basic_password)]
        return {
            "db grant-reader": [self.role],
            "db revoke-reader": [self.role],
            "webhooks adopt": ["--organization=globex", "--organization-id=77", "--webhook-id=77", "--secret=secret"],
            "webhooks rotate-secret": ["--organization", "acme"],
            "webhooks show": [self.value("SELECT min(id) FROM receiver.webhooks")],
            "webhooks test": ["card_holder.created", "--organization", "acme"],
            "deliveries show": [self.value("SELECT max(id) FROM receiver.deliveries WHERE status = 'dead'")],
            "deliveries resolve": ["--status", "ignored", "--reason", "a test"],
            "transactions show": [TRANSACTION],
            "replay": ["--status", "dead", "--reason", "a test"],
            "close": ["acme", "2020-01"],
            "trigger": ["card.transaction.cleared", "--organization", "acme"],
            "issues show": [self.value("SELECT max(id) FROM receiver.issues")],
            "issues acknowledge": [self.value("SELECT max(id) FROM receiver.issues"), "--note", "a test"],
            "issues resolve": [self.value("SELECT max(id) FROM receiver.issues"), "--note", "a test"],
            "clients create": ["--name", "new", "--recommended", "--secret-file", str(self.folder / "secret")],
            "clients set-scopes": [self.environment["OPENCARD_CLIENT_ID"], *SCOPES],
            "files export": [str(self.folder / "copies")],
            "files path": [TRANSACTION],
            "sandbox": [*sending, "--authentication-type", "basic", "--basic-username", *credentials, "--purchases=1"],
        }

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.commands.run(*command.split(), *self.arguments().get(command, []), "--json")


def served_queues(redis: Redis) -> set[str]:
    return {name for worker in Worker.all(connection=redis) for name in worker.queue_names()}


@pytest.fixture
def living(engine: Engine, redis: Redis, environment: dict[str, str], tmp_path: Path) -> Iterator[Living]:
    provider = Provider()
    client = provider.clients.add("ems", scopes=SCOPES)
    organization = provider.state.add_organization("acme")
    ours = local_environment(
        database_url=environment["DATABASE_URL"],
        redis_url=environment["REDIS_URL"],
        port=free_port(),
        encryption_key=environment["ENCRYPTION_KEYS"],
    )
    with (
        serving(provider) as url,
        new_role(make_url(environment["DATABASE_URL"])) as role,
        ProcfileProcesses(
            variables := {
                **ours,
                **environment_of(url, client),
                "FILES_URL": str(tmp_path / "files"),
                "NOTIFY_URLS": f"json://{url.partition('//')[2]}",
            },
            tmp_path / "logs",
        ) as processes,
        forking(variables, tmp_path / "commands") as commands,
    ):
        processes.start("web", "worker", "scheduler")
        wait_until_ready(ours["PUBLIC_URL"], processes)
        assert commands.run("bootstrap").returncode == 0
        (webhook,) = provider.state.webhooks()
        living = Living(variables, engine, webhook.registration(organization), tmp_path, role, commands)
        living.send("card.transaction.cleared", snapshot("cleared", transaction=TRANSACTION))
        living.send("card.transaction.cleared", snapshot("cleared", transaction=TRANSACTION))
        living.send("card_holder.created", card_holder())
        living.send("card_holder.created", card_holder(organization="globex"))
        living.send("card_holder.created", b"{}")
        receipt = signed_url(url, "1.pdf", provider.now().replace(year=provider.now().year + 1))
        living.send("receipt.fetched", enrichment("receipt.fetched", transaction=TRANSACTION, url=receipt))
        wait_until_processed(engine, seconds=SECONDS)
        assert eventually(lambda: served_queues(redis) == QUEUES, within=SECONDS)
        assert eventually(lambda: living.value("SELECT count(*) FROM receiver.issues") != "0", within=SECONDS)
        yield living


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_command_prints_one_json_document(living: Living) -> None:
    commands = with_option("--json").keys() - ELSEWHERE.keys()
    assert {"status", "webhooks list", "retention run"} <= commands
    wrong = []
    for command in sorted(commands):
        ended = living.run(command)
        if ended.returncode not in ({0, 1} if command in MAY_FAIL else {0}) or "Traceback" in ended.stderr:
            wrong.append(f"{command}: {ended.returncode}: {ended.stderr[-500:]}")
        try:
            json.loads(ended.stdout)
        except ValueError as error:
            wrong.append(f"{command}: {error}: {ended.stdout[:200]!r}")
    assert not wrong, "\n".join(wrong)
