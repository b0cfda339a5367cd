"""``receiver files``: the stored files of receipts and signed TPAs."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from sqlalchemy import text

from receiver.cli.filters import check_organizations
from receiver.cli.group import Group
from receiver.cli.output import counted, json_option, print_fields, print_json, print_rows, progress_bar
from receiver.cli.parameters import MOMENT, WholeNumber
from receiver.cli.recorded import RecordedCommand
from receiver.connections import EXPORT
from receiver.db import engine_for, one_connection
from receiver.files.copies import copy_receipts
from receiver.files.downloads import want_now
from receiver.files.find import files_of, not_here
from receiver.files.schedule import fetcher
from receiver.files.store import FileStore
from receiver.logs import configure_logs
from receiver.settings import REQUIRED_FOR_API, REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from datetime import datetime

organizations_option = click.option(
    "--organization", "organizations", metavar="REF", multiple=True, help="Only this organization; repeatable."
)


@click.group(cls=Group)
def files() -> None:
    """Find, download and copy the files of receipts and TPAs."""


@files.command("path")
@click.argument("wanted", metavar="TRANSACTION|TPA|SHA")
@json_option
def path(wanted: str, as_json: bool) -> None:
    """Print where a purchase's receipts are stored.

    Or a signed TPA, or the file with a SHA-256. One line for each file: a path, or a URL where FILES_URL is one. Exit
    code 1, with the reason, when there is none.

    Example: receiver files path 7c1e5d0e-5b1f-4e0a-9d8e-3a9f6a1b2c3d
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    store = FileStore(settings.files_url)
    with one_connection(settings.database_url, application="files") as connection:
        found = files_of(connection, wanted)
    rows = [{**asdict(each), "path": store.path(each.file_key) if each.file_key else None} for each in found]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            if row["path"]:
                click.echo(row["path"])
    if any(row["path"] for row in rows):
        return
    for each in found:
        click.echo(f"receiver: the file is not downloaded: {each.download_error or 'it is queued'}", err=True)
    if not found:
        click.echo(f"receiver: no file for {wanted!r}", err=True)
    sys.exit(1)


@files.command("list")
@click.option("--status", type=click.Choice(["waiting", "expired", "refused"]), help="Only files with this status.")
@organizations_option
@click.option("--limit", type=WholeNumber(min=1), default=100, show_default=True, help="How many at most.")
@json_option
def list_files(status: str | None, organizations: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List receipts and TPAs without a stored file.

    They are waiting for the download, expired, or refused.

    Example: receiver files list --status expired
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    with one_connection(settings.database_url, application="files") as connection:
        check_organizations(connection, organizations)
        rows = not_here(connection, status=status, organizations=organizations, limit=limit)
    if as_json:
        print_json(rows)
        return
    headings = {
        "organization_reference_id": "organization",
        "transaction_id": "transaction",
        "tpa_id": "TPA",
        "status": "status",
        "attempts": "attempts",
        "expires_at": "url expires",
        "next_attempt_at": "next attempt",
        "error": "error",
    }
    print_rows(
        rows, headings, empty="all files are stored", optional=("next_attempt_at", "attempts", "expires_at", "tpa_id")
    )


@files.command("fetch", cls=RecordedCommand, about=("again",))
@click.option("--again", is_flag=True, help="Also retry files that are expired or refused.")
@json_option
def fetch(again: bool, as_json: bool) -> None:
    """Download the missing files now.

    The worker downloads by itself, with pauses after a failure; use this once the cause is fixed. Safe while workers
    run. Exit code 1 when a file could not be downloaded; receiver files list shows why.

    Example: receiver files fetch --again
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_API)
    configure_logs(level="CRITICAL", log_format=settings.log_format)  # what fails is listed below
    store = FileStore(settings.files_url)
    engine = engine_for(settings.database_url, application="files")
    try:
        want_now(engine, again=again)
        with progress_bar() as progress:
            progress.stage("downloading")
            with engine.connect() as connection:
                waiting = text("SELECT count(*) FROM receiver.receipt_downloads WHERE status = 'waiting'")
                progress.total(connection.scalar(waiting) or 0)
            tally = fetcher(engine, settings, store).run(seconds=math.inf, after_each=progress.advance)
    finally:
        engine.dispose()
    reason = "; ".join(dict.fromkeys(map(str, tally.blocked.values()))) or None
    result = {"stored": tally.stored, "failed": tally.failed, "given_up": tally.given_up}
    if as_json:
        print_json({**result, "error": reason})
    else:
        print_fields({name.replace("_", " "): number for name, number in result.items()})
        if reason:
            click.echo(f"receiver: {reason}", err=True)
    sys.exit(1 if tally.failed or tally.given_up else 0)


@files.command("export", cls=RecordedCommand, about=("directory", "organizations", "since"))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@organizations_option
@click.option("--since", type=MOMENT, metavar="TIME", help="Only files downloaded since: 2026-02-13, or 24h.")
@json_option
def export_files(directory: Path, organizations: tuple[str, ...], since: datetime | None, as_json: bool) -> None:
    """Copy stored files into DIRECTORY, under readable names.

    ORGANIZATION/date_merchant_transaction_mark.pdf; the mark distinguishes the receipts of one purchase. A TPA has TPA
    in place of the merchant, and its own id in place of the transaction's. Existing files are not changed, so it can be
    run again. Exit code 1 when a stored file is missing.

    Example: receiver files export --organization acme --since 30d receipts
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    store = FileStore(settings.files_url)
    engine = engine_for(settings.database_url, application="files", timeouts=EXPORT)
    try:
        with engine.connect() as connection:
            check_organizations(connection, organizations)
        with progress_bar() as progress:
            progress.stage("copying")
            copied = [
                *copy_receipts(engine, store, directory, organizations=organizations, since=since, progress=progress)
            ]
    finally:
        engine.dispose()
    missing = [each for each in copied if each.error]
    if as_json:
        print_json(copied)
    else:
        click.echo(f"{counted(len(copied) - len(missing), 'file')} in {directory}")
        for each in missing:
            click.echo(f"receiver: {each.transaction_id}: {each.error}", err=True)
    sys.exit(1 if missing else 0)
