"""``receiver webhooks``: the registered webhooks."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from receiver.bootstrap.applied import last_read_at
from receiver.bootstrap.flags import by_reason, describe_unavailable
from receiver.bootstrap.organizations import unavailable_events
from receiver.cli.filters import check_organizations
from receiver.cli.group import Group
from receiver.cli.output import json_option, length_of_time, print_fields, print_json, print_rows
from receiver.cli.parameters import ID
from receiver.cli.recorded import RecordedCommand
from receiver.cli.secret_values import secret_option
from receiver.cli.webhook_actions import rotate_secret_command, test_command
from receiver.db import one_connection
from receiver.encryption import Encryption
from receiver.settings import load_settings
from receiver.webhooks.addresses import endpoint_url
from receiver.webhooks.adoption import ADOPTABLE, Adoption, adopt
from receiver.webhooks.credentials import AuthenticationType, Credentials
from receiver.webhooks.listing import list_webhooks, show_webhook

if TYPE_CHECKING:
    from receiver.settings import Settings


@click.group(cls=Group)
def webhooks() -> None:
    """List, adopt and test webhooks, and rotate their secrets."""


webhooks.add_command(rotate_secret_command)
webhooks.add_command(test_command)


def _authentication_type(_context: click.Context, _parameter: click.Parameter, value: str) -> AuthenticationType:
    try:
        return AuthenticationType(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(ADOPTABLE)}") from None


@webhooks.command("adopt", cls=RecordedCommand, about=("organization", "organization_id", "webhook_id"))
@click.option("--organization", required=True, metavar="REF", help="The EMS's own id of the organization.")
@click.option("--organization-id", required=True, type=ID, help="OpenCard's id of it.")
@click.option("--webhook-id", required=True, type=ID, help="OpenCard's id of the webhook.")
@secret_option("--secret", "The webhook's secret", required=True)
@click.option(
    "--authentication-type",
    default="none",
    show_default=True,
    metavar="none|basic|custom",
    callback=_authentication_type,
    help="How OpenCard authenticates in addition to signing.",
)
@click.option("--basic-username", default="", help="For basic.")
@secret_option("--basic-password", "For basic")
@click.option("--custom-key", default="", help="For custom: the header's name.")
@secret_option("--custom-value", "For custom: the header's value")
@json_option
def adopt_command(
    organization: str,
    organization_id: int,
    webhook_id: int,
    secret: str,
    authentication_type: AuthenticationType,
    basic_username: str,
    basic_password: str,
    custom_key: str,
    custom_value: str,
    as_json: bool,
) -> None:
    """Manage a webhook that was registered elsewhere.

    Does not call OpenCard's API. Prints the endpoint's key and URL; set that URL on the webhook.

    A secret in the arguments can be seen by other users of the machine. So --secret, --basic-password and
    --custom-value also read a line of standard input (-) or a file (@FILE); @@ begins a secret that begins with @.
    With - for several, each reads a line, in the order of the options.

    Example: receiver webhooks adopt --organization acme --organization-id 7 --webhook-id 42 --secret -
    """
    adoption = Adoption(
        organization_reference_id=organization,
        organization_id=organization_id,
        opencard_webhook_id=webhook_id,
        secret=secret,
        authentication_type=authentication_type,
        credentials=Credentials(basic_username, basic_password, custom_key, custom_value),
    )
    problems = adoption.problems()
    if problems:
        raise click.UsageError("\n".join(problems))
    settings = load_settings(os.environ)
    with one_connection(settings.database_url, application="command") as connection, connection.begin():
        adopted = adopt(connection, adoption, Encryption(settings.encryption_keys))
    shown = _with_url(adopted, settings)
    if as_json:
        print_json(shown)
    else:
        print_fields({name: shown[name] for name in ("id", "organization_reference_id", "endpoint_key", "url")})


@webhooks.command("list")
@click.option("--organization", metavar="REF", help="Only of this organization.")
@json_option
def list_command(organization: str | None, as_json: bool) -> None:
    """List the registered webhooks, oldest first.

    Example: receiver webhooks list --organization acme
    """
    settings = load_settings(os.environ)
    with one_connection(settings.database_url, application="command") as connection:
        check_organizations(connection, () if organization is None else (organization,))
        rows = [_with_url(row, settings) for row in list_webhooks(connection, organization=organization)]
        read_at = last_read_at(connection)
    if as_json:
        print_json(rows)
    else:
        print_rows(
            [{**row, "test": "test" if row["test"] else ""} for row in rows],
            {
                "id": "id",
                "organization_reference_id": "organization",
                "opencard_webhook_id": "OpenCard id",
                "authentication_type": "authentication",
                "enabled": "enabled",
                "active": "active",
                "test": "test",
                "url": "url",
            },
            empty="no webhooks registered: receiver bootstrap registers them, receiver webhooks adopt adds one",
            optional=("url", "test", "enabled", "authentication_type", "opencard_webhook_id"),
        )
        if rows and read_at is not None:
            ago = length_of_time(datetime.now(UTC) - read_at)
            click.echo(f"active: as read at OpenCard {ago} ago; receiver bootstrap --check reads it now")


@webhooks.command("show")
@click.argument("webhook_id", type=ID)
@json_option
def show_command(webhook_id: int, as_json: bool) -> None:
    """Show one webhook, by this service's id.

    Secrets are never shown.

    Example: receiver webhooks show 1
    """
    settings = load_settings(os.environ)
    with one_connection(settings.database_url, application="command") as connection:
        shown = _with_url(show_webhook(connection, webhook_id), settings)
        unavailable = unavailable_events(connection, shown["organization_id"])
    if as_json:
        print_json({**shown, "unavailable_events": by_reason(unavailable)})
    else:
        print_fields({**shown, "unavailable_events": "; ".join(describe_unavailable(unavailable)) or None})


def _with_url(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {**row, "url": endpoint_url(settings.public_url, row["endpoint_key"])}
