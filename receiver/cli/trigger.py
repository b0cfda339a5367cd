"""``receiver trigger``: one event, or a short story, from the local OpenCard into the running service."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import httpx

from receiver.cli.logs import configure_command_logs
from receiver.cli.output import json_option, print_json, print_rows
from receiver.cli.parameters import DURATION, WholeNumber
from receiver.connections import RECONCILE
from receiver.db import engine_for
from receiver.sandbox.control_client import NO_TIME, SendOptions, read_fixture, trigger_events
from receiver.sandbox.send_again import trigger_again
from receiver.settings import REQUIRED_FOR_API, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from sqlalchemy import Engine

    from receiver.settings import Settings

MAX_COUNT: Final = 10_000


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
@click.option(
    "--again-after",
    type=DURATION,
    metavar="AGE",
    help="Send it again, as if AGE (such as 2d) had passed: after more than a day that is a new event.",
)
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
    "--count", type=WholeNumber(1, MAX_COUNT), default=1, show_default=True, help="How many times, each with new ids."
)
@json_option
def trigger(
    event: str | None,
    organization: str,
    changes: tuple[str, ...],
    following: tuple[str, ...],
    duplicate: bool,
    late: timedelta | None,
    again_after: timedelta | None,
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
    if again_after is not None and (duplicate or late or lose):
        raise click.UsageError("--again-after says when it is sent: leave --duplicate, --late and --lose away")
    settings = load_settings(os.environ, required=frozenset() if again_after is None else REQUIRED_FOR_API)
    content = None if body is None else body.read_bytes()
    try:
        if fixture is not None:
            event, content = read_fixture(fixture.read_bytes(), organization)
        if event is None:
            raise click.UsageError("give EVENT, or --fixture FILE")
        events, changed = [event, *following], dict(map(_change, changes))
        if again_after is None:
            options = SendOptions(count=count, duplicate=duplicate, late=late or NO_TIME, lose=lose)
            api_url = settings.opencard_api_url
            done = trigger_events(api_url, organization, events, options, changes=changed, body=content)
        else:
            with _engine(settings) as engine:
                done = trigger_again(
                    engine,
                    settings,
                    organization,
                    events,
                    after=again_after,
                    count=count,
                    changes=changed,
                    body=content,
                )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        print_json(done)
    else:
        unsent = "only in the log" if again_after is None else "recovered from the log"
        rows = [{**each, "answer": each["status"] if each["sent"] else unsent} for each in done]
        columns = {"event": "event", "organization_reference_id": "organization", "id": "id", "answer": "answer"}
        print_rows(rows, columns, empty="")
    sys.exit(0 if all(each["status"] == httpx.codes.OK or not each["sent"] for each in done) else 1)


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    configure_command_logs(settings)
    engine = engine_for(settings.database_url, application="trigger", timeouts=RECONCILE)
    try:
        yield engine
    finally:
        engine.dispose()


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"--set {text!r}: write FIELD=VALUE")
    return name, value
