"""A run that hangs loses its webhook, and what it would write when it goes on is not written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.reconcile_steps import reconcile, reconciler, reset_with_a_log, rows, value
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World

SECONDS = 40
ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import os, pathlib, sys
from datetime import timedelta
from functools import partial
from sqlalchemy import text
from receiver.db import engine_for, held_lock
from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.opencard.client import OpenCard
from receiver.reconcile import session
from receiver.reconcile.run import Reconciler
from receiver.settings import load_settings
from tests.support.waiting import eventually

holder, name = {"reading": (OpenCard, "page"), "writing": (session.ReconcileSession, "_compare")}[sys.argv[1]]
arrived, go_on = map(pathlib.Path, sys.argv[2:])
go_ahead = getattr(holder, name)

def wait(*arguments, **options):
    arrived.touch()
    assert eventually(go_on.exists, within=60)
    return go_ahead(*arguments, **options)

setattr(holder, name, wait)
session.held_lock = partial(held_lock, seconds=2)
assert hasattr(session, "_SET_TIMEOUT")
session._SET_TIMEOUT = text("SELECT set_config('idle_in_transaction_session_timeout', '2s', false)")
settings = load_settings(os.environ)
engine = engine_for(settings.database_url, application="hangs")
(outcome,) = Reconciler(engine, Encryption(settings.encryption_keys), Access.of(settings), grace=timedelta(0)).run()
sys.exit(outcome.error is not None)
"""


@contextmanager
def hanging(world: World, environment: dict[str, str], folder: Path, where: str) -> Iterator[subprocess.Popen[bytes]]:
    """Let a process reconcile and be stopped there; it goes on when it is continued."""
    arrived, go_on = folder / "arrived", folder / "go on"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, where, str(arrived), str(go_on)],
        env={**os.environ, **world.environment(environment)},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert eventually(arrived.exists, within=SECONDS)
        process.send_signal(signal.SIGSTOP)
        go_on.touch()
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("where", ["reading", "writing"])
def test_hanging_run_loses_its_webhook_to_the_next_run(
    acme: World, environment: dict[str, str], tmp_path: Path, where: str
) -> None:
    reset_with_a_log(acme)
    with hanging(acme, environment, tmp_path, where) as process:
        (busy,) = reconciler(acme).run()
        assert busy.error is not None
        assert eventually(lambda: reconciler(acme).run()[0].recovered == 2, within=SECONDS)
        left = rows(acme, "SELECT * FROM receiver.deliveries ORDER BY id")
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=SECONDS) == 1, "it has lost the webhook"
    assert rows(acme, "SELECT * FROM receiver.deliveries ORDER BY id") == left
    assert reconcile(acme).recovered == 0
    assert value(acme, "SELECT error FROM receiver.reconcile_runs ORDER BY id LIMIT 1")


def test_live_run_keeps_its_webhook(acme: World, environment: dict[str, str], tmp_path: Path) -> None:
    reset_with_a_log(acme)
    with hanging(acme, environment, tmp_path, "reading") as process:
        (tmp_path / "go on").unlink()
        process.send_signal(signal.SIGCONT)
        shown = (
            "SELECT coalesce(max(state_change - backend_start) > interval '5 seconds', false) FROM pg_stat_activity "
            "WHERE application_name = 'receiver hangs' AND query = 'SELECT 1' AND datname = current_database()"
        )
        assert eventually(lambda: bool(value(acme, shown)), within=SECONDS)
        (busy,) = reconciler(acme).run()
        assert busy.error is not None
        (tmp_path / "go on").touch()
        assert process.wait(timeout=SECONDS) == 0
    assert value(acme, "SELECT recovered FROM receiver.reconcile_runs") == 2
