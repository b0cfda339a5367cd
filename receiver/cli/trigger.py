"""``receiver trigger``: one event, or a short story, from the local OpenCard into the running service."""

from __future__ import annotations

import base64
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click
import httpx

from receiver.cli.output import json_option, print_json, print_rows
from receiver.cli.parameters import DURATION, WholeNumber
from receiver.errors import OperationRefused
from receiver.events.catalogue import EVENT_FLAGS, canonical_name
from receiver.settings import load_settings

if TYPE_CHECKING:
    from datetime import timedelta

SECONDS: Final = 60
"""How long the local OpenCard may take."""
MOST: Final = 10_000


@click.command()
@click.argument("event")
@click.option("--organization", required=True, metavar="REF", help="The EMS's own id of the organization.")
@click.option(
    "--set",
    "changes",
    metavar="FIELD=VALUE",
    multiple=True,
    help="A field of the payload, such as original_amount=12.30 or card_holder.reference_id=employee-17.",
)
@click.option(
    "--then", "following", metavar="EVENT", multiple=True, help="What follows for the same transaction; repeatable."
)
@click.option("--duplicate", is_flag=True, help="Send each event twice, as a retry would.")
@click.option("--late", type=DURATION, metavar="AGE", help="So long after its first attempt, which the log shows: 2d.")
@click.option("--lose", is_flag=True, help="Only into the delivery log, as if no attempt had arrived.")
@click.option(
    "--body",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that is signed and sent as it is.",
)
@click.option("--count", type=WholeNumber(1, MOST), default=1, show_default=True, help="How often, with new ids.")
@json_option
def trigger(
    event: str,
    organization: str,
    changes: tuple[str, ...],
    following: tuple[str, ...],
    duplicate: bool,
    late: timedelta | None,
    lose: bool,
    body: Path | None,
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
    settings = load_settings(os.environ, required=frozenset())
    events = [_event(name) for name in (event, *following)]
    wanted = {
        "organization": organization,
        "events": [canonical_name(name) for name in events],
        "spelled": events,
        "changes": dict(map(_change, changes)),
        "body": None if body is None else base64.b64encode(body.read_bytes()).decode(),
        "count": count,
        "duplicate": duplicate,
        "late_seconds": 0 if late is None else late.total_seconds(),
        "lose": lose,
    }
    done = _ask(settings.opencard_api_url, wanted)
    if as_json:
        print_json(done)
    else:
        rows = [{**each, "answer": each["status"] if each["sent"] else "only in the log"} for each in done]
        columns = {"event": "event", "organization_reference_id": "organization", "id": "id", "answer": "answer"}
        print_rows(rows, columns, empty="")
    sys.exit(0 if all(each["status"] == httpx.codes.OK or not each["sent"] for each in done) else 1)


def _event(name: str) -> str:
    """Return the event of that name; an alias stays as it is written."""
    if canonical_name(name) is not None:
        return name
    matching = [event for event in EVENT_FLAGS if event.endswith(f".{name}")]
    if len(matching) != 1:
        which = ", ".join(matching or EVENT_FLAGS)
        raise click.UsageError(f"{name!r} is {'several events' if matching else 'no event'}; choose one of: {which}")
    return matching[0]


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"--set {text!r}: write FIELD=VALUE")
    return name, value


def _ask(api_url: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Have the local OpenCard do it. Raises ``OperationRefused``, before anything is sent where it is the real one."""
    if not _is_loopback(api_url):
        raise OperationRefused(
            f"OPENCARD_API_URL is {api_url}, no local OpenCard: trigger works with receiver dev alone, and sends "
            "nothing to a service that is registered at the real one"
        )
    try:
        answer = httpx.post(f"{api_url.rstrip('/')}/sandbox/events", json=wanted, timeout=SECONDS, trust_env=False)
    except httpx.TransportError as error:
        raise OperationRefused(
            f"no local OpenCard answers at {api_url} ({error}): start it with receiver dev"
        ) from None
    if answer.status_code != httpx.codes.CREATED:
        reason = answer.text.strip()[:500]
        raise OperationRefused(f"the local OpenCard at {api_url} refused it ({answer.status_code}): {reason}")
    done: list[dict[str, Any]] = answer.json()
    return done


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
