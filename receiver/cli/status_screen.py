"""How ``receiver status`` prints one screen for people."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Final

import click

from receiver.cli.output import counted, length_of_time, print_fields, print_rows, words
from receiver.ops.activity import MAX_FAILURES as MAX_COUNTED
from receiver.ops.ageing import MAX_COUNTED as MAX_AGEING
from receiver.ops.status import WAITING, find_in_webhook
from receiver.ops.workers import describe_workers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from receiver.cli.status import Seen
    from receiver.ops.activity import FailureGroup, Rate
    from receiver.ops.ageing import Ageing
    from receiver.ops.status import ServiceStatus

MAX_ORGANIZATIONS: Final = 15
MAX_FAILURES: Final = 8
MAX_LINES: Final = 20
"""How much of each is shown; ``--json`` has all."""


def print_screen(seen: Seen) -> None:
    """Print everything, and what needs attention on standard error."""
    print_fields({"as of": seen.service.at.astimezone(UTC), **dict(_figures(seen))})
    if seen.failures:
        click.echo()
        _print_failures(seen.failures, seen.service.failures)
    click.echo()
    _print_organizations(seen)
    click.echo()
    for line in seen.attention[:MAX_LINES]:
        click.echo(str(line), err=True)
    if len(seen.attention) > MAX_LINES:
        click.echo(f"and {len(seen.attention) - MAX_LINES} more: see receiver status --json", err=True)
    known = f", {len(seen.acknowledged)} acknowledged" if seen.acknowledged else ""
    listed = " (receiver issues list)" if seen.attention or seen.acknowledged else ""
    click.echo(f"Issues: {len(seen.attention) or 'none'}{known}{listed}")


def _figures(seen: Seen) -> Iterable[tuple[str, str]]:
    service = seen.service
    waiting = ", ".join(f"{service.deliveries[name].number} {name}" for name in WAITING)
    oldest = service.oldest_waiting
    yield "backlog", waiting if oldest is None else f"{waiting}; the oldest for {length_of_time(service.at - oldest)}"
    for name, each in service.deliveries.items():
        if name not in WAITING:
            yield name, f"{each.number}" if each.oldest is None else f"{each.number} since {words(each.oldest)}"
    totals = seen.totals
    attempts = f"attempts: {totals.processed} succeeded, {totals.failed} failed"
    yield "all time", f"{counted(totals.received, 'delivery', 'deliveries')} received; {attempts}"
    yield "per minute", "; ".join(map(_rate, seen.rates)) or "not known until the scheduler has run for five minutes"
    inactive = f", {len(service.inactive)} of them not active" if service.inactive else ""
    without = f"; {counted(len(service.without_webhook), 'organization')} without an active one"
    read = service.bootstrap_read_at
    as_read = f"; as read at OpenCard {length_of_time(service.at - read)} ago" if read else ""
    yield "webhooks", f"{len(service.webhooks)}{inactive}{without if service.without_webhook else ''}{as_read}"
    yield "workers", describe_workers(seen.workers)
    if service.replays:
        yield (
            "replays",
            "; ".join(
                f"{each.replay_id} by {each.requested_by}, {counted(each.selected, 'delivery', 'deliveries')}"
                f", for {length_of_time(service.at - each.created_at)}"
                for each in service.replays
            ),
        )
    if service.receipts is not None:
        yield "receipts", service.receipts.in_words()
    if ageing := "; ".join(_ageing(seen.ageing)):
        yield "ageing", ageing
    yield "retention", _retention(service)
    if service.feed_epoch is not None:
        yield "feed", f"epoch {service.feed_epoch.epoch} since {words(service.feed_epoch.begun_at)}"
    if service.consumers:
        yield (
            "consumers",
            "; ".join(f"{each.name} {counted(each.lag_events, 'event')} behind" for each in service.consumers),
        )


def _ageing(ageing: Ageing) -> Iterable[str]:
    for words_for, each in (
        ("cleared and not invoiced", ageing.not_invoiced),
        ("authorized, neither cleared nor deleted", ageing.not_cleared),
    ):
        if each.number:
            number = f"{each.number} or more" if each.number >= MAX_AGEING else f"{each.number}"
            yield f"{number} {words_for} for {each.days} days"


def _rate(each: Rate) -> str:
    return (
        f"{each.received:.1f} received; attempts: {each.processed:.1f} succeeded, {each.failed:.1f} failed "
        f"(last {each.minutes:.0f} min)"
    )


def _retention(service: ServiceStatus) -> str:
    last = service.retention
    if last is None:
        return "never run"
    if last.ended_at is None:
        return f"running for {length_of_time(service.at - last.started_at)}"
    removed = sum(last.removed.values())
    outcome = "failed" if last.error else f"{removed} removed"
    return f"{outcome}, {length_of_time(service.at - last.ended_at)} ago"


def _print_failures(failures: tuple[FailureGroup, ...], in_all: int) -> None:
    print_rows(
        [{**asdict(group), "whose": _organizations(group)} for group in failures[:MAX_FAILURES]],
        {
            "number": "number",
            "status": "status",
            "event": "event",
            "error": "error",
            "whose": "organizations",
            "newest": "newest",
            "example_id": "example",
        },
        empty="",
        optional=("newest", "whose", "event"),
    )
    rest = failures[MAX_FAILURES:]
    if rest:
        click.echo(f"and {sum(group.number for group in rest)} for {counted(len(rest), 'other reason')}")
    if in_all > MAX_COUNTED:
        click.echo(f"of the newest {MAX_COUNTED} of {in_all}")


def _organizations(group: FailureGroup) -> str:
    more = group.number_of_organizations - 1
    return group.organizations[0] + (f" and {more} more" if more else "")


def _print_organizations(seen: Seen) -> None:
    service = seen.service
    complained = {
        webhook.organization_reference_id
        for webhook in service.webhooks
        if any(find_in_webhook(webhook, service.at, seen.interval))
    }
    those_first = sorted(service.organizations, key=lambda each: each.organization_reference_id not in complained)
    print_rows(
        [
            {
                **asdict(each),
                "checked_until": _checked(each.checked_until, service.at),
                "failed": each.last_error is not None,
            }
            for each in those_first[:MAX_ORGANIZATIONS]
        ],
        {
            "organization_reference_id": "organization",
            "checked_until": "checked up to",
            "recovered": "recovered",
            "unconfirmed": "unconfirmed",
            "unrecoverable": "unrecoverable",
            "failed": "last run failed",
        },
        empty="no webhooks registered: receiver bootstrap registers them",
        optional=("recovered", "unconfirmed"),
    )
    rest = those_first[MAX_ORGANIZATIONS:]
    if rest:
        bad = sum(each.organization_reference_id in complained for each in rest)
        checked = "all checked" if seen.interval is not None else "no issues"
        click.echo(f"and {len(rest)} more, {f'{bad} of them with issues' if bad else checked}")


def _checked(until: datetime | None, at: datetime) -> str:
    return "never" if until is None else f"{length_of_time(at - until)} ago"
