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

ENTRIES = 100_000
MOST_MEGABYTES = 300
PROGRAM = """
import os, pathlib, re
from datetime import timedelta
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.reconcile.run import Reconciler
from receiver.settings import load_settings

settings = load_settings(os.environ)
engine = engine_for(settings.database_url, application="memory")
reconciler = Reconciler(engine, Encryption(settings.encryption_keys), Access.of(settings), grace=timedelta(minutes=15))
(outcome,) = reconciler.run()
assert outcome.error is None, outcome.error
engine.dispose()
# not ru_maxrss, which a process inherits from the one that started it
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]
print(outcome.log_entries, outcome.recovered, peak)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_100000_entries_are_reconciled_in_300_megabytes(acme: World, environment: dict[str, str]) -> None:
    acme.provider.behaviour.per_page = 500
    begun = ago(100 * HOUR)
    attempts = [
        DeliveryAttempt(
            "acme",
            "card.transaction.cleared",
            200 if number % 3 == 2 else 503,
            begun + timedelta(seconds=number),
            body(snapshot("cleared", transaction=f"transaction-{number // 3}")),
        )
        for number in range(ENTRIES)
    ]
    acme.provider.state.log_attempts(acme.registered().id, attempts)
    for recovered in (-(-ENTRIES // 3), 0):  # all of it is missing; then all of it is stored
        said = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **acme.environment(environment), "LOG_LEVEL": "ERROR"},
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert int(said[-3]) == (ENTRIES if recovered else int(said[-3]))
        assert int(said[-2]) == recovered
        assert int(said[-1]) / 1024 < MOST_MEGABYTES
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == ENTRIES
