"""``receiver db consumers``: who reads the feed, and how far each is."""

from __future__ import annotations

import os
from dataclasses import asdict

import click
from sqlalchemy import text

from receiver.cli.group import Group
from receiver.cli.output import json_option, print_json, print_rows
from receiver.cli.recorded import RecordedCommand
from receiver.db import one_connection
from receiver.ops.consumers import drop_consumer, read_consumers
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings


@click.group(cls=Group)
def consumers() -> None:
    """List the readers of the feed with their positions, and drop those that no longer read."""


def _database_url() -> str:
    return load_settings(os.environ, required=REQUIRED_FOR_DATABASE).database_url


@consumers.command("list")
@json_option
def list_consumers(as_json: bool) -> None:
    """List the registered consumers of the feed: position, lag in events and seconds, and when each was last seen.

    A reader registers by calling ems.commit_position(name, position) in SQL.

    Example: receiver db consumers list
    """
    with one_connection(_database_url(), application="command") as connection:
        found = read_consumers(lambda query: [*map(dict, connection.execute(text(query)).mappings())])
    if as_json:
        print_json(found)
        return
    print_rows(
        [{**asdict(each), "lag_seconds": round(each.lag_seconds)} for each in found],
        {
            "name": "name",
            "role": "role",
            "position": "position",
            "lag_events": "events behind",
            "lag_seconds": "seconds behind",
            "updated_at": "last seen",
        },
        empty="no consumer has registered; a reader registers with: "
        "SELECT ems.commit_position('its name', its_position)",
    )


@consumers.command(cls=RecordedCommand, about=("name",))
@click.argument("name")
def drop(name: str) -> None:
    """Drop a consumer that will not read the feed any more.

    Events that it has not read may be deleted from then on. It is registered again when it commits a position; a
    name other than that of its role must be granted again first.

    Example: receiver db consumers drop old_ems
    """
    with one_connection(_database_url(), application="command") as connection:
        drop_consumer(connection, name)
    click.echo(f"dropped consumer {name}")
