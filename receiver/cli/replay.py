"""``receiver replay``: process stored deliveries again, and show the result."""

from __future__ import annotations

import os
import sys
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.cli.filters import FILTER, check_organizations, filter_of, filter_options
from receiver.cli.logs import configure_command_logs
from receiver.cli.operator import operator
from receiver.cli.output import json_option, print_json, progress_bar
from receiver.cli.parameters import ID, WholeNumber
from receiver.cli.recorded import RecordedCommand
from receiver.cli.replay_words import print_groups, print_left_out, print_outcome, print_replays
from receiver.db import dedicated_connection, engine_for
from receiver.ops.deliveries import Filter
from receiver.ops.findings import show_command
from receiver.ops.replay import cancel_replay, start_replay
from receiver.ops.replay_selection import preview
from receiver.ops.replay_state import example_of_failed, list_replays, read_replay, what_failed
from receiver.ops.replay_wait import wait_for_end
from receiver.processing.replays import end_replays
from receiver.queue import wake_worker_if_possible
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from receiver.ops.replay_selection import Preview, Selection
    from receiver.ops.replay_state import ReplayState
    from receiver.settings import Settings

NO_PROGRESS_TIMEOUT: Final = 60.0
"""Seconds without anything processed after which the command stops waiting."""
REQUIRED: Final = REQUIRED_FOR_DATABASE | {"REDIS_URL"}


@click.command(
    cls=RecordedCommand,
    about=("ids", *FILTER, "limit", "cancelled"),
    reason="reason",
    unless=("dry_run", "listing"),
)
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@filter_options
@click.option("--reason", metavar="TEXT", help="Why, for the record.  [required]")
@click.option("--limit", type=WholeNumber(min=1), metavar="N", help="Only the newest N of them: to try a few first.")
@click.option("--dry-run", is_flag=True, help="Print what would be processed; change nothing.")
@click.option("--no-wait", is_flag=True, help="Return once the deliveries are selected.")
@click.option("--list", "listing", is_flag=True, help="List the replays, the newest first.")
@click.option(
    "--cancel",
    "cancelled",
    type=ID,
    metavar="REPLAY",
    help="Cancel this replay: process nothing more of it.",
)
@json_option
def replay(
    ids: tuple[int, ...],
    reason: str | None,
    limit: int | None,
    dry_run: bool,
    no_wait: bool,
    listing: bool,
    cancelled: int | None,
    as_json: bool,
    **restrictions: Any,  # noqa: ANN401 - those of filter_options
) -> None:
    """Process stored deliveries again, selected by id or by a filter.

    Workers process them whenever they keep up with new ones; the command waits for the end. Safe to repeat: a delivery
    that was applied before changes nothing. Test deliveries, deliveries that are already pending, and deliveries whose
    body was deleted are left out. Exit code 1 when something failed again or the replay has not ended.

    Example: receiver replay --status dead --error "OperationalError*" --reason "disk was full"
    """
    wanted: Selection = ids or filter_of(**restrictions)
    _check_usage(wanted, any(restrictions.values()), listing=listing, cancelled=cancelled)
    if limit is not None and (listing or cancelled is not None):
        raise click.UsageError("--limit is for what is replayed: it cannot be combined with --list and --cancel")
    settings = load_settings(os.environ, required=REQUIRED)
    configure_command_logs(settings)
    with _engine(settings) as engine:
        if listing:
            _list(engine, as_json=as_json)
        elif cancelled is not None:
            _cancel(engine, settings, cancelled, as_json=as_json)
        elif dry_run:
            _print_preview(_preview(engine, wanted, limit), as_json=as_json)
        else:
            if not (reason or "").strip():
                raise click.UsageError("--reason is missing: it is recorded with the replay")
            _replay(engine, settings, wanted, str(reason), limit, wait=not no_wait, as_json=as_json)


def _check_usage(wanted: Selection, filtered: bool, *, listing: bool, cancelled: int | None) -> None:
    by_ids = not isinstance(wanted, Filter)
    if by_ids and filtered:
        raise click.UsageError("give ids or a filter, not both")
    asked = by_ids + filtered + listing + (cancelled is not None)
    if asked > 1:
        raise click.UsageError("--list and --cancel cannot be combined with anything else")
    if not asked:
        raise click.UsageError(
            "which deliveries? Give ids, or at least one of --status, --event, --organization, --since, --until, "
            "--error and --unresolved"
        )


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    engine = engine_for(settings.database_url, application="replay")
    try:
        yield engine
    finally:
        engine.dispose()


def _preview(engine: Engine, wanted: Selection, limit: int | None) -> Preview:
    with engine.connect() as connection, progress_bar() as progress:
        progress.stage("counting")
        if isinstance(wanted, Filter):
            check_organizations(connection, wanted.organizations)
        return preview(connection, wanted, limit=limit)


def _print_preview(seen: Preview, *, as_json: bool) -> None:
    if as_json:
        _print_nothing(seen, as_json=True)
        return
    print_groups(seen.groups, empty="nothing to replay")
    print_left_out(seen)
    if seen.groups:
        click.echo(f"{seen.selected} would be replayed; nothing was changed")


def _print_nothing(seen: Preview, *, as_json: bool) -> None:
    """Print that no replay was started."""
    if as_json:
        print_json({"replay_id": None, "processed": 0, "failed": 0, **asdict(seen)})
    else:
        click.echo("nothing to replay")


def _replay(
    engine: Engine,
    settings: Settings,
    wanted: Selection,
    reason: str,
    limit: int | None,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    seen = _preview(engine, wanted, limit)
    print_left_out(seen)
    try:
        with progress_bar() as progress:
            progress.total(seen.selected)
            replay_id = start_replay(
                engine, wanted, requested_by=operator(), reason=reason, limit=limit, progress=progress
            )
    except KeyboardInterrupt:
        click.echo("interrupted while selecting: nothing was processed; the replay is cancelled", err=True)
        sys.exit(1)
    if replay_id is None:
        _print_nothing(seen, as_json=as_json)
        return
    if not wake_worker_if_possible(settings.redis_url):
        click.echo("Redis cannot be reached: the replay begins once it is back", err=True)
    state = _wait(engine, replay_id) if wait else _read(engine, replay_id)
    if as_json:
        print_json(_document(state, seen))
    else:
        with engine.connect() as connection:
            print_outcome(state, what_failed(connection, replay_id), waited=wait)
            example = example_of_failed(connection, replay_id)
        if example is not None:
            click.echo(f"see {show_command(example)}", err=True)
    sys.exit(1 if state.failed or state.cancelled_at or (wait and state.ended_at is None) else 0)


def _wait(engine: Engine, replay_id: int) -> ReplayState:
    """Wait until it has ended; when no worker takes it, or the operator interrupts, say how it continues."""
    ways = f"watch it with receiver replay --list, stop it with receiver replay --cancel {replay_id}"
    try:
        with progress_bar() as progress:
            state = wait_for_end(engine, replay_id, timeout=NO_PROGRESS_TIMEOUT, progress=progress)
    except KeyboardInterrupt:
        click.echo(f"replay {replay_id} continues without this command: {ways}", err=True)
        sys.exit(1)
    if state.ended_at is None:
        click.echo(
            f"no worker has processed anything of replay {replay_id} for {NO_PROGRESS_TIMEOUT:.0f} s: is receiver "
            f"worker running, or busy with new deliveries? The replay continues once one is free: {ways}",
            err=True,
        )
    return state


def _cancel(engine: Engine, settings: Settings, replay_id: int, *, as_json: bool) -> None:
    cancel_replay(engine, replay_id, cancelled_by=operator())
    with closing(dedicated_connection(engine)) as connection:
        end_replays(connection)
    state = _read(engine, replay_id)
    if state.ended_at is None:
        wake_worker_if_possible(settings.redis_url)
    if as_json:
        print_json(_document(state))
    else:
        print_outcome(state, [], waited=False)


def _list(engine: Engine, *, as_json: bool) -> None:
    with engine.connect() as connection:
        replays = list_replays(connection)
    if as_json:
        print_json(replays)
    else:
        print_replays(replays)


def _read(engine: Engine, replay_id: int) -> ReplayState:
    with engine.connect() as connection:
        return read_replay(connection, replay_id)


def _document(state: ReplayState, seen: Preview | None = None) -> dict[str, object]:
    left_out = (
        {}
        if seen is None
        else {name: getattr(seen, name) for name in ("tests", "waiting", "without_body", "retracted")}
    )
    return {**asdict(state), **left_out}
