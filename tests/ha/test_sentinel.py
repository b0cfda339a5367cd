"""Processes follow the sentinels to the next master, whether the last one was killed or hangs."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from receiver.ops.workers import seen_workers
from receiver.queue import connect
from tests.ha.programs import SECONDS
from tests.ha.sentinel import Sentinels, ValkeyServer
from tests.support.factories import card_holder
from tests.support.pools import ACCESS, QUEUES, running, scheduling
from tests.support.redis_faults import processed
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Acme

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("sentinels")
        yield Sentinels(folder, stack)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("loss", ["killed", "frozen", "switched"])
def test_processes_follow_the_next_master(
    acme: Acme, environment: dict[str, str], tmp_path: Path, sentinels: Sentinels, loss: str
) -> None:
    variables = {**environment, **ACCESS, "REDIS_URL": sentinels.url}
    everyone = dict.fromkeys(QUEUES, 1)
    with (
        connect(sentinels.url) as redis,
        running(redis, variables, log=tmp_path / "worker.log") as pool,
        scheduling(variables, log=tmp_path / "scheduler.log") as scheduler,
    ):
        assert eventually(lambda: seen_workers(sentinels.url).by_queue == everyone, within=SECONDS)
        acme.deliver_ok("card_holder.created", card_holder("before"))
        assert processed(acme, redis)
        workers = [pool.workers(queue) for queue in QUEUES]
        before = sentinels.master
        lose(before, loss, sentinels)
        assert eventually(lambda: sentinels.master is not before, within=SECONDS)
        acme.deliver_ok(
            "card_holder.created", card_holder("after")
        )  # the scheduler finds it, and a worker processes it
        assert eventually(lambda: acme.statuses() == ["processed"] * 2, within=SECONDS)
        assert eventually(lambda: seen_workers(sentinels.url).by_queue == everyone, within=SECONDS)
        regain(before, loss)
        sentinels.wait_until_whole()
        assert [pool.workers(queue) for queue in QUEUES] == workers
        assert (pool.stop(), scheduler.stop()) == (0, 0)


def lose(master: ValkeyServer, loss: str, sentinels: Sentinels) -> None:
    match loss:
        case "killed":
            master.kill()
        case "frozen":
            master.freeze()
        case _:
            sentinels.switch_over()


def regain(server: ValkeyServer, loss: str) -> None:
    match loss:
        case "killed":
            server.start()
        case "frozen":
            server.thaw()
