"""A stream of deliveries through the loss of any machine, on real clusters: docs/operate/high-availability.md."""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import make_url, text

from receiver.sandbox.processes import wait_until_ready
from receiver.sandbox.verdict import differences
from tests.conftest import DATA_FOLDER
from tests.ha.machine import Machine, longest_outage
from tests.ha.patroni import ETCD, PATRONI, TTL, Patroni, postgres_programs
from tests.ha.programs import SECONDS, own
from tests.ha.sentinel import Sentinels
from tests.support.roles import libpq
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from receiver.sandbox.story import Story
    from tests.ha.machine import SentStream
    from tests.ha.sentinel import ValkeyServer

MISSING = [program for program in (ETCD, PATRONI, "haproxy") if shutil.which(program) is None]
if postgres_programs() is None:
    MISSING.append("postgresql")
pytestmark = [
    pytest.mark.long,
    pytest.mark.ha,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        bool(MISSING), reason=f"{', '.join(MISSING)} missing: apt-get install patroni etcd-server haproxy postgresql"
    ),
]
NO_RECONCILE = {"RECONCILE_INTERVAL": "0"}
"""What is lost here is not recovered from the log."""
OFTEN = {"RECONCILE_INTERVAL": "10", "RECONCILE_GRACE": "5"}


@contextmanager
def new_folder() -> Iterator[Path]:
    """Below .data: pytest closes its own folders to the user that PostgreSQL runs as."""
    folder = DATA_FOLDER / f"ha-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    own(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with new_folder() as folder, ExitStack() as stack:
        yield Sentinels(folder, stack)


@pytest.fixture(scope="module")
def synchronous() -> Iterator[Patroni]:
    with new_folder() as folder, ExitStack() as stack:
        yield Patroni(folder, stack, synchronous=True)


@pytest.fixture(scope="module")
def asynchronous() -> Iterator[Patroni]:
    with new_folder() as folder, ExitStack() as stack:
        yield Patroni(folder, stack, synchronous=False)


@pytest.fixture
def own_urls(new_database: Callable[[], str]) -> list[str]:
    """The databases of two expense systems: one reads as the example does, one with the typed client."""
    return [libpq(make_url(new_database())) for _ in range(2)]


@pytest.fixture
def machine(synchronous: Patroni, sentinels: Sentinels, own_urls: list[str]) -> Iterator[Machine]:
    synchronous.wait_until_whole()
    sentinels.wait_until_whole()
    with new_folder() as folder, ExitStack() as stack:
        yield Machine(
            folder, stack, postgres=synchronous, sentinels=sentinels, own_urls=own_urls, variables=NO_RECONCILE
        )


def kill_primary(machine: Machine, stream: SentStream) -> None:
    primary = machine.postgres.primary
    primary.kill()
    assert eventually(lambda: machine.postgres.other(primary).says("primary"), within=SECONDS)
    stream.wait_for_more(50)
    primary.start()


def kill_lagging_primary(machine: Machine, stream: SentStream) -> None:
    machine.postgres.primary.stop_sending()
    stream.wait_for_more(50)
    kill_primary(machine, stream)


def freeze_primary(machine: Machine, stream: SentStream) -> None:
    primary = machine.postgres.primary
    events = machine.value("SELECT count(*) FROM ems.events")
    primary.freeze()
    assert eventually(lambda: machine.postgres.other(primary).says("primary"), within=SECONDS)
    stream.wait_for_more(50)
    # also the worker leaves the connections that hang
    assert eventually(lambda: machine.value("SELECT count(*) FROM ems.events") > events + 50, within=SECONDS)
    # in place of the watchdog, which resets a machine that hung: it must not go on as the primary that it was
    primary.kill()
    primary.start()


def freeze_lagging_primary(machine: Machine, stream: SentStream) -> None:
    machine.postgres.primary.stop_sending()
    stream.wait_for_more(50)
    freeze_primary(machine, stream)


def switch_over(machine: Machine, stream: SentStream) -> None:
    primary = machine.postgres.primary
    machine.postgres.switch_over()
    assert eventually(lambda: machine.postgres.other(primary).says("primary"), within=SECONDS)
    stream.wait_for_more(50)


def kill_web(machine: Machine, stream: SentStream) -> None:
    for at, processes in machine.webs.items():
        processes.kill("web")
        stream.wait_for_more(50)
        processes.start("web")
        wait_until_ready(f"http://{at}", processes)


def kill_queue(machine: Machine, stream: SentStream) -> None:
    master = machine.sentinels.master
    master.kill()
    wait_for_next_queue(machine, stream, master)
    master.start()


def freeze_queue(machine: Machine, stream: SentStream) -> None:
    master = machine.sentinels.master
    master.freeze()
    wait_for_next_queue(machine, stream, master)
    master.thaw()


def wait_for_next_queue(machine: Machine, stream: SentStream, master: ValkeyServer) -> None:
    events = machine.value("SELECT count(*) FROM ems.events")
    stream.wait_for_more(50)
    assert eventually(lambda: machine.sentinels.master is not master, within=SECONDS)
    assert eventually(lambda: machine.value("SELECT count(*) FROM ems.events") > events + 50, within=SECONDS)


LOSSES_OF_QUEUE: list[Callable[[Machine, SentStream], None]] = [kill_queue, freeze_queue]
LOSSES = [kill_primary, freeze_primary, switch_over, kill_web, *LOSSES_OF_QUEUE]


@pytest.mark.parametrize("lose", LOSSES)
def test_synchronous_standby_loses_nothing(
    machine: Machine, lose: Callable[[Machine, SentStream], None], capsys: pytest.CaptureFixture[str]
) -> None:
    story, stream = machine.send(seed=LOSSES.index(lose))
    stream.wait_for(0.2)
    lose(machine, stream)
    stream.wait_for(1)
    machine.postgres.wait_until_whole()
    machine.wait_until_processed()
    report(f"synchronous, {lose.__name__}", machine, stream, capsys)
    assert not machine.acknowledged() - machine.stored()
    assert wrong(machine, story) == []
    machine.reader.finish()
    assert machine.reader.positions == positions(machine)
    machine.wait_for_readers()
    check_readers(machine)
    assert machine.ended() == []
    if lose in LOSSES_OF_QUEUE:
        assert {attempt.status for attempt in machine.attempts()} == {httpx.codes.OK}, "deliveries need no queue"


def wrong(machine: Machine, story: Story) -> list[str]:
    """Return what is not as it should be."""
    machine.engine.dispose()
    with machine.engine.connect() as connection:
        statuses = set(connection.scalars(text("SELECT DISTINCT status FROM receiver.deliveries")))
        return [*differences(connection, story), *(statuses - {"processed", "duplicate"})]


def positions(machine: Machine) -> list[int]:
    return [position for (position,) in machine.rows("SELECT position FROM ems.events ORDER BY position")]


def check_readers(machine: Machine) -> None:
    """Assert that all programs that follow the feed made of it what it is, and reported an epoch."""
    epochs = machine.value("SELECT count(*) FROM receiver.feed_epochs WHERE reason IS NOT NULL")
    assert ["epoch" in report for report in machine.reports()] == [epochs > 0] * 3
    ledger = "SELECT organization_reference_id, transaction_id, state, accounting_amount FROM ems.ledger ORDER BY 1, 2"
    booked = "SELECT organization, transaction_id, state, amount FROM bookings ORDER BY 1, 2"
    assert machine.own_rows(booked) == machine.rows(ledger)
    sent = "SELECT fingerprint FROM ems.events WHERE type !~ '^(card_holder|receiver)[.]' ORDER BY 1"
    taken = "SELECT fingerprint FROM archived_events WHERE type !~ '^card_holder[.]' ORDER BY 1"
    assert machine.own_rows(taken) == machine.rows(sent)
    lines = (
        "SELECT organization_reference_id, transaction_id, accounting_amount, vat_amount FROM ems.ledger ORDER BY 1, 2"
    )
    booked = "SELECT organization, transaction_id, amount, vat FROM ledger_lines ORDER BY 1, 2"
    assert machine.typed_rows(booked) == machine.rows(lines)


def report(title: str, machine: Machine, stream: SentStream, capsys: pytest.CaptureFixture[str]) -> None:
    """Print what happened, as counts."""
    acknowledged, stored = machine.acknowledged(), machine.stored()
    attempts = machine.attempts()
    answers = Counter(attempt.status for attempt in attempts)
    failed = [attempt.at for attempt in attempts if attempt.status != httpx.codes.OK]
    figures = {
        "answered 200": answers[httpx.codes.OK],
        "answered otherwise": sum(answers.values()) - answers[httpx.codes.OK] - answers[None],
        "not answered": answers[None],
        "acknowledged and lost": (acknowledged - stored).total(),
        "recovered": machine.value("SELECT count(*) FROM receiver.stored_deliveries WHERE source = 'log'"),
        "duplicates": machine.value("SELECT count(*) FROM receiver.deliveries WHERE status = 'duplicate'"),
        "ttl until the next 200 at most": f"{longest_outage(failed, stream.answered) / TTL:.1f}",
        "epochs begun": machine.value("SELECT count(*) FROM receiver.feed_epochs WHERE reason IS NOT NULL"),
    }
    with capsys.disabled():  # for docs/operate/high-availability.md
        print(f"\n{title}: " + ", ".join(f"{number} {name}" for name, number in figures.items()))  # noqa: T201


LOSSES_OF_LAGGING = [kill_lagging_primary, freeze_lagging_primary]


@pytest.mark.parametrize("lose", [*LOSSES_OF_LAGGING, switch_over])
def test_asynchronous_standby_is_made_good_from_the_log(
    asynchronous: Patroni,
    sentinels: Sentinels,
    own_urls: list[str],
    lose: Callable[[Machine, SentStream], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asynchronous.wait_until_whole()
    sentinels.wait_until_whole()
    with new_folder() as folder, ExitStack() as stack:
        machine = Machine(
            folder,
            stack,
            postgres=asynchronous,
            sentinels=sentinels,
            own_urls=own_urls,
            through_proxy=True,
            variables=OFTEN,
        )
        story, stream = machine.send(seed=100)
        stream.wait_for(0.2)
        lose(machine, stream)
        stream.wait_for(1)
        asynchronous.wait_until_whole()
        lost = machine.acknowledged() - machine.stored()
        assert bool(lost) == (lose in LOSSES_OF_LAGGING)
        machine.wait_until_reconciled()
        assert not outstanding(machine)
        report(f"asynchronous, {lose.__name__}", machine, stream, capsys)
        assert wrong(machine, story) == []
        check_positions(machine, lost=bool(lost))
        machine.wait_for_readers()
        check_readers(machine)
        assert machine.ended() == []


def outstanding(machine: Machine) -> bool:
    """Return whether the log has something acknowledged that is not here, by push or from the log."""
    here = "SELECT body FROM receiver.bodies"
    return bool(machine.acknowledged().keys() - machine.digests(here).keys())


def check_positions(machine: Machine, *, lost: bool) -> None:
    """Assert that a reader that kept on missed nothing that is there, and that no position has two meanings."""
    machine.reader.finish()
    seen = dict(zip(machine.reader.positions, machine.reader.seen, strict=True))
    there = dict(machine.rows("SELECT position, delivery_id FROM ems.events"))
    start = machine.value("SELECT epoch_start FROM ems.feed_horizon")
    gone = seen.keys() - there.keys()
    assert bool(gone) == lost
    assert max(gone, default=0) <= start
    assert there.keys() <= seen.keys()
    assert {position: seen[position] for position in there} == there
