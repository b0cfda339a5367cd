"""``receiver reconcile``: OpenCard's delivery log compared with the stored deliveries."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from receiver.cli.filters import check_organizations
from receiver.cli.logs import configure_command_logs
from receiver.cli.output import counted, json_option, print_json, print_rows, progress_bar, words
from receiver.cli.parameters import DURATION
from receiver.cli.recorded import RecordedCommand
from receiver.connections import RECONCILE
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.queue import wake_worker_if_possible
from receiver.reconcile.run import Reconciler
from receiver.settings import REQUIRED_FOR_API, load_settings
from receiver.webhooks.listing import list_webhooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from receiver.reconcile.run import ReconcileOutcome


@click.command(cls=RecordedCommand, about=("only", "since"), unless=("dry_run",))
@click.option("--organization", "only", metavar="REF", multiple=True, help="Only this organization; repeatable.")
@click.option("--since", type=DURATION, metavar="AGE", help="How far back to read the log: 24h, 30m, 7d.")
@click.option("--dry-run", is_flag=True, help="Print what would be found; write nothing.")
@json_option
def reconcile(only: tuple[str, ...], since: timedelta | None, dry_run: bool, as_json: bool) -> None:
    """Compare with OpenCard's delivery log and recover missing events.

    Without --since each webhook's log is read from where its last run ended. Safe at any time, also while the scheduler
    reconciles. Exit code 1 when a run failed or something needs attention: a stored delivery that the log does not
    confirm, or a lost event whose payload the log does not have.

    Example: receiver reconcile --organization acme --since 24h
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_API)
    configure_command_logs(settings)
    engine = engine_for(settings.database_url, application="reconcile", timeouts=RECONCILE)
    try:
        chosen = _webhooks_of(engine, only)
        reconciler = Reconciler(
            engine,
            Encryption(settings.encryption_keys),
            Access.of(settings),
            grace=timedelta(seconds=settings.reconcile_grace),
        )
        with progress_bar() as progress:
            outcomes = reconciler.run(
                chosen,
                since=None if since is None else datetime.now(UTC) - since,
                write=not dry_run,
                progress=progress,
            )
    finally:
        engine.dispose()
    recovered = not dry_run and any(outcome.recovered for outcome in outcomes)
    if recovered and not wake_worker_if_possible(settings.redis_url):
        click.echo("Redis cannot be reached: recovered events are processed once it is back", err=True)
    if as_json:
        print_json(outcomes)
    else:
        _print(outcomes, planned=dry_run)
    sys.exit(1 if any(map(_needs_attention, outcomes)) else 0)


def _webhooks_of(engine: Engine, organizations: Sequence[str]) -> list[int] | None:
    """Return the ids of the organizations' webhooks; ``None``, for all, when none is named."""
    if not organizations:
        return None
    with engine.connect() as connection:
        check_organizations(connection, organizations)
        webhooks = list_webhooks(connection)
    return [
        webhook["id"]
        for webhook in webhooks
        if webhook["organization_reference_id"] in organizations
        and webhook["deleted_at"] is None
        and not webhook["test"]
    ]


def _needs_attention(outcome: ReconcileOutcome) -> bool:
    return bool(outcome.error or outcome.unconfirmed or outcome.unrecoverable)


def _print(outcomes: Sequence[ReconcileOutcome], *, planned: bool) -> None:
    compared = [outcome for outcome in outcomes if outcome.error is None]
    print_rows(
        [asdict(outcome) for outcome in compared],
        {
            "webhook_id": "webhook",
            "organization_reference_id": "organization",
            "log_entries": "log entries",
            "matched": "matched",
            "recovered": "to recover" if planned else "recovered",
            "unconfirmed": "unconfirmed",
            "unrecoverable": "unrecoverable",
            "checked_until": "checked up to",
        },
        empty="no webhook was compared" if outcomes else "no webhooks registered: receiver bootstrap registers them",
        optional=("log_entries", "matched", "webhook_id"),
    )
    for outcome in outcomes:
        if outcome.error:
            click.echo(f"organization {outcome.organization_reference_id}: {outcome.error}", err=True)
    if outcomes:
        click.echo(_summary(outcomes, planned=planned))


def _summary(outcomes: Sequence[ReconcileOutcome], *, planned: bool) -> str:
    """Return one line: what was read and what was found."""
    recovered = sum(outcome.recovered for outcome in outcomes)
    failed = sum(outcome.error is not None for outcome in outcomes)
    parts = [f"{counted(len(outcomes) - failed, 'webhook')} compared with the log"]
    if recovered:
        parts.append(f"{counted(recovered, 'event')} {'to recover' if planned else 'recovered'}")
    for what in ("unconfirmed", "unrecoverable"):
        number = sum(getattr(outcome, what) for outcome in outcomes)
        if number:
            parts.append(f"{number} {what}")
    if failed:
        parts.append(f"{failed} failed")
    checked = [outcome.checked_until for outcome in outcomes if outcome.checked_until is not None]
    if not planned and not any(map(_needs_attention, outcomes)) and len(checked) == len(outcomes):
        parts.append(f"checked up to {words(min(checked))}")
    return ", ".join(parts)
