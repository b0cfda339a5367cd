"""``receiver close``: a month of the ledger is closed, shown and verified."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

import click

from receiver.cli.operator import operator
from receiver.cli.output import counted, json_option, print_fields, print_json, print_rows, words
from receiver.cli.recorded import RecordedCommand
from receiver.db import engine_for
from receiver.ops.closing import MONTH, NotClosed, close_month, month_name, read_certificate, verify_closing
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.ops.closing import Certificate


def _first_day(_context: click.Context, _parameter: click.Parameter, value: str) -> date:
    found = MONTH.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"invalid month {value!r}: give one such as 2026-10")
    return date(int(found[1]), int(found[2]), 1)


@click.command(cls=RecordedCommand, about=("organization", "month"), reason="acknowledge", unless=("show", "verify"))
@click.argument("organization")
@click.argument("month", callback=_first_day)
@click.option("--show", is_flag=True, help="Print the certificate of a month that is closed.")
@click.option("--verify", is_flag=True, help="Compute its sums and hash again; exit code 1 if any differs.")
@click.option(
    "--acknowledge",
    metavar="REASON",
    help="Close it although events are missing or not applied: acknowledges all of them. The certificate shows REASON.",
)
@json_option
def close(organization: str, month: date, *, show: bool, verify: bool, acknowledge: str | None, as_json: bool) -> None:
    """Close a MONTH (2026-10) of an ORGANIZATION: record its ledger's lines, sums and a hash over them.

    A closed month cannot be opened again.

    Refused, with the reasons, while anything that OpenCard sent is missing or not applied (ems.completeness). What
    changes in the month later is in ems.late_changes.

    Example: receiver close acme 2026-10
    """
    if show + verify + (acknowledge is not None) > 1:
        raise click.UsageError("give one of --show, --verify and --acknowledge")
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    engine = engine_for(settings.database_url, application="close")
    try:
        if verify:
            _verify(engine, organization, month, as_json=as_json)
        elif show:
            _print(read_certificate(engine, organization, month), as_json=as_json)
        else:
            _close(engine, organization, month, acknowledge, as_json=as_json)
    finally:
        engine.dispose()


def _close(engine: Engine, organization: str, month: date, acknowledge: str | None, *, as_json: bool) -> None:
    try:
        certificate = close_month(engine, organization, month, by=operator(), acknowledge=acknowledge)
    except NotClosed as refused:
        if as_json:
            print_json({"closed": False, "reasons": refused.reasons})
        raise
    _print(certificate, as_json=as_json)


def _verify(engine: Engine, organization: str, month: date, *, as_json: bool) -> None:
    certificate = read_certificate(engine, organization, month)
    differing = verify_closing(engine, certificate)
    if as_json:
        columns = {name: {"recorded": recorded, "computed": now} for name, (recorded, now) in differing.items()}
        print_json({"verified": not differing, "differences": columns, "sha256": certificate.sha256})
    elif differing:
        rows = [
            {"what": name, "recorded": str(recorded), "computed": str(now)}
            for name, (recorded, now) in differing.items()
        ]
        print_rows(rows, {"what": "Differs", "recorded": "Recorded", "computed": "Computed now"}, empty="")
    else:
        click.echo(f"{counted(certificate.lines, 'line')} verified, SHA-256 {certificate.sha256}")
    if differing:
        raise click.exceptions.Exit(1)


def _print(certificate: Certificate, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(certificate), "month": f"{month_name(certificate.month)}"})
        return
    fields: dict[str, object] = {
        "Month": f"{month_name(certificate.month)} of {certificate.organization_reference_id}",
        "Closed": f"{words(certificate.closed_at)} by {certificate.closed_by}",
        "Complete": f"from {words(certificate.complete_from)} through {words(certificate.complete_through)}: what "
        "OpenCard sent between these is applied, except the acknowledged gaps; what it sent before may be missing",
        "Feed position": certificate.position,
        "Lines": certificate.lines,
        **{f"Sum {currency or 'without currency'}": amount for currency, amount in sorted(certificate.sums.items())},
        **{
            f"VAT {currency or 'without currency'}": amount for currency, amount in sorted(certificate.vat_sums.items())
        },
        "SHA-256": f"{certificate.sha256} (receiver close --verify computes it again)",
        "Late changes": f"{certificate.late_changes} (ems.late_changes)",
        "Acknowledged gaps": certificate.acknowledged_gaps,
    }
    print_fields(fields)
    columns = {"occurred_at": "Occurred", "kind": "Kind", "id": "ID", "acknowledged_by": "By", "reason": "Reason"}
    if certificate.acknowledged:
        print_rows(list(certificate.acknowledged), columns, empty="")
