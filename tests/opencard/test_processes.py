"""Tokens and processes: web, workers, their job processes and commands all use the same."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from receiver.opencard.webhooks import Webhooks
from receiver.sandbox.provider import environment
from tests.support.session_locks import WAITING
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import pytest
    from sqlalchemy import Engine

    from receiver.opencard.tokens import StoredTokens
    from tests.opencard.conftest import ApiWorld

SECONDS = 30
COMMON = """
import os, sys
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.logs import configure_logs
from receiver.opencard.auth import Access
from receiver.opencard.client import OpenCard
from receiver.opencard.tokens import StoredTokens
from receiver.opencard.webhooks import Webhooks
from receiver.settings import load_settings

settings = load_settings(os.environ)
configure_logs(level="INFO", log_format=settings.log_format)

def organizations():
    engine = engine_for(settings.database_url, application="tests")
    tokens = StoredTokens(engine, Encryption(settings.encryption_keys))
    with OpenCard(Access.of(settings), ["organizations-read"], tokens) as api:
        return len(Webhooks(api).organizations())
"""
ASK = COMMON + "print(organizations())"
FORK = (
    COMMON
    + """
print(organizations(), flush=True)
child = os.fork()
if child == 0:
    print(organizations(), flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
)


def start(world: ApiWorld, settings_environment: dict[str, str], program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **settings_environment, **environment(world.url, world.client)},
        stdout=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    return said


def wait_until_one_waits(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        waits = eventually(lambda: bool(connection.execute(text(WAITING)).scalar_one()), within=SECONDS)
    assert waits, "the other process does not wait for the token"


def test_two_processes_request_one_token(
    world: ApiWorld, environment: dict[str, str], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = world.provider.clients.issue

    def issue_when_the_other_waits(*arguments: Any, **options: Any) -> Any:
        wait_until_one_waits(engine)
        return issue(*arguments, **options)

    monkeypatch.setattr(world.provider.clients, "issue", issue_when_the_other_waits)
    processes = [start(world, environment, ASK) for _ in range(2)]
    assert [output(process) for process in processes] == ["1\n", "1\n"]
    assert len(world.token_requests()) == 1
    assert world.asked() == 2


def test_forked_child_uses_the_token_of_its_parent(
    world: ApiWorld, environment: dict[str, str], engine: Engine
) -> None:
    del engine  # asked for so that the table is there, and empty afterwards
    assert output(start(world, environment, FORK)) == "1\n1\n"
    assert len(world.token_requests()) == 1
    assert world.asked() == 2


def test_later_process_uses_the_stored_token(
    world: ApiWorld, environment: dict[str, str], stored: StoredTokens
) -> None:
    Webhooks(world.api("organizations-read", store=stored)).organizations()
    assert output(start(world, environment, ASK)) == "1\n"
    assert len(world.token_requests()) == 1
