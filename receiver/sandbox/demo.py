"""The demo: the whole journey on this machine, with faults, checked against what OpenCard sent."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.files.store import FileStore
from receiver.opencard.auth import Access
from receiver.queue import connect, wake_worker
from receiver.reconcile.run import Reconciler
from receiver.sandbox.faults import Faults
from receiver.sandbox.local import ORGANIZATIONS, local_servers, running_receiver
from receiver.sandbox.onboarding import register
from receiver.sandbox.provider import SCOPES, Provider, deliver_story, environment, serving
from receiver.sandbox.receipt_files import RECEIPTS_LIVE, FilesAt
from receiver.sandbox.stored_files import file_differences, wait_until_downloaded
from receiver.sandbox.story import make_story
from receiver.sandbox.verdict import count_rows, differences
from receiver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from receiver.progress import Progress
    from receiver.reconcile.run import ReconcileOutcome
    from receiver.sandbox.local import LocalServers
    from receiver.sandbox.tally import DeliveryTally
    from receiver.settings import Settings

FAULTS: Final = Faults(duplicates=0.10, disorder=0.15, lost_answers=0.05, bursts=0.20, lost=0.10)
"""A tenth of the events never get through: OpenCard gives them up, and only its delivery log knows of them."""
COMPRESSION: Final = 1_500_000
"""Virtual seconds in a real one: the weeks of the story pass in a few seconds."""
PROCESSING_SECONDS: Final = 60
POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of the demo, ready to be printed."""

    seed: int
    webhooks: list[dict[str, Any]]
    sent: int
    lost: int
    """Events that no attempt brought to the receiver: what only the delivery log knows of."""
    recorded: int
    reconciled: list[ReconcileOutcome]
    tally: DeliveryTally
    statuses: dict[str, int]
    rows: dict[str, int]
    expected_rows: dict[str, int]
    downloaded: int
    """Receipts whose files are here, byte for byte as OpenCard has them."""
    ledger: list[dict[str, Any]]
    differences: list[str]


def run_demo(*, seed: int, purchases: int, progress: Progress) -> DemoResult:
    """Start everything, register, send *purchases* with their life cycle and faults, reconcile, and check the tables.

    Raises ``OperationRefused`` when something does not start, is not registered, or does not come to an end.
    """
    progress.stage("starting PostgreSQL and Valkey")
    with local_servers("demo") as servers, serving(provider := Provider()) as api_url:
        for reference in ORGANIZATIONS:
            provider.state.add_organization(reference)
        client = provider.clients.add("demo", scopes=SCOPES)
        progress.stage("starting web, worker and scheduler")
        variables = {**environment(api_url, client), "RECONCILE_INTERVAL": "0"}  # it is reconciled once, below
        with running_receiver(servers, variables):
            progress.stage("registering webhooks")
            settings = load_settings({**servers.environment, **variables})
            register(servers, settings)
            files = FilesAt(api_url, provider.now() + RECEIPTS_LIVE)
            story = make_story(seed=seed, organizations=ORGANIZATIONS, purchases=purchases, files=files)
            progress.stage("sending")
            progress.total(len(story.events))
            delivered = asyncio.run(
                deliver_story(
                    provider,
                    story,
                    faults=FAULTS,
                    seed=seed,
                    compression=COMPRESSION,
                    on_completed=lambda sending: None if sending.duplicate else progress.advance(),
                )
            )
            progress.stage("processing")
            wait_until_processed(servers.engine)
            progress.stage("reconciling with the delivery log")
            outcomes = _reconcile(servers, settings)
            wait_until_processed(servers.engine)
            progress.stage("downloading receipts")
            wait_until_downloaded(servers.engine)
        with servers.engine.connect() as connection:
            rows = count_rows(connection, list(story.expected_rows()))
            downloaded, missing_files = file_differences(connection, story, FileStore(settings.files_url))
            return DemoResult(
                seed=seed,
                webhooks=[dict(row) for row in connection.execute(_WEBHOOKS).mappings()],
                sent=len(story.events),
                lost=sum(len(events) for events in delivered.missed.values()),
                recorded=rows["events"],
                reconciled=outcomes,
                tally=delivered.tally,
                statuses=_statuses(servers.engine),
                rows=rows,
                expected_rows=story.expected_rows(),
                downloaded=downloaded,
                ledger=[dict(row) for row in connection.execute(_LEDGER).mappings()],
                differences=_tally_differences(delivered.tally, outcomes, _statuses(servers.engine))
                + differences(connection, story)
                + missing_files,
            )


def wait_until_processed(engine: Engine, *, seconds: float = PROCESSING_SECONDS) -> None:
    """Return when no delivery waits. Raises ``OperationRefused`` when it takes longer than *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        waiting = {name: number for name, number in _statuses(engine).items() if name in {"pending", "failed"}}
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise OperationRefused(f"after {seconds:.0f} s there are still deliveries waiting: {waiting}")
        time.sleep(POLL_SECONDS)


def _reconcile(servers: LocalServers, settings: Settings) -> list[ReconcileOutcome]:
    """Compare with the delivery log, and have what was missing processed."""
    reconciler = Reconciler(
        servers.engine,
        Encryption(settings.encryption_keys),
        Access.of(settings),
        grace=timedelta(seconds=settings.reconcile_grace),
    )
    outcomes = sorted(reconciler.run(), key=lambda outcome: outcome.organization_reference_id)
    with closing(connect(settings.redis_url)) as redis:
        wake_worker(redis)
    return outcomes


def _tally_differences(
    tally: DeliveryTally, outcomes: Sequence[ReconcileOutcome], statuses: dict[str, int]
) -> list[str]:
    """Return what does not add up between what was answered 200, what was recovered, and what is stored."""
    taken = tally.accepted + tally.lost_answers
    recovered = sum(outcome.recovered for outcome in outcomes)
    stored = sum(statuses.values())
    wrong = []
    if taken + recovered != stored:
        wrong.append(f"{taken} deliveries were answered 200 and {recovered} recovered, but {stored} are stored")
    if tally.given_up_unexpectedly:
        wrong.append(f"{tally.given_up_unexpectedly} events were never taken, though nothing was in their way")
    for outcome in outcomes:
        whose = outcome.organization_reference_id
        if outcome.error is not None:
            wrong.append(f"reconciling {whose} failed: {outcome.error}")
        if outcome.unconfirmed or outcome.unrecoverable:
            wrong.append(f"{whose}: {outcome.unconfirmed} unconfirmed, {outcome.unrecoverable} unrecoverable")
    return wrong


def _statuses(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT status, count(*) FROM receiver.deliveries GROUP BY status"))
        return {str(status): int(number) for status, number in rows}


_WEBHOOKS: Final = text(
    "SELECT organization_reference_id, authentication_type, active FROM receiver.webhooks ORDER BY 1"
)
_LEDGER: Final = text(
    """
SELECT purchase_date, merchant, purchase_city, original_amount, original_currency, accounting_amount,
    accounting_currency, vat_amount, vat_currency, vat_source, number_of_items, state
FROM ems.ledger
ORDER BY coalesce(vat_source = 'merchant', false) DESC, original_currency <> accounting_currency DESC,
    number_of_items DESC,
    purchase_date, transaction_id
LIMIT 3
"""
)
