"""The whole journey over real HTTP: gunicorn, Valkey, RQ workers, PostgreSQL, as the Procfile runs them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest
import stamina

from receiver.db import engine_for
from receiver.sandbox.demo import wait_until_processed
from receiver.sandbox.embedded import EmbeddedValkey, free_port
from receiver.sandbox.faults import Faults, schedule
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.sandbox.registration import Registration
from receiver.sandbox.sender import challenge, deliver_all
from receiver.sandbox.story import make_story
from receiver.sandbox.verdict import differences
from receiver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ORGANIZATIONS = ("acme", "globex")
FAULTS = Faults(duplicates=0.2, disorder=0.3, lost_answers=0.1, bursts=0.3)


def receiver(environment: dict[str, str], *arguments: str) -> str:
    """Run the program as an operator would and return what it prints."""
    program = "import sys; from receiver.cli import main; main(sys.argv[1:])"
    python = environment["PATH"].partition(":")[0] + "/python"
    done = subprocess.run(
        [python, "-c", program, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def adopt(environment: dict[str, str], organization: str, number: int) -> Registration:
    secret = f"secret-of-{organization}"
    shown = receiver(
        environment,
        *("webhooks", "adopt", "--organization", organization, "--organization-id", str(number)),
        *("--webhook-id", str(number), "--secret", secret, "--authentication-type", "basic"),
        *("--basic-username", "opencard", "--basic-password", f"password-of-{organization}", "--json"),
    )
    return Registration(
        url=json.loads(shown)["url"],
        secret=secret,
        organization_reference_id=organization,
        authentication_type="basic",
        basic_username="opencard",
        basic_password=f"password-of-{organization}",
    )


async def challenge_each(registrations: list[Registration]) -> list[bool]:
    async with httpx.AsyncClient() as client:
        return [await challenge(client, registration) for registration in registrations]


@pytest.fixture
def local(new_database: Callable[[], str], tmp_path: Path) -> Iterator[dict[str, str]]:
    valkey = EmbeddedValkey(tmp_path / "valkey")
    yield local_environment(database_url=new_database(), redis_url=valkey.url, port=free_port())
    valkey.stop()


@pytest.mark.long
def test_tables_equal_what_opencard_sent(local: dict[str, str], tmp_path: Path) -> None:
    stamina.instrumentation.set_on_retry_hooks(())
    with ProcfileProcesses(local, tmp_path / "logs") as processes:
        processes.run("release")
        processes.start("web", "worker", "scheduler")
        wait_until_ready(local["PUBLIC_URL"], processes)
        registrations = [adopt(local, organization, number) for number, organization in enumerate(ORGANIZATIONS, 1)]
        assert asyncio.run(challenge_each(registrations)) == [True, True]

        story = make_story(seed=11, organizations=ORGANIZATIONS, purchases=80)
        tally = asyncio.run(deliver_all(schedule(story.events, FAULTS, seed=11), registrations))
        assert (tally.refused, tally.unanswered, tally.given_up) == (0, 0, 0)

        engine = engine_for(load_settings(local).database_url, application="tests")
        wait_until_processed(engine)
        with engine.connect() as connection:
            assert differences(connection, story) == []
            stored = connection.exec_driver_sql("SELECT count(*) FROM receiver.deliveries").scalar()
        engine.dispose()
        assert stored == tally.sent

        assert processes.stop("web", "worker", "scheduler") == {"web": 0, "worker": 0, "scheduler": 0}
    for name in ("web", "worker", "scheduler"):
        assert "Traceback" not in processes.log_of(name).read_text()
