"""A log of any length is reconciled in little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from receiver.sandbox.tally import DeliveryAttempt
from tests.support.factories import body, snapshot
from tests.support.reconcile_steps import HOUR, ago, value

if TYPE_CHECKING:
    from tests.support.world import World

FEW, MANY = 20_000, 200_000
MAX_MEGABYTES = 300
MAX_GROWTH = 1.2
PROGRAM = """
import os, pathlib, re
from datetime import UTC, datetime, timedelta
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.reconcile.run import Reconciler
from receiver.settings import load_settings

settings = load_settings(os.environ)
engine = engine_for(settings.database_url, application="memory")
reconciler = Reconciler(engine, Encryption(settings.encryption_keys), Access.of(settings), grace=timedelta(minutes=15))
(outcome,) = reconciler.run(since=datetime.now(UTC) - timedelta(days=30))
assert outcome.error is None, outcome.error
engine.dispose()
# not ru_maxrss, which a process inherits from the one that started it
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]
print(outcome.log_entries, outcome.recovered, peak)
"""


def log_until(world: World, entries: range) -> None:
    """Log three attempts of each event, a second apart; the last of them was accepted."""
    begun = ago(100 * HOUR)
    world.provider.state.log_attempts(
        world.registered().id,
        [
            DeliveryAttempt(
                "acme",
                "card.transaction.cleared",
                200 if number % 3 == 2 else 503,
                begun + timedelta(seconds=number),
                body(snapshot("cleared", transaction=f"transaction-{number // 3}")),
            )
            for number in entries
        ],
    )


def reconcile_in_a_process(world: World, environment: dict[str, str]) -> tuple[int, int, float]:
    """Return how many entries were read and recovered, and how many megabytes the process had at most."""
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **world.environment(environment), "LOG_LEVEL": "ERROR"},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return int(said[-3]), int(said[-2]), int(said[-1]) / 1024


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_ten_times_the_entries_need_no_more_memory(acme: World, environment: dict[str, str]) -> None:
    acme.provider.behaviour.per_page = 500
    log_until(acme, range(FEW))
    read, recovered, few = reconcile_in_a_process(acme, environment)
    assert (read, recovered) == (FEW, -(-FEW // 3))
    log_until(acme, range(FEW, MANY))
    for missing in (-(-MANY // 3) - recovered, 0):  # nearly all of it is missing; then all of it is stored
        read, recovered, many = reconcile_in_a_process(acme, environment)
        assert (read, recovered) == (MANY, missing)
        assert many < MAX_MEGABYTES
        assert many < MAX_GROWTH * few
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == MANY
