"""A run may be cut off at any moment: the next one ends where an undisturbed one would have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import event

from receiver.processing.drain import drain
from receiver.tls import tls_context
from tests.support.killing import Killed
from tests.support.reconcile_steps import (
    DAY,
    ago,
    reconcile,
    reconciler,
    reset_with_a_log,
    rows,
    value,
)
from tests.support.session_locks import ADVISORY
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World


class KillableReconcile(httpx.BaseTransport):
    """A process that ends at its *last* step; each statement, each commit and each call of the API is one."""

    def __init__(self, last: int | None) -> None:
        self.last = last
        self.steps = 0
        self.ended = False
        self._network = httpx.HTTPTransport(verify=tls_context())

    def step(self) -> None:
        self.steps += 1
        self.ended = self.ended or self.steps == self.last
        if self.ended:
            raise Killed

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.step()
        response = self._network.handle_request(request)
        response.read()
        self.step()
        return response

    def close(self) -> None:
        self._network.close()


@contextmanager
def killable_process(world: World, last: int | None) -> Iterator[KillableReconcile]:
    """Let what follows run in a process that ends at its *last* step."""
    life = KillableReconcile(last)

    def before_statement(*_: object) -> None:
        life.step()

    def before_commit(_connection: object) -> None:
        life.step()

    event.listen(world.engine, "before_cursor_execute", before_statement)
    event.listen(world.engine, "commit", before_commit)
    world.transport = life
    try:
        yield life
    finally:
        world.transport = None
        event.remove(world.engine, "before_cursor_execute", before_statement)
        event.remove(world.engine, "commit", before_commit)


def wait_for_locks(world: World, application: str = "receiver tests") -> None:
    """Wait until PostgreSQL has ended the sessions of a process that ended, and with them their locks."""
    held = f"{ADVISORY} AND application_name = :application"
    assert eventually(lambda: value(world, held, application=application) == 0, within=30)


def result(world: World) -> dict[str, list[dict[str, Any]]]:
    """Return what a run leaves behind, without ids and times of its own."""
    return {
        "deliveries": rows(
            world,
            "SELECT event, convert_from(body, 'UTF8') AS body, source, status, confirmed_at IS NOT NULL AS confirmed"
            " FROM receiver.deliveries ORDER BY body, source",
        ),
        "log": rows(
            world, "SELECT event, response_status, unrecoverable FROM receiver.delivery_log ORDER BY attempted_at"
        ),
        "run": rows(
            world,
            "SELECT log_entries, matched, recovered, unconfirmed, unrecoverable, checked_until = started_at AS proves,"
            " since, recovered_in_all FROM receiver.reconcile_runs WHERE error IS NULL AND ended_at IS NOT NULL",
        ),
    }


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a cursor, left open by the death
def test_next_run_completes_one_killed_at_any_step(acme: World) -> None:
    reset_with_a_log(acme)
    with killable_process(acme, None) as undisturbed:
        reconcile(acme)
    expected = result(acme)
    assert (
        expected["run"][0]["recovered"],
        expected["run"][0]["unrecoverable"],
        expected["run"][0]["unconfirmed"],
    ) == (2, 1, 1)
    assert undisturbed.steps > 40
    for last in range(1, undisturbed.steps + 1):
        reset_with_a_log(acme)
        with killable_process(acme, last) as life, pytest.raises(Killed):
            reconciler(acme).run()
        wait_for_locks(acme)
        assert life.ended
        was_done = bool(rows(acme, "SELECT 1 FROM receiver.reconcile_runs WHERE checked_until IS NOT NULL"))
        if not was_done:
            assert value(acme, "SELECT count(*) FROM receiver.deliveries WHERE source = 'log'") == 0, last
            assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == 0, last
            reconcile(acme)
        assert result(acme) == expected, last
        assert reconcile(acme, since=ago(DAY)).recovered == 0


def test_process_killed_while_reading_leaves_only_its_run_row(
    acme: World, environment: dict[str, str], tmp_path: Path
) -> None:
    reset_with_a_log(acme)
    reading = tmp_path / "reading"
    program = (
        "import os, pathlib, sys, threading\n"
        "from datetime import timedelta\n"
        "from receiver.db import engine_for\n"
        "from receiver.encryption import Encryption\n"
        "from receiver.opencard import client\n"
        "from receiver.opencard.auth import Access\n"
        "from receiver.reconcile.run import Reconciler\n"
        "from receiver.settings import load_settings\n"
        "def page(*_a, **_k):\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
        "    threading.Event().wait(60)\n"
        "client.OpenCard.page = page\n"
        "settings = load_settings(os.environ)\n"
        "engine = engine_for(settings.database_url, application='killed')\n"
        "Reconciler(engine, Encryption(settings.encryption_keys), Access.of(settings), grace=timedelta(0)).run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(reading)],
        env={**os.environ, **acme.environment(environment)},
        cwd=Path(__file__).parent.parent.parent,
    )
    try:
        assert eventually(reading.exists, within=60)
        (busy,) = reconciler(acme).run()
        assert busy.error is not None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for_locks(acme, "receiver killed")
    assert reconcile(acme).recovered == 2
    first, second = rows(acme, "SELECT * FROM receiver.reconcile_runs ORDER BY id")
    assert "interrupted" in first["error"]
    assert second["error"] is None
    assert drain(acme.engine)
