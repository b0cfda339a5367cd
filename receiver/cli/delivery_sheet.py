"""Everything about one delivery, section by section; on a terminal the payload is coloured."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import msgspec
from rich.highlighter import JSONHighlighter
from rich.text import Text

from receiver.cli.output import console, print_fields, print_rows, printable, words
from receiver.ops.deliveries import verified_by

if TYPE_CHECKING:
    from receiver.ops.deliveries import DeliveryDetails


def print_delivery(details: DeliveryDetails) -> None:
    """Print everything about a delivery for people."""
    if details.resolution is not None:
        click.echo(f"resolved by {details.resolution.resolved_by}: {printable(details.resolution.reason)}")
    summary = asdict(details.summary)
    summary["verification"] = verified_by(details.summary.verification)
    summary["error"] = details.error
    summary["card_holder_reference_id"] = details.card_holder_reference_id
    summary["body_size"] = details.body_size
    if details.test:
        summary["test"] = True
    if details.resolution is not None:
        summary |= asdict(details.resolution)
    if details.decision is not None:
        decision = asdict(details.decision)
        summary |= {**decision, "decision_reason": decision.pop("reason")}
    print_fields(summary)
    _heading("headers")
    print_fields(details.headers or {"-": "deleted"})
    _heading("payload")
    _print_payload(details.payload)
    _print_attempts(details)
    _print_same_event(details)
    _print_changed(details)
    if step := next_step(details):
        _heading("next step")
        click.echo(step)


def _heading(name: str) -> None:
    click.echo()
    click.secho(name, bold=True)


def _print_payload(payload: str | None) -> None:
    if payload is None:
        click.echo("deleted, by retention or an erasure")
        return
    text = printable(_indented(payload))
    if sys.stdout.isatty():
        console().print(JSONHighlighter()(Text(text)))
    else:
        click.echo(text)


def _indented(payload: str) -> str:
    """Return JSON with a line for each field, with its numbers unchanged; anything else unchanged."""
    try:
        return msgspec.json.format(payload, indent=2)
    except msgspec.DecodeError:
        return payload


def _print_attempts(details: DeliveryDetails) -> None:
    _heading("failed processing attempts")
    if not details.attempts:
        click.echo("none")
    for attempt in details.attempts:
        click.echo(f"{attempt.number}. {words(attempt.attempted_at)}  {attempt.outcome}  {printable(attempt.error)}")
        if attempt.trace:
            click.echo("   " + printable(attempt.trace).rstrip().replace("\n", "\n   "))


def _print_same_event(details: DeliveryDetails) -> None:
    if details.duplicates:
        _heading("deliveries of the same event")
        columns = {"id": "delivery", "received_at": "received", "status": "status", "source": "source"}
        print_rows([asdict(each) for each in details.duplicates], columns, empty="")
    if details.replays:
        _heading("replays")
        columns = {
            "replay_id": "replay",
            "created_at": "requested",
            "requested_by": "by",
            "status_before": "before",
            "outcome": "after",
            "reason": "reason",
        }
        print_rows([asdict(each) for each in details.replays], columns, empty="")


def _print_changed(details: DeliveryDetails) -> None:
    _heading("rows of ems")
    if not details.changed:
        click.echo("none")
    for row in details.changed:
        click.echo(row.table)
        width = max(map(len, row.values), default=0)
        for name, value in row.values.items():
            if value is not None:
                click.echo(f"  {name:<{width}}  {words(value)}")


def next_step(details: DeliveryDetails) -> str | None:
    """Return what an operator can do about a delivery that was not applied; ``None`` where nothing is needed."""
    number = details.summary.id
    if details.test or details.resolution is not None or details.payload is None:
        return None
    resolve = f"receiver deliveries resolve {number} --reason TEXT"
    match details.summary.status:
        case "dead":
            return f"fix the cause, then receiver replay {number} --reason TEXT; if no action is needed, {resolve}"
        case "ignored":
            return f"upgrade, then receiver replay {number} --reason TEXT; if no action is needed, {resolve}"
        case "quarantined":
            return f"a replay changes nothing; once it is understood, {resolve}"
    return None
