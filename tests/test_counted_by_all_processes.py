"""Several web and worker processes, restarted in between, count what was sent; and no log has its content."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from receiver.db import engine_for
from receiver.migrate import upgrade
from receiver.ops.workers import seen_workers
from receiver.queue import QUEUE
from receiver.sandbox.embedded import free_port
from receiver.sandbox.local import adopt_webhook
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.settings import load_settings
from receiver.tls import tls_context
from receiver.webhooks.credentials import Credentials
from tests.support.factories import body, card_holder, sample, snapshot
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis import Redis
    from sqlalchemy import Engine

    from receiver.sandbox.registration import Registration
    from receiver.settings import Settings

pytestmark = pytest.mark.long

TOKEN = "a-token-for-prometheus"
PASSWORD = "the-password-of-the-webhook"
WRONG = "d3Jvbmc6Z3Vlc3M="
HIDDEN = "jane-doe-4711"
SECONDS = 90


@dataclass
class CountingProcesses:
    """A receiver whose processes run as the Procfile says, two for the web."""

    settings: Settings
    engine: Engine
    processes: ProcfileProcesses
    registration: Registration
    logs: Path
    scraped: list[Counter[str]] = field(default_factory=list)

    def post(self, event: str, content: bytes, **changes: str | None) -> int:
        headers: dict[str, str | None] = {**self.registration.headers(event, content)}
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        given = {name: value for name, value in headers.items() if value is not None}
        return httpx.post(
            self.registration.url, content=content, headers=given, verify=tls_context(), timeout=30
        ).status_code

    def ask(self, method: str, path: str, **given: Any) -> int:
        return httpx.request(
            method, self.settings.public_url + path, verify=tls_context(), timeout=30, **given
        ).status_code

    @property
    def path(self) -> str:
        return self.registration.url.removeprefix(self.settings.public_url)

    def scrape(self) -> Counter[str]:
        """Return what ``/metrics`` says, and remember it."""
        answer = httpx.get(
            f"{self.settings.public_url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        shown: Counter[str] = Counter()
        for family in text_string_to_metric_families(answer.text):
            if family.type in {"counter", "histogram"}:
                for sample_ in family.samples:
                    labels = ",".join(value for _, value in sorted(sample_.labels.items()))
                    shown[f"{sample_.name}{{{labels}}}"] = int(sample_.value)
        self.scraped.append(shown)
        return shown

    def restart(self, *names: str) -> None:
        assert set(self.processes.stop(*names).values()) == {0}
        self.start(*names)

    def start(self, *names: str) -> None:
        """Start processes and wait for them: one that is not up yet has nothing to end in order on SIGTERM."""
        self.processes.start(*names)
        if "web" in names:
            wait_until_ready(self.settings.public_url, self.processes)
        if "worker" in names:
            assert eventually(lambda: seen_workers(self.settings.redis_url).by_queue.get(QUEUE) == 1, within=SECONDS)

    def statuses(self) -> Counter[str]:
        with self.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT status, count(*) AS number FROM receiver.deliveries GROUP BY 1")
            ).all()
        return Counter({row.status: row.number for row in rows})


@pytest.fixture
def running(
    new_database: Callable[[], str], redis_url: str, redis: Redis, tmp_path: Path
) -> Iterator[CountingProcesses]:
    del redis  # asked for so that it is empty
    environment = local_environment(database_url=new_database(), redis_url=redis_url, port=free_port())
    environment |= {"WEB_CONCURRENCY": "2", "METRICS_TOKEN": TOKEN, "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json"}
    settings = load_settings(environment)
    engine = engine_for(settings.database_url, application="tests")
    with engine.connect() as connection:
        upgrade(connection)
    with engine.begin() as connection:
        credentials = Credentials(basic_username="opencard", basic_password=PASSWORD)
        registration = adopt_webhook(connection, settings, "acme", number=1, credentials=credentials)
    with ProcfileProcesses(environment, tmp_path / "logs") as processes:
        running = CountingProcesses(settings, engine, processes, registration, tmp_path / "logs")
        running.start("web", "worker", "scheduler")
        yield running
    engine.dispose()


def send(running: CountingProcesses) -> dict[tuple[str, str, str], int]:
    """Send requests of each kind, some at a time, and return how many by (route, status, reason)."""
    dead = body({"card_holder": {"reference_id": [HIDDEN]}, "organization": {"reference_id": "acme"}})
    foreign = body(card_holder(HIDDEN, organization="globex"))
    purchase = body(
        snapshot("authorized", transaction=HIDDEN, purchase_merchant=f"{HIDDEN} Merchant", original_amount="no amount")
    )
    holder = body(card_holder(HIDDEN))
    impact = body(sample("environmental.impact.aland_index", carbon_emission_in_grams=HIDDEN))
    cut_off = b'{"name": "' + HIDDEN.encode()
    client = {"grant_type": "client_credentials", "client_id": HIDDEN, "client_secret": HIDDEN}
    post = running.post
    kinds: list[tuple[tuple[str, str, str], int, Callable[[], int]]] = [
        (("delivery", "200", "stored"), 6, lambda: post("card_holder.created", holder)),
        (("delivery", "200", "stored"), 3, lambda: post("card_holder.created", dead)),
        (("delivery", "200", "stored"), 3, lambda: post("card_holder.deleted", foreign)),
        (("delivery", "200", "stored"), 2, lambda: post("card.transaction.authorized", purchase)),
        (("delivery", "200", "stored"), 2, lambda: post("environmental.impact.aland_index", impact)),
        (("delivery", "200", "stored"), 2, lambda: post("card_holder.created", cut_off)),
        (("delivery", "200", "stored"), 2, lambda: post(f"event.of.{HIDDEN}", holder)),
        (("delivery", "401", "signature-wrong"), 5, lambda: post("a", holder, X_Data_Signature="f" * 64)),
        (("delivery", "401", "basic-wrong"), 4, lambda: post("a", holder, Authorization=f"Basic {WRONG}")),
        (("delivery", "400", "no-event"), 3, lambda: post("a", holder, X_Event=None)),
        (("delivery", "415", "not-json"), 2, lambda: post("a", holder, Content_Type="text/plain")),
        (("delivery", "404", "unknown-endpoint"), 4, lambda: running.ask("POST", f"/hooks/opencard/{HIDDEN}")),
        (("challenge", "200", "answered"), 3, lambda: running.ask("GET", running.path, params={"challenge": "abc"})),
        (("token", "401", "invalid_client"), 2, lambda: running.ask("POST", "/hooks/oauth/token", data=client)),
    ]
    with ThreadPoolExecutor(4) as executor:
        asked = [(key, executor.submit(ask)) for key, times, ask in kinds for _ in range(times)]
    assert [key for key, answer in asked if str(answer.result()) != key[1]] == []
    return dict(Counter(key for key, _ in asked))


ATTEMPTS = {
    ("card_holder.created", "processed"): 1,
    ("card_holder.created", "duplicate"): 5,
    ("card_holder.created", "dead"): 5,
    ("card_holder.deleted", "quarantined"): 3,
    ("card.transaction.authorized", "dead"): 2,
    ("environmental.impact.aland_index", "dead"): 2,
    ("other", "ignored"): 2,
}


def counted(running: CountingProcesses, rounds: int) -> bool:
    """Return whether nothing waits, and what the processes counted has come together."""
    shown = running.scrape()
    statuses = running.statuses()
    stored = 20 * rounds
    return (
        statuses["pending"] == 0
        and shown["receiver_requests_total{stored,delivery,200}"] == stored
        and sum(number for name, number in shown.items() if name.startswith("receiver_processing_attempts")) == stored
    )


def test_sums_survive_a_restart_of_every_process(running: CountingProcesses) -> None:
    sent: Counter[tuple[str, str, str]] = Counter()
    rounds = (("worker",), ("web", "worker"), ("scheduler", "web"))
    for number, restarted in enumerate(rounds, 1):
        sent.update(send(running))
        running.restart(*restarted)
        assert eventually(partial(counted, running, number), within=SECONDS), running.scrape()
    shown = running.scrape()
    for (route, status, reason), times in sent.items():
        assert shown[f"receiver_requests_total{{{reason},{route},{status}}}"] == times, (route, status, reason)
    assert shown["receiver_store_seconds_count{}"] == 60
    assert shown["receiver_batch_deliveries_sum{}"] == 60
    outcomes: Counter[str] = Counter()
    for (event, outcome), times in ATTEMPTS.items():
        found = shown[f"receiver_processing_attempts_total{{{event},{outcome}}}"]
        outcomes[outcome] += found
        if outcome not in {"processed", "duplicate"}:
            assert found == times * len(rounds), (event, outcome)
    assert (outcomes["processed"], outcomes["duplicate"]) == (1, 17)
    for before, after in zip(running.scraped, running.scraped[1:], strict=False):
        assert {name: number for name, number in before.items() if after[name] < number} == {}, "a counter went back"
    with running.engine.connect() as connection:
        processes = connection.scalar(text("SELECT count(*) FROM receiver.counter_flushes"))
    assert processes >= 4, "two web processes at least twice, or more"
    assert seen_workers(running.settings.redis_url).by_queue[QUEUE] == 1
    check_logs(running)


def check_logs(running: CountingProcesses) -> None:
    """Nothing that was in a request is in any log, at the most talkative level; and every line is JSON."""
    running.processes.stop_all()
    everything = ""
    for name in ("web", "worker", "scheduler"):
        said = running.processes.log_of(name).read_text()
        everything += said
        lines = [_line(line) for line in said.splitlines()]
        assert lines
    assert HIDDEN not in everything
    for secret in (
        running.registration.secret, PASSWORD, TOKEN, WRONG, "f" * 64,
        running.registration.url.rpartition("/")[2], *running.settings.encryption_keys,
    ):  # fmt: skip
        assert secret not in everything
    web = [_line(line) for line in running.processes.log_of("web").read_text().splitlines()]
    refused = [line for line in web if line["event"] == "delivery.refused"]
    assert len({line["request_id"] for line in refused}) == len(refused) == 27
    worker = running.processes.log_of("worker").read_text()
    assert worker.count('"delivery.rejected"') == 42


def _line(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        pytest.fail(f"no JSON: {line}")
    assert isinstance(found, dict)
    return found


def test_killed_worker_loses_at_most_a_second_of_counts(running: CountingProcesses) -> None:
    for _ in range(5):
        running.post("card_holder.created", body(card_holder(uuid.uuid4().hex)))
    processed = "receiver_processing_attempts_total{card_holder.created,processed}"
    stored = "receiver_requests_total{stored,delivery,200}"
    assert eventually(lambda: (running.scrape()[processed], running.scrape()[stored]) == (5, 5), within=SECONDS)
    running.processes.kill("worker")
    running.processes.kill("web")
    running.processes.start("web")
    wait_until_ready(running.settings.public_url, running.processes)
    shown = running.scrape()
    assert (shown[processed], shown[stored]) == (5, 5)
