"""``receiver sandbox``: a local OpenCard."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec
import stamina

from receiver.cli.output import json_option, print_json, print_rows
from receiver.sandbox.accounts import Tally
from receiver.sandbox.faults import Faults, schedule
from receiver.sandbox.registration import Registration
from receiver.sandbox.sender import deliver_all
from receiver.sandbox.story import tell

if TYPE_CHECKING:
    from collections.abc import Sequence


SHARE = click.FloatRange(0, 1)


@click.command()
@click.option("--url", help="The endpoint to deliver to.")
@click.option("--organization", metavar="REF", help="The EMS's own id of its organization.")
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
@click.option("--purchases", type=click.IntRange(min=0), default=100, show_default=True, help="How many to tell of.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed repeats the run.")
@click.option("--repeat", is_flag=True, help="Go on with the next seed, until Ctrl+C.")
@click.option(
    "--compression",
    type=click.FloatRange(min=0, min_open=True),
    help="Virtual seconds in a real one; as fast as possible unless given.",
)
@click.option("--connections", type=click.IntRange(min=1), default=8, show_default=True, help="Requests at once.")
@click.option("--duplicates", type=SHARE, default=0.0, help="Share of events that are sent twice.")
@click.option("--disorder", type=SHARE, default=0.0, help="Share of events that change places.")
@click.option("--lost-answers", type=SHARE, default=0.0, help="Share of sendings whose answer is lost.")
@click.option("--bursts", type=SHARE, default=0.0, help="Share of sendings that are held back and let go together.")
@json_option
def sandbox(
    url: str | None,
    organization: str | None,
    secret: str | None,
    authentication_type: Literal["none", "basic", "custom"],
    basic_username: str | None,
    basic_password: str | None,
    custom_key: str | None,
    custom_value: str | None,
    webhooks_file: Path | None,
    purchases: int,
    seed: int,
    repeat: bool,
    compression: float | None,
    connections: int,
    duplicates: float,
    disorder: float,
    lost_answers: float,
    bursts: float,
    as_json: bool,
) -> None:
    """Be OpenCard: deliver a life-like stream of events.

    Each is signed, and sent until it is answered 200: card holders, purchases through all their states, receipts,
    VAT, items and CO2, over compressed time and with the faults that are asked for. Exits 1 when one was given up.

    Example: receiver sandbox --url http://127.0.0.1:8000/hooks/opencard/KEY --organization acme --secret TEXT
    """
    if webhooks_file is not None:
        webhooks = _read_registrations(webhooks_file)
    elif url and organization and secret:
        try:
            webhooks = [
                Registration(
                    url=url,
                    secret=secret,
                    organization_reference_id=organization,
                    authentication_type=authentication_type,
                    basic_username=basic_username,
                    basic_password=basic_password,
                    custom_key=custom_key,
                    custom_value=custom_value,
                )
            ]
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    else:
        raise click.UsageError("give --url, --organization and --secret, or --webhooks FILE")
    stamina.instrumentation.set_on_retry_hooks(())  # the sandbox's retries are meant, and counted
    faults = Faults(duplicates=duplicates, disorder=disorder, lost_answers=lost_answers, bursts=bursts)
    tally = Tally()
    try:
        for number in count(seed) if repeat else (seed,):
            _deliver(webhooks, purchases, number, faults, compression, connections, tally)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    _print(tally, as_json=as_json)
    if tally.given_up:
        raise click.exceptions.Exit(1)


def _deliver(
    webhooks: Sequence[Registration],
    purchases: int,
    seed: int,
    faults: Faults,
    compression: float | None,
    connections: int,
    tally: Tally,
) -> None:
    organizations = [webhook.organization_reference_id for webhook in webhooks]
    story = tell(seed=seed, organizations=organizations, purchases=purchases)
    asyncio.run(
        deliver_all(
            schedule(story.told, faults, seed),
            webhooks,
            connections=connections,
            compression=compression,
            tally=tally,
        )
    )


def _read_registrations(path: Path) -> list[Registration]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Registration])
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{path}: {error}") from None


def _print(tally: Tally, *, as_json: bool) -> None:
    fields = ("sent", "accepted", "lost_answers", "refused", "unanswered")
    rows = [
        {"event": event, **{name: getattr(counts, name) for name in fields}}
        for event, counts in sorted(tally.by_event.items())
    ]
    total = {"event": "all", **{name: getattr(tally, name) for name in fields}}
    if as_json:
        print_json({**total, "given_up": tally.given_up, "by_event": rows})
    else:
        print_rows(
            [*rows, total], {"event": "event", **{name: name.replace("_", " ") for name in fields}}, empty="nothing"
        )
