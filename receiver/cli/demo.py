"""``receiver demo`` and ``receiver dev``: the whole journey on this machine."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click
import stamina

from receiver.cli.output import json_option, print_json, print_rows, progress_bar
from receiver.cli.parameters import WholeNumber
from receiver.logs import configure_logs
from receiver.sandbox.demo import DemoResult, run_demo
from receiver.sandbox.dev import run_dev
from receiver.settings import LogFormat


@click.command()
@click.option("--purchases", type=WholeNumber(min=1), default=300, show_default=True, help="How many to send.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed repeats the run.")
@json_option
def demo(purchases: int, seed: int, as_json: bool) -> None:
    """Run the whole journey on this machine and check the result.

    On embedded servers, with faults: bootstrap registers webhooks at a local OpenCard, which then sends purchases
    through all their states, some twice, some out of order, some with the answer lost, and a tenth of them never
    arrive. Reconciliation recovers those from the delivery log, and receipts' files are downloaded. Exit code 0 when
    the tables and files hold exactly what OpenCard sent, else 1 with the differences.

    Example: receiver demo --purchases 1000 --seed 7
    """
    _keep_quiet()
    with progress_bar() as progress:
        result = run_demo(seed=seed, purchases=purchases, progress=progress)
    if as_json:
        print_json({**_as_fields(result), "complete": not result.differences})
    else:
        _print(result)
    sys.exit(1 if result.differences else 0)


@click.command()
@click.option("--port", type=WholeNumber(1, 65535), default=8000, show_default=True, help="The web process's port.")
@click.option("--broken", is_flag=True, help="Start with fifty failed deliveries, to find, fix and replay.")
@click.option("--idle", is_flag=True, help="Send nothing but what receiver trigger or a test asks for.")
def dev(port: int, broken: bool, idle: bool) -> None:
    """Run everything on this machine, until Ctrl+C.

    On embedded servers, with a slow stream of purchases. Prints all addresses, and a user and password for the
    console; with --broken also the command that fixes the failures, so that there is something to find and to replay.

    Example: receiver dev --port 8000
    """
    if broken and idle:
        raise click.UsageError("--broken and --idle cannot be combined")
    _keep_quiet()
    sys.exit(run_dev(port=port, say=click.echo, broken=broken, idle=idle))


def _keep_quiet() -> None:
    """Log warnings only: the processes that it starts have logs of their own."""
    configure_logs(level="WARNING", log_format=LogFormat.CONSOLE)
    stamina.instrumentation.set_on_retry_hooks(())  # the sandbox's retries are expected, and counted


def _as_fields(result: DemoResult) -> dict[str, object]:
    tally = result.tally
    return {
        "seed": result.seed,
        "webhooks": result.webhooks,
        "events_sent": result.sent,
        "events_lost": result.lost,
        "events_recorded": result.recorded,
        "sent": tally.sent,
        "accepted": tally.accepted,
        "answers_lost": tally.lost_answers,
        "refused": tally.refused,
        "unanswered": tally.unanswered,
        "statuses": result.statuses,
        "reconciled": result.reconciled,
        "rows": result.rows,
        "receipts_downloaded": result.downloaded,
        "ledger": result.ledger,
        "differences": result.differences,
    }


def _print(result: DemoResult) -> None:
    print_rows(
        result.webhooks,
        {"organization_reference_id": "webhooks", "authentication_type": "authentication", "active": "active"},
        empty="no webhook",
    )
    for print_part in (_print_deliveries, _print_reconciled, _print_tables, _print_ledger, _print_verdict):
        click.echo()
        print_part(result)


def _print_deliveries(result: DemoResult) -> None:
    tally = result.tally
    deliveries = {
        "attempts": tally.sent,
        "accepted": tally.accepted,
        "accepted, answer lost on purpose": tally.lost_answers,
        "refused": tally.refused,
        "lost on purpose, each time": tally.unanswered,
        "processed": result.statuses.get("processed", 0),
        "duplicates": result.statuses.get("duplicate", 0),
        "other": sum(number for name, number in result.statuses.items() if name not in {"processed", "duplicate"}),
    }
    print_rows(
        [{"what": what, "number": number} for what, number in deliveries.items()],
        {"what": "deliveries", "number": "number"},
        empty="",
    )


def _print_reconciled(result: DemoResult) -> None:
    numbers = ("log_entries", "matched", "recovered", "unconfirmed", "unrecoverable")
    print_rows(
        [asdict(outcome) for outcome in result.reconciled],
        {"organization_reference_id": "reconciled", **{name: name.replace("_", " ") for name in numbers}},
        empty="no webhooks reconciled",
    )


def _print_tables(result: DemoResult) -> None:
    expected = result.expected_rows
    rows = [(f"ems.{table}", number, expected[table]) for table, number in result.rows.items()]
    rows.append(("receipts' files, downloaded", result.downloaded, expected["receipts"]))
    columns = ("table", "rows", "expected")
    print_rows([dict(zip(columns, row, strict=True)) for row in rows], {name: name for name in columns}, empty="")


def _print_ledger(result: DemoResult) -> None:
    click.echo("three rows of ems.ledger")
    print_rows(
        [
            {
                "date": row["purchase_date"],
                "merchant": row["merchant"],
                "city": row["purchase_city"],
                "amount": _money(row, "original"),
                "accounted as": _money(row, "accounting"),
                "vat": f"{_money(row, 'vat')} ({row['vat_source']})" if row["vat_source"] else None,
                "items": row["number_of_items"],
                "state": row["state"],
            }
            for row in result.ledger
        ],
        {name: name for name in ("date", "merchant", "city", "amount", "accounted as", "vat", "items", "state")},
        empty="(empty)",
        optional=("items", "city", "date"),
    )


def _print_verdict(result: DemoResult) -> None:
    for difference in result.differences:
        click.echo(f"different: {difference}")
    verdict = "complete: nothing is missing, nothing is duplicated" if not result.differences else "NOT complete"
    recovered = sum(outcome.recovered for outcome in result.reconciled)
    click.echo(
        f"{result.sent} events sent, {result.lost} lost on the way, {recovered} recovered from the delivery log, "
        f"{result.recorded} recorded:"
    )
    click.echo(f"{verdict}  (seed {result.seed})")


def _money(row: dict[str, object], kind: str) -> str:
    return f"{row[f'{kind}_amount']} {row[f'{kind}_currency']}"
