"""``receiver sandbox``: a local OpenCard: its API, or only its deliveries."""

from __future__ import annotations

import asyncio
import shlex
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import click
import msgspec
import stamina

from receiver.cli.output import json_option, print_json, print_rows
from receiver.cli.parameters import Number, WholeNumber
from receiver.sandbox.faults import LONGEST_OUTAGE, Faults, schedule
from receiver.sandbox.provider import RECOMMENDED, SCOPES, Behaviour, Provider, environment
from receiver.sandbox.provider import scopes as routes
from receiver.sandbox.provider.billing import MIXES, Mix, Rejection
from receiver.sandbox.provider.html import HtmlErrors
from receiver.sandbox.provider.run import Stream, numbered, serve_until_stopped
from receiver.sandbox.registration import Registration
from receiver.sandbox.sender import deliver_all
from receiver.sandbox.story import make_story
from receiver.sandbox.tally import DeliveryTally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.sandbox.provider import Client


PARTS: Final = {
    "headers": frozenset({routes.HEADERS, routes.HEADER}),
    "groups": frozenset({routes.GROUPS, routes.GROUP}),
    "single-webhooks": frozenset({routes.WEBHOOK}),
    "billings": frozenset({routes.BILLINGS}),
}
"""Part of the API → its routes."""
SHARE = Number(0, 1)


@click.command()
@click.option("--url", help="The endpoint to deliver to.")
@click.option(
    "--organization",
    "references",
    metavar="REF",
    multiple=True,
    help="The EMS's own id of the organization; with the API: repeatable, of each organization.",
)
@click.option("--secret", help="Its secret; deliveries are signed with it.")
@click.option("--authentication-type", type=click.Choice(["none", "basic", "custom"]), default="none")
@click.option("--basic-username", help="For basic.")
@click.option("--basic-password", help="For basic.")
@click.option("--custom-key", help="For custom: the header's name.")
@click.option("--custom-value", help="For custom: the header's value.")
@click.option(
    "--webhooks",
    "webhooks_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON list of webhooks with these fields, in place of the options above.",
)
@click.option("--port", type=WholeNumber(0, 65535), default=8400, show_default=True, help="Where the API listens.")
@click.option("--organizations", type=WholeNumber(min=0), help="How many organizations: org-001, ...  [default: 3]")
@click.option("--per-page", type=WholeNumber(min=1), default=15, show_default=True, help="Items on a page of a list.")
@click.option("--honours-per-page", is_flag=True, help="Give as many items on a page as are asked for, up to 100.")
@click.option(
    "--billing",
    type=click.Choice(list(MIXES)),
    default="mixed",
    show_default=True,
    help="What the organizations' billing allows: all events; ordinary: transactions; mixed: in turn all, transactions "
    "with receipts and VAT, transactions; none: no billing profile.",
)
@click.option(
    "--rejection",
    type=click.Choice(get_args(Rejection)),
    default="errors",
    show_default=True,
    help="How a webhook that asks for more is rejected.",
)
@click.option(
    "--html-errors",
    type=click.Choice(get_args(HtmlErrors)),
    default="redirect",
    show_default=True,
    help="How an error is answered to a request that does not accept JSON: a redirect to a login page, or that page.",
)
@click.option("--echoes-secrets", is_flag=True, help="Show secrets and credentials of webhooks on GET.")
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(list(PARTS)),
    help="A part of the API to leave out; repeatable.",
)
@click.option("--account-id", type=WholeNumber(min=1), default=1, show_default=True, help="The partner account.")
@click.option("--client-id", default="sandbox", show_default=True, help="The OAuth client.")
@click.option("--client-secret", help="Its secret; generated unless given.")
@click.option(
    "--scopes",
    help="What the client may ask for: a list; recommended, by OpenCard; or first-run, as the documents say.  "
    "[default: every scope]",
)
@click.option(
    "--purchases",
    type=WholeNumber(min=0),
    default=100,
    show_default=True,
    help="How many to send; with 0 the API is only served.",
)
@click.option(
    "--cleared-first",
    type=WholeNumber(min=0),
    default=0,
    show_default=True,
    help="Cleared purchases of the first organization to deliver at once, before the others.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed repeats the run.")
@click.option("--repeat", is_flag=True, help="Continue with the next seed, until Ctrl+C.")
@click.option(
    "--compression",
    type=Number(min=0, min_open=True),
    help="Virtual seconds in a real one; as fast as possible unless given.",
)
@click.option(
    "--connections", type=WholeNumber(min=1), default=8, show_default=True, help="Number of parallel requests."
)
@click.option("--duplicates", type=SHARE, default=0.0, help="Share of events that are sent twice.")
@click.option("--disorder", type=SHARE, default=0.0, help="Share of events that are sent out of order.")
@click.option("--lost-answers", type=SHARE, default=0.0, help="Share of requests whose answer is lost.")
@click.option("--bursts", type=SHARE, default=0.0, help="Share of requests that are held back and sent together.")
@click.option("--lost", type=SHARE, default=0.0, help="Share of events that never arrive and are given up.")
@click.option(
    "--outage",
    type=Number(0, LONGEST_OUTAGE),
    default=0.0,
    help="Virtual hours in which a gateway answers each attempt with 503; events due then are given up.",
)
@json_option
def sandbox(
    url: str | None,
    references: tuple[str, ...],
    secret: str | None,
    authentication_type: Literal["none", "basic", "custom"],
    basic_username: str | None,
    basic_password: str | None,
    custom_key: str | None,
    custom_value: str | None,
    webhooks_file: Path | None,
    port: int,
    organizations: int | None,
    per_page: int,
    honours_per_page: bool,
    billing: Mix,
    rejection: Rejection,
    html_errors: HtmlErrors,
    echoes_secrets: bool,
    without: tuple[str, ...],
    account_id: int,
    client_id: str,
    client_secret: str | None,
    scopes: str | None,
    purchases: int,
    cleared_first: int,
    seed: int,
    repeat: bool,
    compression: float | None,
    connections: int,
    duplicates: float,
    disorder: float,
    lost_answers: float,
    bursts: float,
    lost: float,
    outage: float,
    as_json: bool,
) -> None:
    """Run a local OpenCard simulator.

    It serves OpenCard's API and delivers a stream of events. Until Ctrl+C, the API answers on this machine, and
    registered webhooks get events of card holders, purchases through all their states, receipts, VAT, items and CO2,
    over compressed time and with the requested faults. The variables that the receiver needs are printed first.

    With --url or --webhooks there is no API: the stream goes there, each event signed and sent until it is answered
    200; the result is printed at the end. Exit code 1 when an event was given up that was not lost on purpose.

    Example: receiver sandbox --organizations 20 --repeat --compression 7200

    Example: receiver sandbox --url http://127.0.0.1:8000/hooks/opencard/KEY --organization acme --secret TEXT
    """
    stamina.instrumentation.set_on_retry_hooks(())  # the sandbox's retries are expected, and counted
    stream = Stream(
        purchases=purchases,
        seed=seed,
        repeat=repeat,
        faults=Faults(
            duplicates=duplicates,
            disorder=disorder,
            lost_answers=lost_answers,
            bursts=bursts,
            lost=lost,
            outage=outage,
        ),
        compression=compression,
        connections=connections,
        cleared_first=cleared_first,
    )
    if webhooks_file is not None:
        _deliver(_read_registrations(webhooks_file), stream, as_json=as_json)
    elif url is None and secret is None:
        if references and organizations is not None:
            raise click.UsageError("give --organization or --organizations, not both")
        provider = Provider(
            Behaviour(
                per_page=per_page,
                honours_per_page=honours_per_page,
                rejection=rejection,
                html_errors=html_errors,
                echoes_secrets=echoes_secrets,
                routes_off=frozenset().union(*(PARTS[part] for part in without)),
            )
        )
        there = references or numbered(3 if organizations is None else organizations)
        provider.state.add_organizations(there, MIXES[billing], account_id=account_id)
        client = provider.clients.add(client_id, account_id=account_id, scopes=_scopes(scopes), secret=client_secret)
        _serve(provider, client, stream, port=port, as_json=as_json)
    elif url and secret and len(references) == 1:
        try:
            webhook = Registration(
                url=url,
                secret=secret,
                organization_reference_id=references[0],
                authentication_type=authentication_type,
                basic_username=basic_username,
                basic_password=basic_password,
                custom_key=custom_key,
                custom_value=custom_value,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        _deliver([webhook], stream, as_json=as_json)
    else:
        raise click.UsageError("give --url, --secret and one --organization; or --webhooks FILE; or none of them")


def _serve(provider: Provider, client: Client, stream: Stream, *, port: int, as_json: bool) -> None:
    def started(url: str) -> None:
        variables = environment(url, client)
        if as_json:
            print_json(variables)
        else:
            for name, value in variables.items():
                click.echo(f"export {name}={shlex.quote(value)}")

    tally = DeliveryTally()
    asyncio.run(serve_until_stopped(provider, stream, port=port, started=started, tally=tally))
    if stream.purchases and not as_json:
        click.echo()
        _print(tally, as_json=False)


def _scopes(value: str | None) -> tuple[str, ...]:
    if value is None:
        return SCOPES
    named = {"recommended": RECOMMENDED, "first-run": routes.DOCUMENTED}
    scopes = named.get(value) or tuple(value.replace(",", " ").split())
    if unknown := set(scopes) - set(SCOPES):
        raise click.UsageError(f"--scopes: OpenCard has no {', '.join(sorted(unknown))}")
    return scopes


def _deliver(webhooks: Sequence[Registration], stream: Stream, *, as_json: bool) -> None:
    tally = DeliveryTally()
    try:
        for seed in count(stream.seed) if stream.repeat else (stream.seed,):
            _deliver_story(webhooks, stream, seed, tally)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    _print(tally, as_json=as_json)
    if tally.given_up_unexpectedly:
        raise click.exceptions.Exit(1)


def _deliver_story(webhooks: Sequence[Registration], stream: Stream, seed: int, tally: DeliveryTally) -> None:
    organizations = [webhook.organization_reference_id for webhook in webhooks]
    story = make_story(seed=seed, organizations=organizations, purchases=stream.purchases)
    asyncio.run(
        deliver_all(
            schedule(story.events, stream.faults, seed),
            webhooks,
            connections=stream.connections,
            compression=stream.compression,
            tally=tally,
        )
    )


def _read_registrations(path: Path) -> list[Registration]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Registration])
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{path}: {error}") from None


def _print(tally: DeliveryTally, *, as_json: bool) -> None:
    fields = ("sent", "accepted", "lost_answers", "refused", "unanswered")
    rows = [
        {"event": event, **{name: getattr(counts, name) for name in fields}}
        for event, counts in sorted(tally.by_event.items())
    ]
    total = {"event": "all", **{name: getattr(tally, name) for name in fields}}
    if as_json:
        ends = {name: getattr(tally, name) for name in ("given_up", "lost", "in_outage")}
        print_json({**total, **ends, "by_event": rows})
    else:
        print_rows(
            [*rows, total], {"event": "event", **{name: name.replace("_", " ") for name in fields}}, empty="nothing"
        )
        if tally.given_up:
            click.echo(f"given up: {tally.given_up}, of them lost {tally.lost}, in the outage {tally.in_outage}")
