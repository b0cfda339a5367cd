"""Growth: intake, drain and the questions that are asked all the time, on an empty database and on one grown large.

Both stand side by side and take turns. The large one is filled by SQL: of every delivery its real body, its event and
its outcome; every second one makes a transaction, which is booked. The payloads in ``ems`` are empty, so that ten
millions fit on a laptop: what grows with the number of rows is the indexes, and they are all there. What readers ask
is asked after the drain, so that both databases have an answer.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from statistics import median
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from bench import common
from bench.load import load, pace
from bench.report import BenchmarkReport, ReportTarget, Row, ratio
from receiver.ops.deliveries.filter import Filter
from receiver.ops.deliveries.pages import list_deliveries
from receiver.ops.traffic import read_completeness
from receiver.processing.claim import Backlog
from receiver.processing.drain import drain
from receiver.sandbox.local import ORGANIZATIONS, LocalServers, local_servers
from receiver.sandbox.processes import ProcfileProcesses, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    from rich.progress import Progress
    from sqlalchemy import Connection

    from receiver.sandbox.registration import Registration

DELIVERIES: Final = 300_000
"""What the large database holds unless it is said otherwise."""
DRAINED: Final = 20_000
CONNECTIONS: Final = 8
WARM_UP: Final = 0.5
SECONDS: Final = 3.0
REQUESTS: Final = 300
TRIES: Final = 5

DRAIN_MISSED: Final = (
    "In large indexes nearly every row touches a separate page. After a checkpoint, which each measurement follows, "
    "PostgreSQL writes such a page whole: half as much again goes to its log. wal_compression was tried and cost more "
    "than it gave. Memory was not: the 128 MiB of shared buffers that PostgreSQL has by default hold none of them."
)

CLAIM: Final = "claim"
EMPTY: Final = "empty"
GROWN: Final = "grown"

_FILL: Final = (
    """
CREATE TEMP TABLE generated AS
SELECT number, md5((number / 2)::text)::uuid::text AS transaction_id, number %% 1000 = 0 AS dead,
    now() - make_interval(secs => %(deliveries)s - number + 86400) AS at
FROM generate_series(1, %(deliveries)s) AS number
""",
    """
INSERT INTO receiver.stored_deliveries (id, webhook_id, event, version, verification, received_at, occurred_at)
SELECT number, webhook.id, %(event)s, '1', 'signature', at, at
FROM generated CROSS JOIN receiver.webhooks AS webhook ORDER BY number
""",
    """
INSERT INTO receiver.bodies (delivery_id, body, headers) SELECT number, %(body)s, '{}' FROM generated ORDER BY number
""",
    """
INSERT INTO ems.transactions (organization_reference_id, id, state, card_holder_reference_id, snapshot_at, delivery_id,
    updated_at, cleared_at, booked_on, cleared_card_issuer_reference)
SELECT organization_reference_id, transaction_id, 'cleared', 'employee-' || number %% 5000, at, number, at, at,
    at::date, 'CLR-' || number
FROM generated CROSS JOIN receiver.webhooks WHERE number %% 2 = 0
""",
    """
INSERT INTO receiver.outcomes (delivery_id, status, attempts, processed_at, position, transaction_id)
SELECT number, CASE WHEN dead THEN 'dead' ELSE 'processed' END, 1, at, CASE WHEN NOT dead THEN number END,
    CASE WHEN dead THEN transaction_id END
FROM generated ORDER BY number
""",
    """
INSERT INTO ems.events (position, type, organization_reference_id, transaction_id, subject_id, occurred_at,
    recorded_at, source, delivery_id, fingerprint, payload)
SELECT number, %(event)s, organization_reference_id, transaction_id, transaction_id, at, at, 'push', number,
    sha256(number::text::bytea), '{}'
FROM generated CROSS JOIN receiver.webhooks WHERE NOT dead ORDER BY number
""",
    """
INSERT INTO ems.ledger_journal (position, line, organization_reference_id, transaction_id, kind, sign, booked_on,
    card_holder_reference_id, vat_source, receipt_state, recorded_at)
SELECT number, 1, organization_reference_id, transaction_id, 'booking', 1, at::date, 'employee-' || number %% 5000,
    'network', 'none', at
FROM generated CROSS JOIN receiver.webhooks WHERE number %% 2 = 0 AND NOT dead ORDER BY number
""",
    "DROP TABLE generated",
)
_DELETE_BACKLOG: Final = """
WITH waiting AS MATERIALIZED (
    DELETE FROM receiver.queue RETURNING delivery_id
), bodies AS (
    DELETE FROM receiver.bodies WHERE delivery_id IN (SELECT delivery_id FROM waiting)
)
DELETE FROM receiver.stored_deliveries WHERE id IN (SELECT delivery_id FROM waiting)
"""
_FEED: Final = text(
    "SELECT * FROM ems.events WHERE position > (SELECT max(position) - 500 FROM ems.events) ORDER BY position LIMIT 500"
)
QUESTIONS: Final[dict[str, Callable[[Connection], object]]] = {
    "newest deliveries": lambda connection: list_deliveries(connection, Filter()),
    "newest dead": lambda connection: list_deliveries(connection, Filter(statuses=("dead",))),
    "deliveries of a transaction": lambda connection: list_deliveries(connection, Filter(transaction_id="none")),
    "last of the feed": lambda connection: connection.execute(_FEED).all(),
    "completeness of a day": lambda connection: read_completeness(
        connection, {ORGANIZATIONS[0]: None}, datetime.now(UTC), hours=24
    ),
}


@dataclass
class Side:
    """One of the two databases, with a web process of its own, and what was measured on it."""

    servers: LocalServers
    connection: psycopg.Connection
    registration: Registration
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, figure: float) -> None:
        """Keep what one round measured."""
        self.figures.setdefault(name, []).append(figure)


def run(rounds: int, progress: Progress, *, deliveries: int = DELIVERIES) -> BenchmarkReport:
    """Measure in turns and return the report."""
    supply = common.snapshots(rounds * DRAINED)
    with ExitStack() as stack:
        sides = {name: _side(stack, f"bench-{name}") for name in (EMPTY, GROWN)}
        _fill(sides[GROWN], deliveries)
        task = progress.add_task("growth", total=rounds * len(sides))
        for _ in range(rounds):
            snapshots = list(islice(supply, DRAINED))
            for name, side in sides.items():
                _measure(side, snapshots, empty=name == EMPTY)
                progress.advance(task)
    return _report(sides, deliveries)


def _side(stack: ExitStack, name: str) -> Side:
    servers = stack.enter_context(local_servers(name))
    connection = stack.enter_context(closing(common.connect(servers)))
    side = Side(servers, connection, common.register(servers))
    processes = stack.enter_context(ProcfileProcesses(servers.environment, servers.folder / "logs"))
    processes.start("web")
    wait_until_ready(servers.settings.public_url, processes)
    return side


def _fill(side: Side, deliveries: int) -> None:
    common.make_room(side.servers, side.connection, deliveries)
    (snapshot,) = common.snapshots(1)
    for statement in _FILL:
        asked = {"deliveries": deliveries, "event": common.EVENT, "body": snapshot.body}
        side.connection.execute(statement.encode(), asked if "%" in statement else None)


def _measure(side: Side, snapshots: list[common.Snapshot], *, empty: bool) -> None:
    _clear(side, empty=empty)
    side.note("intake", _intake(side))
    _clear(side, empty=empty)
    common.store_all(side.connection, side.registration, snapshots)
    common.settle_down(side.connection)
    side.note(CLAIM, _milliseconds(side, lambda connection: Backlog().claim(_psycopg(connection), 500)))
    begun = time.perf_counter()
    assert drain(side.servers.engine)
    side.note("drain", len(snapshots) / (time.perf_counter() - begun))
    for name, question in QUESTIONS.items():
        side.note(name, _milliseconds(side, question))


def _clear(side: Side, *, empty: bool) -> None:
    """Take away what waits, or everything."""
    if empty:
        common.empty_tables(side.connection)
    else:
        side.connection.execute(_DELETE_BACKLOG)
    common.settle_down(side.connection)


def _intake(side: Side) -> float:
    port = side.servers.settings.port
    sent = [common.request_bytes(side.registration, each.body, port=port) for each in common.snapshots(REQUESTS)]
    timings = load(port, cycle(sent), connections=CONNECTIONS, seconds=WARM_UP + SECONDS)
    return pace(timings, warm_up=WARM_UP, seconds=SECONDS).per_second


def _psycopg(connection: Connection) -> psycopg.Connection:
    """Return the connection of psycopg behind *connection*, in its transaction."""
    driver: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return driver


def _milliseconds(side: Side, question: Callable[[Connection], object]) -> float:
    took = []
    with side.servers.engine.connect() as connection:
        for _ in range(TRIES):
            begun = time.perf_counter()
            question(connection)
            took.append(1000 * (time.perf_counter() - begun))
            connection.rollback()
    return median(took)


def _report(sides: dict[str, Side], deliveries: int) -> BenchmarkReport:
    rows = []
    for measured in ("intake", "drain", CLAIM, *QUESTIONS):
        column = "per second" if measured in {"intake", "drain"} else "ms"
        for name, side in sides.items():
            compared_with = f"{measured}, {EMPTY}" if name == GROWN else ""
            rows.append(Row(f"{measured}, {name}", {column: side.figures[measured]}, compared_with=compared_with))
    compared = {name: ratio(sides[GROWN].figures[name], sides[EMPTY].figures[name]) for name in sides[GROWN].figures}
    targets = [
        ReportTarget("intake: grown / empty", compared["intake"], 0.9),
        ReportTarget("drain: grown / empty", compared["drain"], 0.85, if_missed=DRAIN_MISSED),
        *(
            ReportTarget(f"{name}: grown / empty", compared[name], at_most=3)
            for name in ("last of the feed", "completeness of a day")
        ),
    ]
    return BenchmarkReport(
        f"Growth: with {deliveries:,} deliveries stored",
        rows,
        targets,
        settings=f"`python -m bench growth --deliveries {deliveries}`; half as many transactions.",
    )
