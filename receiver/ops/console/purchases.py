"""Purchases: finding one as a ticket names it, and one with everything that happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, abort, render_template, request

from receiver.ops.audit import arguments
from receiver.ops.console.deliveries import readable
from receiver.ops.console.filter_form import problems_of
from receiver.ops.console.parts import PageLinks, console, organizations, reading
from receiver.ops.console.purchase_form import PurchaseForm
from receiver.ops.console.recorded import SEARCH_PURCHASES, record_view
from receiver.ops.purchases import VIEW, find_purchases, held_deliveries, read_purchase, view_arguments

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.ops.purchases import PurchaseFilter, PurchasePage

blueprint = Blueprint("purchases", __name__, url_prefix="/purchases")


@blueprint.get("/")
def listing() -> str:
    """Show the purchases that are looked for, newest first; and deliveries that may bring them."""
    with reading() as connection:
        form = PurchaseForm.of(request.args, organizations(connection))
        if not form.validate():
            return render_template("purchases.html", form=form, problems=problems_of(form))
        wanted = form.wanted()
        page, first = _page(connection, wanted, request.args.get("before"))
        held = held_deliveries(connection, wanted) if first and wanted.restricts else None
    if wanted.is_about_a_person:
        about = [
            *(("organization", name) for name in wanted.organizations),
            ("card_holder", wanted.card_holder_reference_id is not None),
            ("last_four", wanted.last_four is not None),
        ]
        with console().engine.begin() as connection:
            record_view(connection, SEARCH_PURCHASES, arguments(about))
    return render_template(
        "purchases.html",
        form=form,
        wanted=wanted,
        page=page,
        held=held,
        links=PageLinks.of(request, older=page.before),
        organization=next(iter(wanted.organizations), None),
    )


def _page(connection: Connection, wanted: PurchaseFilter, before: str | None) -> tuple[PurchasePage, bool]:
    """Return a page, and whether it is the first; an address with a place that is none shows the first."""
    if before:
        try:
            return find_purchases(connection, wanted, before=before, limit=console().rows), False
        except ValueError:
            pass
    return find_purchases(connection, wanted, limit=console().rows), True


@blueprint.get("/purchase")
def purchase() -> str:
    """Show everything about one purchase; card holder and payloads only when asked for, which is recorded."""
    organization, transaction_id = request.args.get("organization", ""), request.args.get("id", "")
    personal = bool(request.args.get("personal"))
    with console().engine.begin() as connection:
        found = read_purchase(connection, organization, transaction_id, personal=personal)
        if found is None:
            abort(404)
        if personal:
            record_view(connection, VIEW, view_arguments(transaction_id, organization))
    return render_template("purchase.html", purchase=found, personal=personal, readable=readable)
