"""What ``receiver replay`` prints for people."""

from __future__ import annotations

from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from receiver.cli.output import print_rows
from receiver.ops.audit import arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from receiver.ops.replay_selection import Preview, SelectionGroup
    from receiver.ops.replay_state import ReplayState


def print_groups(groups: Sequence[SelectionGroup], *, empty: str) -> None:
    """Print deliveries by status, event and cause."""
    columns = {"number": "number", "status": "status", "event": "event", "error": "error"}
    print_rows([{**asdict(group), "error": group.error or None} for group in groups], columns, empty=empty)


def print_left_out(seen: Preview) -> None:
    """Say what a replay leaves out, on standard error."""
    for number, words in (
        (seen.tests, "test deliveries, which never reach the EMS"),
        (seen.waiting, "already pending"),
        (seen.retracted, "retracted as forged: undo that first, with receiver deliveries retract --undo"),
        (seen.without_body, "without a body, which retention deleted: they cannot be processed"),
    ):
        if number:
            click.echo(f"{number} left out: {words}", err=True)


def print_outcome(state: ReplayState, failed: Sequence[SelectionGroup], *, waited: bool) -> None:
    """Print the state of a replay, and what failed again by cause."""
    if failed:
        print_groups(failed, empty="")
    line = f"replay {state.replay_id}: {state.selected} selected, {state.processed} processed, {state.failed} failed"
    rest = state.selected - state.finished
    if state.state == "cancelled" and rest:
        line += f"; cancelled; {rest} keep their status"
    elif state.state == "cancelling":
        line += "; cancelled; it ends once a worker has finished its current batch"
    elif state.state == "ended" and rest:
        line += f"; {rest} were deleted, or their body was, before they could be processed"
    elif state.state == "running" and not waited:
        line += "; in progress: see receiver replay --list"
    click.echo(line)


def _options(selection: Mapping[str, Any]) -> str:
    """Return what a replay selects, as the options of the command."""
    names = {"ids": "", "statuses": "status", "events": "event", "organizations": "organization"}
    typed = [
        (names.get(name, name), value if value is True else quote(str(value)))
        for name, given in selection.items()
        for value in (given if isinstance(given, list) else [given])
    ]
    return arguments(typed) or ""


def print_replays(replays: Sequence[ReplayState]) -> None:
    """Print a line for each replay."""
    rows = [{**asdict(each), "filter": _options(each.filter), "state": each.outcome} for each in replays]
    columns = {
        "replay_id": "replay",
        "created_at": "requested",
        "requested_by": "by",
        "state": "state",
        "selected": "selected",
        "processed": "processed",
        "failed": "failed",
        "filter": "selection",
        "reason": "reason",
    }
    print_rows(rows, columns, empty="no replays", optional=("filter", "requested_by", "created_at"))
