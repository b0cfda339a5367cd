"""``receiver issues``: list issues, acknowledge and resolve them."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.cli.group import Group
from receiver.cli.operator import operator
from receiver.cli.output import json_option, print_fields, print_json, print_rows
from receiver.cli.parameters import FUTURE, ID, WholeNumber
from receiver.cli.recorded import RecordedCommand
from receiver.connections import WEB
from receiver.db import one_connection
from receiver.ops.findings import FindingKind, Severity, show_command
from receiver.ops.issues import lifecycle
from receiver.ops.issues.lifecycle import State
from receiver.ops.issues.store import answer, list_issues, read_issue
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from receiver.ops.issues.store import StoredIssue

DEFAULT_LIMIT: Final = 200
COLUMNS: Final = {
    "id": "id",
    "state": "state",
    "severity": "severity",
    "kind": "kind",
    "count": "count",
    "opened_at": "since",
    "text": "issue",
}
LABELS: Final[dict[str, str]] = {
    "organization_reference_id": "organization",
    "text": "issue",
    "accepted_count": "reopens above",
    "accepted_until": "reopens at",
    "example_delivery_id": "example",
}
_COMMANDS: Final[dict[str, str]] = {FindingKind.DEAD: "after the fix", FindingKind.UNKNOWN_FORMAT: "after the upgrade"}
"""What the command of an issue is called where something else comes first."""
issue_id = click.argument("issue_id", type=ID)
note = click.option("--note", required=True, help="Why; shown with the issue.")


@click.group(cls=Group)
def issues() -> None:
    """List what needs attention, acknowledge it, and resolve it.

    The scheduler checks every 15 seconds: an issue opens when its cause is found, and resolves when its cause ends.
    """


@issues.command("list")
@click.option(
    "--state",
    "states",
    type=click.Choice([str(state) for state in State]),
    multiple=True,
    default=(str(State.OPEN), str(State.ACKNOWLEDGED)),
    help="State; repeatable. Default: open and acknowledged.",
)
@click.option(
    "--limit", type=WholeNumber(1, 10_000), default=DEFAULT_LIMIT, show_default=True, help="Print at most this many."
)
@json_option
def list_(states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List issues: open ones first, critical before warning.

    Example: receiver issues list --state open
    """
    with _connection() as connection:
        found = list_issues(connection, states=map(State, states), limit=limit)
    if as_json:
        print_json([_document(each) for each in found])
    else:
        resolved = {"resolved_at": "resolved"} if str(State.RESOLVED) in states else {}
        print_rows(
            [_document(each) for each in found],
            {**COLUMNS, **resolved},
            empty="no issues",
            optional=("severity", "opened_at", "count"),
        )


@issues.command("show")
@issue_id
@json_option
def show(issue_id: int, as_json: bool) -> None:
    """Show one issue: its cause, its count, since when, who acknowledged it and why.

    Example: receiver issues show 7
    """
    with _connection() as connection:
        _print(read_issue(connection, issue_id), as_json=as_json)


@issues.command("acknowledge", cls=RecordedCommand, about=("issue_id", "until", "until_it_grows"), reason="note")
@issue_id
@note
@click.option(
    "--until",
    type=FUTURE,
    metavar="TIME",
    help="Reopen it then if the cause remains: 2026-12-01, or 2h for two hours from now.",
)
@click.option("--until-it-grows", is_flag=True, help="Reopen it when its count grows.")
@json_option
def acknowledge(issue_id: int, note: str, until: datetime | None, until_it_grows: bool, as_json: bool) -> None:
    """Acknowledge an issue: it remains, but status and the alert ReceiverIssueOpen no longer count it.

    Other alerts end when their cause ends; receiver deliveries resolve ends those about deliveries that were
    not applied.

    Without --until and --until-it-grows it stays acknowledged until its cause ends.

    Example: receiver issues acknowledge 7 --note "OpenCard is working on it" --until-it-grows
    """
    change = partial(lifecycle.acknowledge, by=operator(), note=note, until=until, until_it_grows=until_it_grows)
    with _connection() as connection, connection.begin():
        changed = answer(connection, issue_id, change)
    _print(changed, as_json=as_json)


@issues.command("resolve", cls=RecordedCommand, about=("issue_id",), reason="note")
@issue_id
@note
@json_option
def resolve(issue_id: int, note: str, as_json: bool) -> None:
    """Resolve an issue whose cause is still found but needs no action, such as dead deliveries of a test.

    It reopens when its count grows, or when its cause disappears and recurs.

    Example: receiver issues resolve 7 --note "three dead deliveries of a test account"
    """
    with _connection() as connection, connection.begin():
        changed = answer(
            connection, issue_id, partial(lifecycle.resolve, by=operator(), note=note, at=datetime.now(UTC))
        )
    _print(changed, as_json=as_json)


def _connection() -> AbstractContextManager[Connection]:
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    return one_connection(settings.database_url, application="issues", timeouts=WEB)


def _print(stored: StoredIssue, *, as_json: bool) -> None:
    document = _document(stored)
    if as_json:
        print_json(document)
        return
    issue = stored.issue
    labels = {
        **LABELS,
        "owner": f"{issue.state} by",
        "command": _COMMANDS.get(issue.kind, "command"),
    }
    if issue.first_seen_at == issue.opened_at:
        del document["first_seen_at"]
    if issue.example_delivery_id is not None:
        document["example_delivery_id"] = show_command(issue.example_delivery_id)
    document["command"] = document.pop("command")  # the last line
    print_fields(
        {labels.get(name, name.replace("_", " ")): value for name, value in document.items() if value not in (None, "")}
    )


def _document(stored: StoredIssue) -> dict[str, Any]:
    values = asdict(stored.issue)
    del values["by_person"]
    return {"id": stored.id, **values, "severity": Severity(stored.issue.severity).name.lower()}
