"""A chaos run, and what was wrong at its end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from bench.chaos.follower import FeedReader
from bench.chaos.plan import plan
from bench.chaos.resources import grown, measure_resources
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.opencard.auth import Access
from receiver.ops.deliveries import Filter
from receiver.ops.replay import start_replay
from receiver.ops.replay_wait import wait_for_end
from receiver.progress import Progress
from receiver.queue import connect, wake_worker
from receiver.reconcile.run import Reconciler
from receiver.sandbox.demo import wait_until_processed
from receiver.sandbox.faults import Faults
from receiver.sandbox.killable import KillableParts
from receiver.sandbox.local import ORGANIZATIONS, PROCESSES, local_servers
from receiver.sandbox.onboarding import register
from receiver.sandbox.processes import ProcfileProcesses, wait_until_ready
from receiver.sandbox.provider import SCOPES, Behaviour, Provider, deliver_story, environment, serving
from receiver.sandbox.retry_limits import RetryLimits
from receiver.sandbox.story import make_story
from receiver.sandbox.verdict import differences
from receiver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from bench.chaos.plan import Kill, Plan
    from receiver.reconcile.run import ReconcileOutcome
    from receiver.sandbox.provider import Delivered
    from receiver.sandbox.story import Story
    from receiver.settings import Settings

FAULTS: Final = Faults(duplicates=0.10, disorder=0.20, lost_answers=0.05, bursts=0.20, lost=0.05)
CONNECTIONS: Final = 16
NEVER: Final = RetryLimits(seconds=None)
RECONCILE_INTERVAL: Final = 15
"""Seconds: reconciling is under way most of the time, and so in the middle of being killed."""
REPLAYED: Final = 200
"""How many deliveries are replayed after each kill."""
STILL_SECONDS: Final = 300
"""How long the stream, or processing, may stand still before the run is given up."""


@dataclass(frozen=True, slots=True)
class Result:
    """What happened."""

    seed: int
    sent: int
    attempts: int
    kills: Mapping[str, int]
    """How often each part was killed."""
    clock_ahead: timedelta
    statuses: Mapping[str, int]
    recovered: int
    replayed: int
    wrong: Sequence[str]
    """What is not as it should be, a line each."""


class ChaosStream:
    """Sends a story in a thread, and knows how far it has come."""

    def __init__(self, provider: Provider, story: Story, seed: int, progress: Progress) -> None:
        self._arguments = (provider, story, seed)
        self._progress = progress
        self._expected = len(story.events)
        self._completed = 0
        self._moved = threading.Condition()
        self._delivered: Delivered | None = None
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)  # it sends until it is accepted
        self._thread.start()

    def _run(self) -> None:
        provider, story, seed = self._arguments
        self._delivered = asyncio.run(
            deliver_story(
                provider,
                story,
                faults=FAULTS,
                seed=seed,
                connections=CONNECTIONS,
                give_up_after=NEVER,  # what was never tried would stand in no log
                on_completed=lambda sending: None if sending.duplicate else self._count(),
            )
        )

    def _count(self) -> None:
        with self._moved:
            self._completed += 1
            self._moved.notify_all()
        self._progress.advance()

    def wait_for(self, part: float) -> None:
        """Return when that part of the story is completed. Raises ``OperationRefused`` when it stands still."""
        wanted = int(part * self._expected)
        with self._moved:
            before = -1
            while self._completed < wanted:
                if self._completed == before or not self._thread.is_alive():
                    raise OperationRefused(f"the stream stopped at {self._completed} of {self._expected} events")
                before = self._completed
                self._moved.wait_for(lambda: self._completed >= wanted, timeout=STILL_SECONDS)

    def finish(self) -> Delivered:
        """Return the result, once the run has ended."""
        self._thread.join()
        if self._delivered is None:
            raise OperationRefused("the stream broke off")
        return self._delivered


def run_chaos(*, seed: int, purchases: int, kills: int, progress: Progress) -> Result:
    """Run it. Raises ``OperationRefused`` when something does not start, or comes to no end."""
    planned = plan(seed, kills=kills)
    behaviour = Behaviour(per_page=100, clock_ahead=planned.clock_ahead)
    with ExitStack() as stack:
        progress.stage("starting")
        servers = stack.enter_context(local_servers("chaos"))
        provider = Provider(behaviour=behaviour)
        api_url = stack.enter_context(serving(provider))
        for reference in ORGANIZATIONS:
            provider.state.add_organization(reference)
        account = environment(api_url, provider.clients.add("chaos", scopes=SCOPES))
        environment_variables = {**servers.environment, **account, "RECONCILE_INTERVAL": str(RECONCILE_INTERVAL)}
        settings = load_settings(environment_variables)
        processes = stack.enter_context(ProcfileProcesses(environment_variables, servers.folder / "logs"))
        processes.start(*PROCESSES)
        wait_until_ready(settings.public_url, processes, needed=PROCESSES)
        register(servers, settings)
        database_url = (
            make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        )
        story = make_story(seed=seed, organizations=ORGANIZATIONS, purchases=purchases)

        held = partial(measure_resources, processes, database_url=database_url, redis_url=settings.redis_url)
        before = held()
        follower = FeedReader(database_url)
        stack.callback(follower.stop)
        progress.stage(f"sending, and killing {kills} times")
        progress.total(len(story.events))
        stream = ChaosStream(provider, story, seed, progress)
        _kill(planned, stream, KillableParts(servers.postgres, servers.valkey, processes), servers.engine)
        delivered = stream.finish()
        wait_until_ready(settings.public_url, processes, needed=PROCESSES)
        progress.stage("processing what is left")
        _process_all(servers.engine, settings)
        progress.stage("reconciling")
        outcomes = _reconcile(servers.engine, settings)
        _process_all(servers.engine, settings)
        growth = grown(before, held)
        progress.stage("comparing")
        with servers.engine.connect() as connection:
            statuses = _statuses(connection)
            wrong = [
                *_of_reconciling(outcomes),
                *_of_statuses(statuses),
                *_of_replays(connection),
                *differences(connection, story),
                *_of_the_feed(connection, follower.finish()),
                *growth,
            ]
        return Result(
            seed=seed,
            sent=len(story.events),
            attempts=delivered.tally.sent,
            kills=Counter(kill.part for kill in planned.kills),
            clock_ahead=planned.clock_ahead,
            statuses=statuses,
            recovered=_count(servers.engine, "SELECT count(*) FROM receiver.stored_deliveries WHERE source = 'log'"),
            replayed=_count(servers.engine, "SELECT coalesce(sum(processed), 0) FROM receiver.replays"),
            wrong=wrong,
        )


def _kill(planned: Plan, stream: ChaosStream, parts: KillableParts, engine: Engine) -> None:
    """Kill one after the other, and start them again: at once, or when the next one is killed; then replay some."""
    away: Kill | None = None
    for kill in planned.kills:
        stream.wait_for(kill.at)
        if away is not None:
            parts.start(away.part)
        parts.kill(kill.part)
        away = kill if kill.stays_away else None
        if away is None:
            parts.start(kill.part)
        with suppress(DBAPIError):  # PostgreSQL is away
            start_replay(
                engine,
                Filter(statuses=("processed", "duplicate")),
                requested_by="chaos",
                reason="it changes nothing",
                limit=REPLAYED,
            )
    stream.wait_for(1)
    if away is not None:
        parts.start(away.part)


def _process_all(engine: Engine, settings: Settings) -> None:
    """Have all that waits processed, what waits for its next attempt as if its time had come."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE receiver.queue SET due_at = now() WHERE due_at > now()"))
    with closing(connect(settings.redis_url)) as redis:
        wake_worker(redis)
    wait_until_processed(engine, seconds=STILL_SECONDS)
    for replay in _replays_under_way(engine):
        wait_for_end(engine, replay, timeout=STILL_SECONDS, progress=Progress())


def _replays_under_way(engine: Engine) -> list[int]:
    selected = text("SELECT id FROM receiver.replays WHERE ended_at IS NULL AND selected_at IS NOT NULL ORDER BY id")
    with engine.connect() as connection:
        return list(connection.scalars(selected))


def _reconcile(engine: Engine, settings: Settings) -> list[ReconcileOutcome]:
    """Reconcile every webhook once; one that the scheduler's run is busy with is asked for again."""
    reconciler = Reconciler(
        engine,
        Encryption(settings.encryption_keys),
        Access.of(settings),
        grace=timedelta(seconds=settings.reconcile_grace),
    )
    deadline = time.monotonic() + STILL_SECONDS
    done: dict[int, ReconcileOutcome] = {}
    while True:
        for outcome in reconciler.run():
            if outcome.webhook_id not in done or done[outcome.webhook_id].error is not None:
                done[outcome.webhook_id] = outcome
        if all(outcome.error is None for outcome in done.values()) or time.monotonic() > deadline:
            return list(done.values())


def _count(engine: Engine, statement: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(text(statement)) or 0


def _statuses(connection: Connection) -> dict[str, int]:
    rows = connection.execute(text("SELECT status, count(*) FROM receiver.deliveries GROUP BY status ORDER BY status"))
    return {str(status): int(number) for status, number in rows}


def _of_reconciling(outcomes: Sequence[ReconcileOutcome]) -> list[str]:
    failed = [f"reconciling {each.organization_reference_id} failed: {each.error}" for each in outcomes if each.error]
    return failed + [
        f"{each.organization_reference_id}: {each.unconfirmed} unconfirmed, {each.unrecoverable} unrecoverable"
        for each in outcomes
        if each.unconfirmed or each.unrecoverable
    ]


def _of_statuses(statuses: Mapping[str, int]) -> list[str]:
    return [
        f"{number} deliveries are {status}"
        for status, number in statuses.items()
        if status not in {"processed", "duplicate"}
    ]


def _of_replays(connection: Connection) -> list[str]:
    """Return the replays that were selected and did not process everything once."""
    replays = connection.execute(
        text(
            "SELECT id, selected, processed FROM receiver.replays "
            "WHERE selected_at IS NOT NULL AND (ended_at IS NULL OR processed + failed <> selected) ORDER BY id"
        )
    )
    return [f"replay {row.id} processed {row.processed} of {row.selected} deliveries" for row in replays]


def _of_the_feed(connection: Connection, seen: Sequence[int]) -> list[str]:
    """Return what a reader that followed the feed saw otherwise than it stands there."""
    written = list(connection.scalars(text("SELECT delivery_id FROM ems.events ORDER BY position")))
    if list(seen) == written:
        return []
    skipped, twice = Counter(written) - Counter(seen), Counter(seen) - Counter(written)
    return [
        f"the reader of the feed missed {skipped.total()} of {len(written)} events, saw {twice.total()} too often"
        + ("" if skipped or twice else ", and saw them in another order")
    ]
