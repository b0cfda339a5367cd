"""``receiver trigger``: one event, or a short story, from the local OpenCard into the running service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import httpx

from receiver.cli.output import json_option, print_json, print_rows
from receiver.cli.parameters import DURATION, WholeNumber
from receiver.sandbox.control_client import NO_TIME, SendOptions, trigger_events, trigger_fixture
from receiver.settings import load_settings

if TYPE_CHECKING:
    from datetime import timedelta

MOST: Final = 10_000


@click.command()
@click.argument("event", required=False)
@click.option("--organization", required=True, metavar="REF", help="The EMS's own id of the organization.")
@click.option(
    "--set",
    "changes",
    metavar="FIELD=VALUE",
    multiple=True,
    help="A field of the payload, such as original_amount=12.30 or card_holder.reference_id=employee-17; "
    "of the events after --then, too.",
)
@click.option(
    "--then", "following", metavar="EVENT", multiple=True, help="What follows for the same transaction; repeatable."
)
@click.option("--duplicate", is_flag=True, help="Send each event twice, as a retry would.")
@click.option("--late", type=DURATION, metavar="AGE", help="Age of its first attempt in the delivery log, such as 2d.")
@click.option("--lose", is_flag=True, help="Write it to the delivery log only, as if no attempt had arrived.")
@click.option(
    "--body",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that is signed and sent as it is.",
)
@click.option(
    "--fixture",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A delivery that receiver deliveries show --fixture wrote, instead of EVENT.",
)
@click.option(
    "--count", type=WholeNumber(1, MOST), default=1, show_default=True, help="How many times, each with new ids."
)
@json_option
def trigger(
    event: str | None,
    organization: str,
    changes: tuple[str, ...],
    following: tuple[str, ...],
    duplicate: bool,
    late: timedelta | None,
    lose: bool,
    body: Path | None,
    fixture: Path | None,
    count: int,
    as_json: bool,
) -> None:
    """Let the local OpenCard of "receiver dev" send an event to this service, and print the ids that it made.

    EVENT is any event or alias of the catalogue; its last part is enough (cleared) where only one has it. Nothing is
    ever sent to a service that is registered at the real OpenCard. Exit code 1 when the service did not answer 200.

    Example: receiver trigger card.transaction.cleared --organization nordlys-as --set original_amount=12.30
    """
    if body is not None and (changes or following):
        raise click.UsageError("--body is sent as it is: leave --set and --then away")
    if fixture is not None and (event or body or changes or following):
        raise click.UsageError("--fixture has event and body: leave EVENT, --set, --then and --body away")
    api_url = load_settings(os.environ, required=frozenset()).opencard_api_url
    options = SendOptions(count=count, duplicate=duplicate, late=late or NO_TIME, lose=lose)
    try:
        if fixture is not None:
            done = trigger_fixture(api_url, organization, fixture.read_bytes(), options)
        elif event is not None:
            content = None if body is None else body.read_bytes()
            changed = dict(map(_change, changes))
            done = trigger_events(api_url, organization, [event, *following], options, changes=changed, body=content)
        else:
            raise click.UsageError("give EVENT, or --fixture FILE")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        print_json(done)
    else:
        rows = [{**each, "answer": each["status"] if each["sent"] else "only in the log"} for each in done]
        columns = {"event": "event", "organization_reference_id": "organization", "id": "id", "answer": "answer"}
        print_rows(rows, columns, empty="")
    sys.exit(0 if all(each["status"] == httpx.codes.OK or not each["sent"] for each in done) else 1)


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"--set {text!r}: write FIELD=VALUE")
    return name, value
