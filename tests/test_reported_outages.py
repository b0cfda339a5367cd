"""A night with a wrong secret, a worker out of memory and a database outage: each is reported, and its end."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import text

from receiver.sandbox.demo import wait_until_processed
from receiver.tls import tls_context
from tests.support.factories import body, snapshot
from tests.support.killable_receiver import running_machine
from tests.support.pools import RECEIVER
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from receiver.sandbox.registration import Registration
    from tests.support.alert_channel import Channel
    from tests.support.killable_receiver import KillableMachine

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

CLEARED = "card.transaction.cleared"
MINUTE = 60.0
SECONDS = 180.0
"""What a machine under load may take."""


def has(channel: Channel, title: str, *, within: float = SECONDS) -> bool:
    return eventually(lambda: title in channel.titles, within=within)


def deliver(webhook: Registration, transaction: str) -> int:
    """Send what OpenCard would; return the status of the answer."""
    content = body(
        snapshot(
            "cleared",
            transaction=transaction,
            organization={"reference_id": webhook.organization_reference_id},
        )
    )
    headers = webhook.headers(CLEARED, content)
    return httpx.post(
        webhook.url, content=content, headers=headers, verify=tls_context(), trust_env=False, timeout=30
    ).status_code


def kill_worker_during_a_batch(machine: KillableMachine, webhook: Registration) -> None:
    leased = text("SELECT EXISTS (SELECT FROM receiver.queue WHERE leased_until IS NOT NULL)")
    alone = machine.engine.execution_options(isolation_level="AUTOCOMMIT")
    with machine.engine.connect() as holder, alone.connect() as other:
        holder.execute(text("LOCK TABLE ems.events IN ACCESS EXCLUSIVE MODE"))  # the batch cannot read what is known
        for number in range(5):
            assert deliver(webhook, f"batch-{number}") == 200
        assert eventually(lambda: bool(other.scalar(leased)), within=SECONDS)
        machine.parts.kill("job process")


def test_each_trouble_of_a_night_is_reported_with_its_end(channel: Channel) -> None:
    with running_machine(NOTIFY_URLS=f"{channel.url}/all", RECONCILE_INTERVAL="0") as machine:
        acme, globex = machine.adopt("acme", "globex")
        assert deliver(replace(acme, secret="wrong" * 12), "refused") == 401
        assert has(channel, "deliveries-refused open (acme)", within=MINUTE)
        kill_worker_during_a_batch(machine, globex)
        assert has(channel, "worker-died open")

        assert deliver(acme, "refused") == 200, "the secret was corrected"
        with machine.engine.begin() as connection:
            connection.execute(text("UPDATE receiver.worker_deaths SET at = at - interval '15 minutes'"))

        machine.postgres.kill()
        assert deliver(acme, "outage") == 503
        assert has(channel, "storage-failing open")
        machine.postgres.start()
        assert eventually(lambda: deliver(acme, "outage") == 200, within=SECONDS)

        kinds = ("deliveries-refused {} (acme)", "worker-died {}", "storage-failing {}")
        for title in kinds:
            assert has(channel, title.format("resolved"))
        assert Counter(channel.titles) == {title.format(state): 1 for title in kinds for state in ("open", "resolved")}
        wait_until_processed(machine.engine, seconds=SECONDS)
        status = subprocess.run(
            [RECEIVER, "status"], env=machine.environment, capture_output=True, text=True, check=False
        )
        assert status.returncode == 0, status.stdout + status.stderr
