"""What ``receiver replay`` says to people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import msgspec

from receiver.cli.output import print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.ops.replay_selection import Group, Preview
    from receiver.ops.replay_state import ReplayState


def print_groups(groups: Sequence[Group], *, empty: str) -> None:
    """Print deliveries by status, event and cause."""
    columns = {"number": "number", "status": "status", "event": "event", "error": "error"}
    print_rows([{**asdict(group), "error": group.error or None} for group in groups], columns, empty=empty)


def print_left_out(told: Preview) -> None:
    """Say what a replay leaves out, on standard error."""
    for number, words in (
        (told.tests, "a test delivery, which never reaches the EMS"),
        (told.waiting, "waiting to be processed anyway"),
        (told.without_body, "without its body, which is not kept any more: it cannot be processed"),
    ):
        if number:
            click.echo(f"{number} left out: {words}", err=True)


def print_outcome(state: ReplayState, failed: Sequence[Group], *, waited: bool) -> None:
    """Say how a replay stands, and by their causes which failed again."""
    if failed:
        print_groups(failed, empty="")
    line = f"replay {state.replay_id}: {state.selected} selected, {state.processed} processed, {state.failed} failed"
    rest = state.selected - state.done
    if state.state == "cancelled" and rest:
        line += f"; cancelled, and {rest} keep the status they had"
    elif state.state == "cancelling":
        line += "; cancelled, and ends once a worker has finished what it has at hand"
    elif state.state == "ended" and rest:
        line += f"; {rest} were gone, or had lost their body, before their turn came"
    elif state.state == "running" and not waited:
        line += "; workers are at it: receiver replay --list shows how far they are"
    click.echo(line)


def print_replays(replays: Sequence[ReplayState]) -> None:
    """Print a line for each replay."""
    rows = [
        {**asdict(each), "filter": msgspec.json.encode(each.filter).decode(), "state": each.outcome} for each in replays
    ]
    columns = {
        "replay_id": "replay",
        "created_at": "asked for",
        "requested_by": "by",
        "state": "state",
        "selected": "selected",
        "processed": "processed",
        "failed": "failed",
        "filter": "which",
        "reason": "reason",
    }
    print_rows(rows, columns, empty="no replay yet")
