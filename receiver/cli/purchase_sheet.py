"""Everything about one purchase, section by section."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.cli.output import counted, print_fields, print_rows, printable, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from receiver.ops.deliveries import DeliverySummary
    from receiver.ops.purchases import FieldChange, Happening, HeldDeliveries, PurchaseDetails
    from receiver.ops.purchases.brief import PurchaseBrief

VAT: Final = {
    "vat_amount": "VAT",
    "taxable_amount": "taxable",
    "total_amount": "total",
    "currency": "currency",
}
LISTS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "receipts": (
        "receipts",
        {
            "fetched_at": "received",
            "purchase_merchant": "merchant",
            "original_amount": "amount",
            "original_currency": "currency",
            "download": "file",
            "file_key": "stored as",
            "download_error": "error",
        },
    ),
    "vat_totals": ("VAT in total", VAT),
    "vat_rates": ("VAT by rate", {"percentage": "percent", **VAT}),
    "line_items": (
        "items",
        {
            "description": "item",
            "quantity": "quantity",
            "amount": "price",
            "total_amount": "total",
            "currency": "currency",
        },
    ),
    "environmental_impacts": ("CO2", {"provider": "provider", "carbon_emission_in_grams": "grams"}),
}
"""Field of the details → its heading, and the columns of its table."""


_HELD: Final = {
    "id": "delivery",
    "status": "status",
    "organization_reference_id": "organization",
    "day": "day",
    "merchant": "merchant",
    "amount": "amount",
    "error": "error",
}


def print_purchase(details: PurchaseDetails) -> None:
    """Print everything about a purchase for people."""
    print_fields({"organization": details.organization_reference_id, "transaction": details.transaction_id})
    if details.transaction is None:
        click.echo("not in ems.transactions")
    else:
        print_fields(_present(details.transaction, but=("organization_reference_id", "id")))
    if details.person:
        _heading("personal data")
        print_fields(details.person)
    _heading("ledger")
    if details.ledger is None:
        click.echo(f"no line: {details.ledger_reason}")
    else:
        print_fields(_present(details.ledger))
    for name, (heading, columns) in LISTS.items():
        rows: Sequence[Mapping[str, Any]] = getattr(details, name)
        if rows:
            _heading(heading)
            print_rows(rows, columns, empty="")
    _heading("reconcile")
    for sentence in details.reconcile or ("nothing was received",):
        click.echo(sentence)
    _heading("timeline (UTC)")
    for happening in details.timeline:
        _print_happening(happening)


def print_held(held: HeldDeliveries, *, organizations: Sequence[str], found: bool) -> None:
    """Print which deliveries that were not applied may be of the purchase; nothing where none was compared.

    *found*: whether purchases were listed, so that it matters less that no delivery may be of it.
    """
    if held.matching:
        click.echo("not applied; may be the purchase you search for (receiver deliveries show):")
        print_rows([_held_cells(each, held.briefs.get(each.id)) for each in held.matching], _HELD, empty="")
    elif held.compared and not found:
        were = "1 delivery that was" if held.compared == 1 else f"{held.compared} deliveries that were"
        click.echo(f"{were} not applied {'was' if held.compared == 1 else 'were'} compared; none matches")
    if held.unreadable or (held.more and not found):
        of = "".join(f" --organization {each}" for each in organizations)
        unreadable = f"{counted(held.unreadable, 'delivery', 'deliveries')} cannot be read"
        why = unreadable if held.unreadable else "there are older deliveries that were not applied"
        click.echo(f"{why}: receiver deliveries list --status dead --status quarantined{of}")


def _held_cells(delivery: DeliverySummary, bought: PurchaseBrief | None) -> dict[str, object]:
    return {
        **asdict(delivery),
        "merchant": bought and bought.merchant,
        "day": bought and bought.day,
        "amount": bought and with_currency(bought.amount, bought.currency),
    }


def with_currency(amount: Decimal | None, currency: str | None) -> str | None:
    """Return an amount with its currency; ``None`` if it was not sent."""
    return None if amount is None else f"{amount:f} {currency or ''}".strip()


def _heading(name: str) -> None:
    click.echo()
    click.secho(name, bold=True)


def _present(row: Mapping[str, Any], *, but: Sequence[str] = ()) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None and name not in but}


def _print_happening(happening: Happening) -> None:
    status = f"  [{happening.status}]" if happening.status else ""
    number = f"delivery {happening.delivery_id}: " if happening.kind == "delivery" else ""
    click.echo(f"{happening.at:%Y-%m-%d %H:%M:%S}  {happening.kind:<17}  {number}{printable(happening.text)}{status}")
    if happening.first and not happening.payload:
        return
    for change in happening.changes:
        click.echo(f"{'':<40}{printable(change.name)}: {_values(change)}")


def _values(change: FieldChange) -> str:
    if change.hidden:
        return "changed (hidden)"
    return f"{words(change.before)} → {words(change.after)}"
