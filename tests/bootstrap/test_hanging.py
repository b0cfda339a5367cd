"""A run that hangs loses its lock to the next run, and changes nothing when it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from receiver.errors import OperationRefused
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.world import World

SECONDS = 40
# it stops itself when it has read everything, and is to change something
PROGRAM = """
import os, signal, sys
from datetime import timedelta
from functools import partial
from receiver.bootstrap import concurrency
from receiver.bootstrap.desired import parse_configuration
from receiver.bootstrap.rotation import Rotation
from receiver.bootstrap.run import Bootstrap, BootstrapOptions
from receiver.db import engine_for, held_lock
from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.settings import load_settings
from receiver.webhooks.store import WebhookStore

kind = {"bootstrap": Bootstrap, "rotation": Rotation}[sys.argv[1]]
holder, step = {"bootstrap": (Bootstrap, "_apply"), "rotation": (WebhookStore, "get")}[sys.argv[1]]
go_on = getattr(holder, step)

def hang(*arguments):
    os.kill(os.getpid(), signal.SIGSTOP)
    return go_on(*arguments)

setattr(holder, step, hang)
concurrency.held_lock = partial(held_lock, seconds=2)
settings = load_settings(os.environ)
engine = engine_for(settings.database_url, application="hangs")
command = kind(engine, Encryption(settings.encryption_keys), Access.of(settings), settings.public_url)
if kind is Bootstrap:
    command.run(parse_configuration({}, {}, name="webhooks.toml"), BootstrapOptions())
else:
    result = command.run([int(sys.argv[2])], overlap=timedelta(hours=1))
    sys.exit("; ".join(failure.error for failure in result.failures))
"""


@pytest.mark.parametrize("kind", ["bootstrap", "rotation"])
def test_run_that_hung_changes_nothing_when_it_goes_on(world: World, environment: dict[str, str], kind: str) -> None:
    world.bootstrap()
    webhook = world.stored().id
    world.add_organizations("globex")
    program = [sys.executable, "-c", PROGRAM, kind, str(webhook)]
    given = {**os.environ, **world.environment(environment)}
    with subprocess.Popen(program, env=given, stderr=subprocess.PIPE) as process:
        try:
            hanging = psutil.Process(process.pid)
            assert eventually(lambda: hanging.status() == psutil.STATUS_STOPPED, within=SECONDS)
            assert eventually(lambda: can_bootstrap(world), within=SECONDS)
            before = world.writes(), world.database()
            process.send_signal(signal.SIGCONT)
            _, said = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 1
    assert b"and lost its lock: run again" in said
    assert (world.writes(), world.database()) == before
    assert len(world.provider.state.webhooks()) == 2


def can_bootstrap(world: World) -> bool:
    try:
        world.bootstrap()
    except OperationRefused:
        return False
    return True
