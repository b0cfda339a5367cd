"""``receiver status``: the backlog, rates, failures, and how far OpenCard's logs are checked, on one screen."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click
from sqlalchemy import text

from receiver.cli.output import json_option, print_json
from receiver.cli.status_screen import print_screen
from receiver.connections import WEB
from receiver.db import one_connection
from receiver.ops.activity import SHORT, failures_by_error, rate, read_totals
from receiver.ops.ageing import read_ageing
from receiver.ops.attention import reconcile_interval, what_needs_attention
from receiver.ops.issues.store import accepted
from receiver.ops.status import read_status
from receiver.ops.storing import storage_error
from receiver.ops.workers import seen_workers
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.ops.activity import FailureGroup, Rate, Totals
    from receiver.ops.ageing import Ageing
    from receiver.ops.findings import Finding
    from receiver.ops.status import ServiceStatus
    from receiver.ops.workers import Workers
    from receiver.settings import Settings

LENGTHS: Final = (SHORT, timedelta(hours=1))
"""Lengths of time that rates are shown for."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that the command shows."""

    service: ServiceStatus
    totals: Totals
    rates: tuple[Rate, ...]
    """Over the last minutes and the last hour, as far as something was noted then."""
    failures: tuple[FailureGroup, ...]
    ageing: Ageing
    workers: Workers | None
    """``None`` when ``REDIS_URL`` is not set."""
    interval: timedelta | None
    """That of the runs of reconcile; ``None`` if there are none."""
    attention: tuple[Finding, ...]
    """Open findings."""
    acknowledged: tuple[Finding, ...]
    """Findings that an operator acknowledged."""


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show backlog, rates, failures and completeness.

    Exit code 1 when an issue is open; each is listed. Acknowledged issues (receiver issues) are counted separately.

    Example: receiver status
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    with one_connection(settings.database_url, application="status", timeouts=WEB) as connection:
        seen = read_seen(connection, settings)
    if as_json:
        print_json(_as_document(seen))
    else:
        print_screen(seen)
    sys.exit(1 if seen.attention else 0)


def read_seen(connection: Connection, settings: Settings) -> Seen:
    """Return the status of the service."""

    def query(statement: str) -> list[dict[str, Any]]:
        return [*map(dict, connection.execute(text(statement)).mappings())]

    service = read_status(query)
    workers = seen_workers(settings.redis_url) if settings.redis_url else None
    failures = failures_by_error(connection)
    refusal = storage_error(connection)
    needed = what_needs_attention(service, settings, failures=failures, refusal=refusal, workers=workers)
    known = accepted(connection, needed, at=service.at)
    return Seen(
        service,
        read_totals(connection),
        tuple(found for length in LENGTHS if (found := rate(connection, length)) is not None),
        tuple(failures),
        read_ageing(query),
        workers,
        reconcile_interval(settings),
        tuple(each for each in needed if each not in known),
        tuple(known),
    )


def _as_document(seen: Seen) -> dict[str, object]:
    service = seen.service
    return {
        **{name: each.number for name, each in service.deliveries.items()},
        "oldest_waiting_received_at": service.oldest_waiting,
        "totals": seen.totals,
        "rates_per_minute": seen.rates,
        "failures": seen.failures,
        "unknown_formats": service.unknown,
        "inactive_webhooks": [
            {
                "webhook_id": webhook.webhook_id,
                "opencard_webhook_id": webhook.opencard_webhook_id,
                "organization_reference_id": webhook.organization_reference_id,
            }
            for webhook in service.inactive
        ],
        "organizations": service.organizations,
        "organizations_without_webhook": [
            {
                "organization_reference_id": each.organization_reference_id,
                "organization_id": each.organization_id,
                "error": each.error,
            }
            for each in service.without_webhook
        ],
        "replays": service.replays,
        "receipts": service.receipts,
        "retention": service.retention,
        "feed_epoch": service.feed_epoch,
        "consumers": service.consumers,
        "invoices_that_differ": service.invoices,
        "ageing": seen.ageing,
        "refused_deliveries": service.refused,
        "workers": None if seen.workers is None else asdict(seen.workers),
        "needs_attention": [str(each) for each in seen.attention],
        "acknowledged": [str(each) for each in seen.acknowledged],
    }
