"""The service on a cluster: two web processes behind HAProxy, a worker, a scheduler, a local OpenCard, and readers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import tomllib
from bisect import bisect_left
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx
import psycopg

from bench.chaos.follower import FeedReader
from receiver.bootstrap.desired import parse_configuration
from receiver.bootstrap.run import Bootstrap, BootstrapOptions
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.readers.grants import grant
from receiver.sandbox.demo import wait_until_processed
from receiver.sandbox.embedded import LOOPBACK, free_port
from receiver.sandbox.local import ORGANIZATIONS, READER
from receiver.sandbox.onboarding import CONFIGURATION, SILENT
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.sandbox.provider import SCOPES, Provider, deliver_story, environment, serving
from receiver.sandbox.retry_limits import RetryLimits
from receiver.sandbox.story import make_story
from receiver.settings import load_settings
from tests.ha.programs import SECONDS, Program, write_configuration
from tests.support.following import EMS_READER, PYTHON_CLIENT
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from receiver.sandbox.provider import ProviderLogEntry
    from receiver.sandbox.story import Story
    from tests.ha.patroni import Patroni
    from tests.ha.sentinel import Sentinels

OTHER_ADDRESS: Final = "127.0.0.2"
FIRST: Final = ("web", "worker", "scheduler")
SECOND: Final = ("web",)
"""What runs at the other address."""
PURCHASES: Final = 120
STREAM_SECONDS: Final = 20
UNTIL_ACCEPTED: Final = RetryLimits(seconds=None, longest_pause=2)


class SentStream:
    """A story that a local OpenCard sends for some time, each delivery until it is answered 200."""

    def __init__(self, provider: Provider, story: Story, stack: ExitStack) -> None:
        self.answered: list[datetime] = []
        """When each delivery was answered 200."""
        self._number = len(story.events)
        self._failures: list[BaseException] = []
        self._arguments = (provider, story)
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()
        stack.callback(self._thread.join, SECONDS)

    def _run(self) -> None:
        provider, story = self._arguments
        span = (story.events[-1].at - story.events[0].at).total_seconds()
        try:
            asyncio.run(
                deliver_story(
                    provider,
                    story,
                    connections=8,
                    compression=span / STREAM_SECONDS,
                    give_up_after=UNTIL_ACCEPTED,
                    on_completed=lambda _sending: self._count(),
                )
            )
        except BaseException as error:
            self._failures.append(error)
            raise

    def _count(self) -> None:
        self.answered.append(datetime.now(UTC))

    def wait_for(self, share: float) -> None:
        """Return when that share of the story has been answered 200."""
        wanted = int(share * self._number)
        assert eventually(lambda: len(self.answered) >= wanted or bool(self._failures), within=3 * SECONDS), (
            f"the stream stopped at {len(self.answered)} of {self._number}"
        )
        assert not self._failures

    def wait_for_more(self, number: int) -> None:
        """Return when so many more have been answered 200, or all."""
        self.wait_for(min(1.0, (len(self.answered) + number) / self._number))


class Machine:
    """All of it, in a database of its own."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        *,
        postgres: Patroni,
        sentinels: Sentinels,
        own_urls: Sequence[str],
        through_proxy: bool = False,
        variables: Mapping[str, str],
    ) -> None:
        self._stack = stack
        self.postgres = postgres
        self.sentinels = sentinels
        self.database = folder.name.replace("-", "_")
        postgres.create_database(self.database)
        ports = {name: free_port() for name in ("web", "postgres", "first", "second")}
        self._proxy(folder, ports)
        self.direct_url = postgres.url(self.database)
        url = self.direct_url
        if through_proxy:
            url = f"postgresql://receiver@{LOOPBACK}:{ports['postgres']}/{self.database}"
        self.provider = Provider()
        api_url = stack.enter_context(serving(self.provider))
        account = environment(api_url, self.provider.clients.add("ha", scopes=SCOPES))
        common = {
            **local_environment(database_url=url, redis_url=sentinels.url, port=ports["web"]),
            **account,
            "FILES_URL": str(folder / "files"),
            "WEB_CONCURRENCY": "1",
            "BOOTSTRAP_INTERVAL": "0",
            **variables,
        }
        self.settings = load_settings(common)
        self.engine = engine_for(self.direct_url, application="tests")
        stack.callback(self.engine.dispose)
        self.webs = {
            at: stack.enter_context(ProcfileProcesses({**common, "GUNICORN_CMD_ARGS": f"--bind {at}"}, folder / at))
            for at in (f"{LOOPBACK}:{ports['first']}", f"{OTHER_ADDRESS}:{ports['second']}")
        }
        """The processes at each of the two addresses; the worker and the scheduler are at the first."""
        self.processes, self._second = self.webs.values()
        self.processes.run("release")
        self.processes.start(*FIRST)
        self._second.start(*SECOND)
        for at, processes in self.webs.items():
            wait_until_ready(f"http://{at}", processes)
        wait_until_ready(self.settings.public_url, self.processes)
        self._register()
        self.reader = FeedReader(self.direct_url)
        stack.callback(self.reader.stop)
        self._own_url, self._typed_url = own_urls
        self._examples = [
            self._follow(f"reader-{way}", [*EMS_READER, way], folder, self._own_url) for way in ("ledger", "events")
        ]
        self._typed = self._follow("typed-reader", PYTHON_CLIENT, folder, self._typed_url)

    def _proxy(self, folder: Path, ports: Mapping[str, int]) -> None:
        one, two = self.postgres.nodes
        configuration = write_configuration(
            "haproxy.cfg",
            folder / "haproxy.cfg",
            web_port=ports["web"],
            first_web=f"{LOOPBACK}:{ports['first']}",
            second_web=f"{OTHER_ADDRESS}:{ports['second']}",
            postgres_port=ports["postgres"],
            first_port=one.port,
            first_api=one.api_port,
            second_port=two.port,
            second_api=two.api_port,
        )
        proxy = Program("haproxy", ["haproxy", "-db", "-f", configuration], folder)
        self._stack.callback(proxy.kill)
        proxy.start()

    def _register(self) -> None:
        """Have OpenCard's organizations, and their webhooks."""
        for reference in ORGANIZATIONS:
            self.provider.state.add_organization(reference)
        bootstrap = Bootstrap(
            self.engine, Encryption(self.settings.encryption_keys), Access.of(self.settings), self.settings.public_url
        )
        wanted = parse_configuration(tomllib.loads(CONFIGURATION), {}, name="the demo's configuration")
        assert not bootstrap.run(wanted, BootstrapOptions(), SILENT).failures

    def _follow(self, name: str, command: Sequence[str], folder: Path, own_url: str) -> Program:
        """Run a program that follows the feed, as the role of an EMS, with a database of its own."""
        self.postgres.execute(
            f"DO $$ BEGIN CREATE ROLE {READER} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        with self.engine.connect() as connection:
            grant(connection, READER)
        variables = {**os.environ, "EMS_URL": self.postgres.url(self.database, READER), "OWN_URL": own_url}
        follower = Program(name, command, folder, environment=variables)
        self._stack.callback(follower.kill)
        follower.start()
        return follower

    def send(self, seed: int) -> tuple[Story, SentStream]:
        """Begin to send a story."""
        story = make_story(seed=seed, organizations=ORGANIZATIONS, purchases=PURCHASES)
        return story, SentStream(self.provider, story, self._stack)

    def rows(self, query: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """Return what PostgreSQL answers, over a new connection."""
        with closing(psycopg.connect(url or self.direct_url, autocommit=True)) as connection:
            return connection.execute(query.encode()).fetchall()

    def value(self, query: str) -> Any:
        ((value,),) = self.rows(query)
        return value

    def wait_until_processed(self) -> None:
        self.engine.dispose()
        wait_until_processed(self.engine, seconds=SECONDS)

    def wait_until_reconciled(self) -> None:
        """Return when later runs found nothing to recover for any webhook, and all is processed."""
        before = self.value("SELECT coalesce(max(id), 0) FROM receiver.reconcile_runs")
        open_webhooks = f"""
            SELECT count(*) FROM receiver.webhooks AS webhook WHERE NOT EXISTS (
                SELECT FROM receiver.reconcile_runs AS run WHERE run.webhook_id = webhook.id AND run.id > {before}
                    AND run.ended_at IS NOT NULL AND run.error IS NULL AND run.recovered = 0
            )"""  # noqa: S608 - a number
        assert eventually(lambda: self.value(open_webhooks) == 0, within=2 * SECONDS), (
            "something is recovered again and again"
        )
        self.wait_until_processed()

    def acknowledged(self) -> Counter[str]:
        """Return how many attempts to deliver each body were answered 200."""
        return Counter(_digest(attempt.body) for attempt in self.attempts() if attempt.status == httpx.codes.OK)

    def attempts(self) -> list[ProviderLogEntry]:
        """Return all attempts to deliver."""
        webhooks = self.provider.state.webhooks()
        return [attempt for webhook in webhooks for attempt in self.provider.state.log_of(webhook.id)]

    def digests(self, bodies: str) -> Counter[str]:
        """Return how often each body is among those that the query *bodies* finds."""
        return Counter(_digest(bytes(body)) for (body,) in self.rows(bodies))

    def stored(self) -> Counter[str]:
        """Return how many deliveries of each body were pushed to us and are stored."""
        return self.digests(
            "SELECT body FROM receiver.bodies JOIN receiver.stored_deliveries ON id = delivery_id WHERE source = 'push'"
        )

    def own_rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of the database in which the example reader keeps its tables."""
        return self.rows(query, self._own_url)

    def typed_rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of the database in which the reader with the typed client keeps its tables."""
        return self.rows(query, self._typed_url)

    def wait_for_readers(self) -> None:
        """Return when all programs that follow the feed, none of which ended, have all that there is."""
        newest = self.value("SELECT max(position) FROM ems.events")

        def have_all() -> bool:
            read = [
                *self.own_rows("SELECT position FROM feed_positions"),
                *self.typed_rows("SELECT position FROM feed_position"),
            ]
            return len(read) == len(self.reports()) and all(position >= newest for (position,) in read)

        eventually(lambda: have_all() or bool(self.ended()), within=2 * SECONDS)
        assert have_all(), [report[-1000:] for report in self.reports()]

    def ended(self) -> list[str]:
        """Return which processes and readers ended, though none was asked to."""
        readers = [follower.log.stem for follower in (*self._examples, self._typed) if follower.has_ended]
        started = [(self.processes, FIRST), (self._second, SECOND)]
        return readers + [name for processes, names in started for name in names if not processes.is_running(name)]

    def reports(self) -> list[str]:
        """Return what each way of the example reader wrote, and then the reader with the typed client."""
        return [follower.log.read_text() for follower in (*self._examples, self._typed)]


def longest_outage(failed: Iterable[datetime], answered: Sequence[datetime]) -> float:
    """Return the seconds from an attempt that failed to the next answer of 200, at most."""
    waits = [answered[after] - at for at in failed if (after := bisect_left(answered, at)) < len(answered)]
    return max(waits, default=timedelta()).total_seconds()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
