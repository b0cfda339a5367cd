"""The demo: the whole journey on this machine, with faults, checked against what OpenCard meant to say."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.sandbox.faults import Faults
from receiver.sandbox.local import ORGANIZATIONS, local_servers, running_receiver
from receiver.sandbox.onboarding import register
from receiver.sandbox.provider import SCOPES, Provider, deliver_story, environment, serving
from receiver.sandbox.story import tell
from receiver.sandbox.verdict import count_rows, differences
from receiver.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.progress import Progress
    from receiver.sandbox.accounts import Tally

FAULTS: Final = Faults(duplicates=0.10, disorder=0.15, lost_answers=0.05, bursts=0.20)
COMPRESSION: Final = 1_500_000
"""Virtual seconds in a real one: the weeks of the story pass in a few seconds."""
PROCESSING_SECONDS: Final = 60
POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What happened, ready to be printed."""

    seed: int
    webhooks: list[dict[str, Any]]
    told: int
    recorded: int
    tally: Tally
    statuses: dict[str, int]
    rows: dict[str, int]
    expected_rows: dict[str, int]
    ledger: list[dict[str, Any]]
    differences: list[str]


def run_demo(*, seed: int, purchases: int, progress: Progress) -> DemoResult:
    """Start everything, register, send *purchases* with their life cycle and faults, wait, and check the tables.

    Raises ``OperationRefused`` when something does not start, is not registered, or does not come to an end.
    """
    progress.stage("starting PostgreSQL and Valkey")
    with local_servers("demo") as servers, serving(provider := Provider()) as api_url:
        for reference in ORGANIZATIONS:
            provider.state.add_organization(reference)
        client = provider.clients.add("demo", scopes=SCOPES)
        progress.stage("starting web, worker and scheduler")
        with running_receiver(servers):
            progress.stage("registering webhooks")
            register(servers, load_settings({**servers.environment, **environment(api_url, client)}))
            story = tell(seed=seed, organizations=ORGANIZATIONS, purchases=purchases)
            progress.stage("sending")
            progress.total(len(story.told))
            delivered = asyncio.run(
                deliver_story(
                    provider,
                    story,
                    faults=FAULTS,
                    seed=seed,
                    compression=COMPRESSION,
                    on_settled=lambda sending: None if sending.duplicate else progress.advance(),
                )
            )
            progress.stage("processing")
            wait_until_processed(servers.engine)
        with servers.engine.connect() as connection:
            rows = count_rows(connection, list(story.expected_rows()))
            return DemoResult(
                seed=seed,
                webhooks=[dict(row) for row in connection.execute(_WEBHOOKS).mappings()],
                told=len(story.told),
                recorded=rows["events"],
                tally=delivered.tally,
                statuses=_statuses(servers.engine),
                rows=rows,
                expected_rows=story.expected_rows(),
                ledger=[dict(row) for row in connection.execute(_LEDGER).mappings()],
                differences=_accounts(delivered.tally, _statuses(servers.engine)) + differences(connection, story),
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


def _accounts(tally: Tally, statuses: dict[str, int]) -> list[str]:
    """Return what does not add up between what was answered 200 and what is stored."""
    taken = tally.accepted + tally.lost_answers
    stored = sum(statuses.values())
    wrong = [] if taken == stored else [f"{taken} deliveries were answered 200, but {stored} are stored"]
    if tally.given_up:
        wrong.append(f"{tally.given_up} events were never taken")
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
