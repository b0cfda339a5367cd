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
from receiver.cli.output import counted, json_option, print_fields, print_json, print_rows, progress_bar
from receiver.cli.parameters import MOMENT
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
    "--organization", "organizations", metavar="REF", multiple=True, help="Only this one; may be given several times."
)


@click.group()
def files() -> None:
    """Find, fetch and copy the files of receipts and signed TPAs."""


@files.command("path")
@click.argument("wanted", metavar="TRANSACTION|TPA|SHA")
@json_option
def path(wanted: str, as_json: bool) -> None:
    """Print where the files of a purchase's receipts are, or a signed TPA's, or those with a SHA-256.

    A line each: a path, or a URL where FILES_URL is no folder. Exit code 1 when there is none; it says why.

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
        click.echo(f"receiver: the file is not downloaded: {each.download_error or 'its turn comes'}", err=True)
    if not found:
        click.echo(
            f"receiver: no transaction or TPA {wanted!r} is known that has a file, nor a file with that hash", err=True
        )
    sys.exit(1)


@files.command("list")
@click.option("--status", type=click.Choice(["waiting", "expired", "refused"]), help="Only those.")
@organizations_option
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@json_option
def list_files(status: str | None, organizations: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List receipts and TPAs whose files are not here: waiting to be downloaded, expired, or refused.

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
    print_rows(rows, headings, empty="every file is here")


@files.command("fetch")
@click.option("--again", is_flag=True, help="Try what was given up or refused as well.")
@json_option
def fetch(again: bool, as_json: bool) -> None:
    """Download now what waits, without regard to pauses.

    The worker does so by itself; this is for after a cause was mended. Safe beside running workers. Exit code 1 when a
    file could not be downloaded; receiver files list says why.

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
            tally = fetcher(engine, settings, store).run(seconds=math.inf, settled=progress.advance)
    finally:
        engine.dispose()
    hindrance = "; ".join(dict.fromkeys(map(str, tally.hindrances.values()))) or None
    result = {"stored": tally.stored, "failed": tally.failed, "given_up": tally.given_up}
    if as_json:
        print_json({**result, "error": hindrance})
    else:
        print_fields({name.replace("_", " "): number for name, number in result.items()})
        if hindrance:
            click.echo(f"receiver: {hindrance}", err=True)
    sys.exit(1 if tally.failed or tally.given_up else 0)


@files.command("export")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@organizations_option
@click.option("--since", type=MOMENT, metavar="TIME", help="Only what was downloaded since: 2026-02-13, or 24h ago.")
@json_option
def export_files(directory: Path, organizations: tuple[str, ...], since: datetime | None, as_json: bool) -> None:
    """Copy the files of receipts and signed TPAs into DIRECTORY, under names that people can read.

    ORGANIZATION/date_merchant_transaction_mark.pdf; the mark distinguishes the receipts of one purchase. A TPA has TPA
    in place of the merchant, and its id in place of the transaction's. What is there
    already is left alone, so that it may be run again. Exit code 1 when a file is missing where it should be.

    Example: receiver files export --organization acme --since 30d receipts
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    store = FileStore(settings.files_url)
    engine = engine_for(settings.database_url, application="files", bounds=EXPORT)
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
