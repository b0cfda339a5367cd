"""``receiver webhooks rotate-secret`` and ``test``: what is done to managed webhooks through OpenCard's API."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click
import msgspec

from receiver.bootstrap.desired import nearest
from receiver.bootstrap.rotation import Rotation
from receiver.cli.filters import check_organizations
from receiver.cli.logs import configure_command_logs
from receiver.cli.output import json_option, print_fields, print_json, print_rows, progress_bar
from receiver.cli.parameters import DURATION, ID, Number
from receiver.cli.recorded import RecordedCommand
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.events.catalogue import EVENT_FLAGS, canonical_name
from receiver.opencard.auth import Access
from receiver.ops.deliveries import verified_by
from receiver.ops.send_test import SendTest, SendTestTimeouts
from receiver.ops.sent_test import Report, as_fields
from receiver.settings import REQUIRED_FOR_API, Settings, load_settings
from receiver.webhooks.store import WebhookStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from sqlalchemy import Engine

    from receiver.webhooks.managed import ManagedWebhook


@dataclass(frozen=True, slots=True)
class _Context:
    """The objects that both commands use."""

    settings: Settings
    engine: Engine
    encryption: Encryption

    @property
    def access(self) -> Access:
        return Access.of(self.settings)

    def choose(self, ids: tuple[int, ...], organizations: tuple[str, ...], *, everything: bool) -> list[ManagedWebhook]:
        """Return the chosen webhooks, oldest first; where none is named, the only one that exists."""
        stored = WebhookStore(self.engine, self.encryption).all()
        for unknown in set(ids) - {webhook.id for webhook in stored}:
            raise OperationRefused(f"there is no webhook {unknown}; see receiver webhooks list")
        with self.engine.connect() as connection:
            check_organizations(connection, organizations)
        if not ids and not organizations and not everything and len(stored) == 1:
            return stored
        return [
            webhook
            for webhook in stored
            if everything or webhook.id in ids or webhook.organization_reference_id in organizations
        ]


@contextmanager
def _context_of_command() -> Iterator[_Context]:
    settings = load_settings(os.environ, required=REQUIRED_FOR_API)
    configure_command_logs(settings)
    engine = engine_for(settings.database_url, application="command")
    try:
        yield _Context(settings, engine, Encryption(settings.encryption_keys))
    finally:
        engine.dispose()


@click.command("rotate-secret", cls=RecordedCommand, about=("webhook_ids", "organizations", "everything", "overlap"))
@click.argument("webhook_ids", metavar="[WEBHOOK_ID]...", nargs=-1, type=ID)
@click.option(
    "--organization",
    "organizations",
    metavar="REF",
    multiple=True,
    help="Of this organization; repeatable.",
)
@click.option("--all", "everything", is_flag=True, help="Every managed webhook.")
@click.option(
    "--overlap",
    type=DURATION,
    default="24h",
    show_default=True,
    help="How long the old secret stays valid: 24h, 30m, 7d; 0 (emergency) ends it at once.",
)
@json_option
def rotate_secret_command(
    webhook_ids: tuple[int, ...], organizations: tuple[str, ...], everything: bool, overlap: timedelta, as_json: bool
) -> None:
    """Give webhooks a new secret, here and at OpenCard.

    WEBHOOK_ID is this service's id. Until the overlap ends, deliveries signed with either secret are accepted. An
    interrupted run does no harm: the next one finishes it. Secrets are never shown.

    Example: receiver webhooks rotate-secret --organization acme --overlap 12h
    """
    if everything and (webhook_ids or organizations):
        raise click.UsageError("give --all or single webhooks, not both")
    with _context_of_command() as context:
        chosen = context.choose(webhook_ids, organizations, everything=everything)
        if not chosen and not everything:
            raise click.UsageError("which webhooks? Give WEBHOOK_ID, --organization REF, or --all")
        rotation = Rotation(context.engine, context.encryption, context.access, context.settings.public_url)
        with progress_bar() as progress:
            result = rotation.run([webhook.id for webhook in chosen], overlap=overlap, progress=progress)
    if as_json:
        print_json(result.rotated)
    elif result.rotated or not result.failures:
        print_rows(
            [asdict(each) for each in result.rotated],
            {
                "id": "webhook id",
                "organization_reference_id": "organization",
                "previous_secret_expires_at": "previous secret valid until",
            },
            empty="no webhooks registered: receiver bootstrap registers them",
        )
    for failure in result.failures:
        click.echo(f"organization {failure.organization_reference_id}: {failure.error}", err=True)
    if result.failures:
        sys.exit(1)


def _event(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    name = canonical_name(value)
    if name is None:
        raise click.BadParameter(f"OpenCard has no event {value!r}; {nearest(value, EVENT_FLAGS)}")
    return name


@click.command("test", cls=RecordedCommand, about=("event", "organization", "webhook_id"))
@click.argument("event", callback=_event)
@click.option("--organization", metavar="REF", help="The EMS's own id of the organization.")
@click.option("--webhook", "webhook_id", type=ID, help="This service's id of the organization's own webhook.")
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True, max=3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the delivery.",
)
@json_option
def test_command(event: str, organization: str | None, webhook_id: int | None, timeout: float, as_json: bool) -> None:
    """Have OpenCard send a test delivery, and show it.

    It is sent to a test webhook of the organization, which is registered at the first test, enabled during each test,
    and authenticates like the organization's own webhook. Test deliveries are stored as ignored and never reach the
    tables of the EMS.

    Example: receiver webhooks test environmental.impact.deedster --organization acme
    """
    if organization is not None and webhook_id is not None:
        raise click.UsageError("give --organization or --webhook, not both")
    ids = () if webhook_id is None else (webhook_id,)
    organizations = () if organization is None else (organization,)
    with _context_of_command() as context:
        chosen = context.choose(ids, organizations, everything=False)
        if len(chosen) != 1:
            several = ", ".join(str(webhook.id) for webhook in chosen)
            raise click.UsageError(
                f"organization {organization} has several webhooks: give --webhook with one of {several}"
                if several
                else "which webhook? Give --organization REF or --webhook ID"
            )
        sending = SendTest(context.engine, context.encryption, context.access, context.settings.public_url)
        report = sending.run(chosen[0], event, SendTestTimeouts(timeout))
    if as_json:
        print_json(as_fields(report))
    else:
        _print(report)
    if report.parsed is None:
        sys.exit(1)


def _print(report: Report) -> None:
    if report.delivery is not None:
        fields: dict[str, Any] = {
            "delivery": report.delivery.id,
            "status": report.delivery.status,
            "verified by": verified_by(report.delivery.verification),
            "event": report.delivery.event,
            "version": report.delivery.version,
        }
        if report.parsed is not None:
            named = report.parsed.organization_reference_id
            own = report.webhook.organization_reference_id
            fields["organization"] = named if named == own else f"{named} (the webhook's is {own})"
            fields["card holder"] = report.parsed.card_holder_reference_id
            fields["transaction"] = report.parsed.transaction_id
        print_fields(fields)
        if report.parsed is not None:
            click.echo("The test passed: it was verified, and can be parsed as that event.")
        body = as_fields(report)["payload"]
        click.echo(body if isinstance(body, str) else msgspec.json.format(bytes(body), indent=2).decode())
    if report.error is not None:
        what = "" if report.delivery is None else "not parsed: "
        click.echo(f"{what}{report.error}", err=True)
