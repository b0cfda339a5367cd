"""``receiver bootstrap``: register and update the webhooks at OpenCard."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.bootstrap.desired import read_configuration
from receiver.bootstrap.match import ALL_DELETED
from receiver.bootstrap.run import Bootstrap, BootstrapOptions, BootstrapResult, as_fields
from receiver.cli.logs import configure_command_logs
from receiver.cli.output import counted, json_option, print_json, print_rows, progress_bar, words
from receiver.cli.recorded import RecordedCommand
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.settings import REQUIRED_FOR_API, load_settings

if TYPE_CHECKING:
    from receiver.bootstrap.concurrency import OrganizationFailure
    from receiver.bootstrap.outcome import UnavailableEvents
    from receiver.bootstrap.plan import FieldDifference, WebhookChange

DEFAULT_CONFIGURATION: Final = Path("webhooks.toml")


def configuration_option(command: Any) -> Any:  # noqa: ANN401 - click's decorators
    """Add ``--config`` to a command, as the argument *config*."""
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The configuration, as webhooks.example.toml describes.  [default: webhooks.toml, if it exists]",
    )(command)


def configuration_path(config: Path | None) -> Path | None:
    """Return the file to read: the named one, or the default one if it exists."""
    if config is None and DEFAULT_CONFIGURATION.exists():
        return DEFAULT_CONFIGURATION
    return config


@click.command(cls=RecordedCommand, about=("config", "only", "retry_rejected", "prune"), unless=("dry_run", "check"))
@configuration_option
@click.option("--dry-run", is_flag=True, help="Print what would be done; write nothing.")
@click.option("--check", is_flag=True, help="The same, with exit code 1 when something differs from the configuration.")
@click.option("--organization", "only", metavar="REF", multiple=True, help="Only this organization; repeatable.")
@click.option(
    "--retry-rejected",
    is_flag=True,
    help="Request again the events that OpenCard rejected less than a day ago.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Also remove what the file does not name; disable skipped organizations.",
)
@json_option
def bootstrap(
    config: Path | None,
    dry_run: bool,
    check: bool,
    only: tuple[str, ...],
    retry_rejected: bool,
    prune: bool,
    as_json: bool,
) -> None:
    """Register a webhook for every organization of the account.

    Safe at any time: it compares what is registered with the configuration and changes what differs. Without a file
    each organization gets all events that its billing at OpenCard allows, with basic authentication and generated
    credentials.

    After a run over the whole account the scheduler applies the same configuration every BOOTSTRAP_INTERVAL seconds, so
    that new organizations get their webhooks.

    Example: receiver bootstrap --dry-run
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_API)
    configure_command_logs(settings)
    configuration = read_configuration(configuration_path(config), os.environ)
    options = BootstrapOptions(write=not (dry_run or check), prune=prune, only=only, retry_rejected=retry_rejected)
    engine = engine_for(settings.database_url, application="bootstrap")
    try:
        with progress_bar() as progress:
            result = Bootstrap(
                engine, Encryption(settings.encryption_keys), Access.of(settings), settings.public_url
            ).run(configuration, options, progress)
    finally:
        engine.dispose()
    if as_json:
        print_json(_as_document(result))
    else:
        _print(result, planned=dry_run or check)
    sys.exit(1 if result.failures or (check and result.drift) else 0)


def _as_document(result: BootstrapResult) -> dict[str, object]:
    return {
        "organizations": result.organizations,
        "left_out": result.left_out,
        "changes": [as_fields(organization, change) for organization, change in result.changes],
        "drift": result.drift,
        "failures": result.failures,
        "unavailable_events": [each.as_fields() for each in result.unavailable],
        "deleted": result.deleted,
        "notes": result.notes,
        "forgotten": result.all_deleted,
    }


def _print(result: BootstrapResult, *, planned: bool) -> None:
    if result.changes:
        print_rows(
            [
                {
                    "organization": organization.reference_id,
                    "at": change.opencard_webhook_id,
                    "action": change.action.value,
                    "what": _in_words(change),
                }
                for organization, change in result.changes
            ],
            {"organization": "organization", "at": "at OpenCard", "action": "action", "what": "difference"},
            empty="",
        )
        click.echo()
    for each in result.unavailable:
        click.echo(f"organization {_name(each)}: {each.describe()}")
    for deleted in result.deleted:
        what = "its organization was" if deleted.organization_deleted else "it was"
        click.echo(f"webhook {deleted.webhook_id} of {deleted.organization_reference_id}: {what} deleted at OpenCard")
    if result.all_deleted:
        then = "would be registered again" if planned else "are registered again"
        click.echo(
            f"{ALL_DELETED}: none of {counted(result.all_deleted, 'webhook')} is there. Those of organizations that "
            f"are there {then}. After restarting a sandbox, use an empty database (DATABASE_URL)",
            err=True,
        )
    for note in result.notes:
        click.echo(f"organization {_name(note)}: {note.error}", err=True)
    for failure in result.failures:
        click.echo(f"organization {_name(failure)}: {failure.error}", err=True)
    click.echo(_summary(result, planned=planned))


def _name(each: OrganizationFailure | UnavailableEvents) -> str:
    return each.organization_reference_id or f"with OpenCard's id {each.organization_id}"


def _in_words(change: WebhookChange) -> str:
    return "; ".join(map(_difference, change.differences))


def _difference(difference: FieldDifference) -> str:
    if difference.field == "active":
        return "inactive, OpenCard delivers nothing → active"
    if difference.registered is None:
        return f"{difference.field} {words(difference.desired)}"
    if difference.desired is None:
        return f"{difference.field} {words(difference.registered)} → none"
    if difference.registered == difference.desired:
        return f"{difference.field} changes"
    return f"{difference.field} {words(difference.registered)} → {words(difference.desired)}"


def _summary(result: BootstrapResult, *, planned: bool) -> str:
    touched = len({organization.id for organization, _ in result.changes})
    parts = [counted(result.organizations, "organization")]
    if result.left_out:
        parts.append(f"{result.left_out} skipped")
    if result.changes:
        verb = "to make" if planned else "made"
        parts.append(f"{counted(len(result.changes), 'change')} {verb} for {counted(touched, 'organization')}")
    if result.failures:
        parts.append(f"{len(result.failures)} failed")
    if not result.drift:
        parts.append("no differences")
    return ", ".join(parts)
