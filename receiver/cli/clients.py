"""``receiver clients``: the account's OAuth clients."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.cli.group import Group
from receiver.cli.logs import configure_command_logs
from receiver.cli.output import json_option, print_fields, print_json, print_rows
from receiver.cli.recorded import RecordedCommand
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import OperationRefused, UnreadableAnswer
from receiver.opencard.auth import Access
from receiver.opencard.client import OpenCard
from receiver.opencard.oauth_clients import create_client, get_client, list_clients, set_scopes
from receiver.opencard.scopes import FIRST_RUN, SCOPES, scopes_for, unknown_scopes
from receiver.opencard.secret_file import secret_file
from receiver.opencard.tokens import StoredTokens
from receiver.settings import REQUIRED_FOR_API, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAKE_ANOTHER: Final = "delete it in the dashboard and create another"
SCOPES_WIDTH: Final = 80
CLIENT_COLUMNS: Final = {"id": "id", "client_id": "client id", "name": "name", "scopes": "scopes"}


@click.group(cls=Group)
def clients() -> None:
    """Manage the OAuth clients of the account at OpenCard."""


@contextmanager
def _api_of(command: str) -> Iterator[OpenCard]:
    """Return OpenCard's API, with a token of just the scopes of *command*."""
    settings = load_settings(os.environ, required=REQUIRED_FOR_API)
    configure_command_logs(settings)
    engine = engine_for(settings.database_url, application="command")
    try:
        tokens = StoredTokens(engine, Encryption(settings.encryption_keys))
        with OpenCard(Access.of(settings), scopes_for(command), tokens) as api:
            yield api
    finally:
        engine.dispose()


def _warned(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Pass scopes on as they were typed; of those that the catalogue does not know, say so: it may be a mistake."""
    for sentence in unknown_scopes(names):
        click.echo(f"warning: {sentence}; it is sent to OpenCard unchanged", err=True)
    return names


def _needed(_context: click.Context, _parameter: click.Parameter, commands: tuple[str, ...]) -> frozenset[str]:
    try:
        return frozenset[str]().union(*(scopes_for(command) for command in commands))
    except OperationRefused as unknown:
        raise click.BadParameter(str(unknown)) from None


@clients.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the account's OAuth clients and their scopes.

    Secrets are never shown.

    Example: receiver clients list
    """
    with _api_of("clients list") as api:
        found = [dict(client.as_fields()) for client in list_clients(api)]
    if as_json:
        print_json(found)
    else:
        rows = [
            {**fields, "scopes": fill(_words(fields["scopes"]), SCOPES_WIDTH, break_on_hyphens=False)}
            for fields in found
        ]
        print_rows(rows, CLIENT_COLUMNS, empty="the account has no OAuth client")


@clients.command("create", cls=RecordedCommand, about=("name", "scopes", "recommended", "needed"))
@click.option("--name", required=True, help="The client's name at OpenCard.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", callback=_warned, help="A scope; repeatable.")
@click.option(
    "--recommended",
    is_flag=True,
    help="OpenCard's recommended scopes, and the others that a first run needs.",
)
@click.option(
    "--for",
    "needed",
    multiple=True,
    metavar="COMMAND",
    callback=_needed,
    help="All scopes that a command may need, such as bootstrap or reconcile; repeatable.",
)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    help="A new file for the secret, readable by its owner only. Without it the terminal shows the secret.",
)
@json_option
def create_command(
    name: str,
    scopes: tuple[str, ...],
    recommended: bool,
    needed: frozenset[str],
    secret_file: Path | None,
    as_json: bool,
) -> None:
    """Create an OAuth client.

    OpenCard shows its secret once: store it.

    Example: receiver clients create --name receiver --for bootstrap --for reconcile --secret-file client-secret
    """
    wanted = {*scopes, *(FIRST_RUN if recommended else ()), *needed}
    if not wanted:
        raise click.UsageError("no scopes: give --scope, --recommended or --for; receiver scopes lists them")
    if secret_file is None and (as_json or not sys.stdout.isatty()):
        raise click.UsageError(
            "--secret-file is missing: OpenCard shows the secret once, and it is printed on a terminal only"
        )
    with _api_of("clients create") as api, _kept(secret_file) as keep:
        client = create_client(api, name=name, scopes=wanted)
        if client.secret is None:
            raise UnreadableAnswer(f"OpenCard created the client {client.id} but returned no secret; {MAKE_ANOTHER}")
        try:
            keep(client.secret)
        except OSError as error:
            raise OperationRefused(
                f"the client {client.id} was created, but {secret_file} cannot be written ({error.strerror}): its "
                f"secret is lost; {MAKE_ANOTHER}"
            ) from None
    fields = client.as_fields()
    if as_json:
        print_json({**fields, "secret_file": str(secret_file)})
    else:
        secret = {"secret": client.secret} if secret_file is None else {"secret_file": secret_file}
        print_fields({**fields, "scopes": _words(client.scope_names), **secret})


@contextmanager
def _kept(path: Path | None) -> Iterator[Callable[[str], None]]:
    """Make the file for the secret, if there is to be one, and yield what writes it."""
    if path is None:
        yield lambda _secret: None
        return
    with ExitStack() as stack:
        try:
            keep = stack.enter_context(secret_file(path))
        except OSError as error:
            raise click.BadParameter(f"cannot create {path}: {error.strerror}", param_hint="--secret-file") from None
        yield keep


@clients.command("set-scopes", cls=RecordedCommand, about=("client_id", "scopes"))
@click.argument("client_id")
@click.argument("scopes", metavar="SCOPE...", nargs=-1, required=True, callback=_warned)
@json_option
def set_scopes_command(client_id: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Replace the scopes of an OAuth client.

    CLIENT_ID is the id that receiver clients list shows. Scopes of the client that receiver scopes does not list are
    kept: remove them in the dashboard. Tokens issued before keep their scopes.

    Example: receiver clients set-scopes 42 webhooks-read webhook-events-read
    """
    with _api_of("clients set-scopes") as api:
        reported = get_client(api, client_id).scope_names
        if reported is None:
            click.echo(
                "warning: OpenCard does not report which scopes the client has, so the change is unknown",
                err=True,
            )
        before = set(reported or ())
        kept = {name for name in before - set(scopes) if name not in SCOPES}
        after = {*scopes, *kept}
        set_scopes(api, client_id, after)
    changes: dict[str, Any] = {
        "added": None if reported is None else sorted(after - before),
        "removed": None if reported is None else sorted(before - after),
        "kept": sorted(kept),
    }
    if as_json:
        print_json({"id": client_id, "scopes": sorted(after), **changes})
    else:
        shown = {name: names for name, names in changes.items() if names or name != "kept"}
        print_fields({name: _words(names) or "none" for name, names in shown.items()})


def _words(names: Sequence[str] | None) -> str:
    """Return scopes as people read them."""
    return "not reported" if names is None else " ".join(names)
