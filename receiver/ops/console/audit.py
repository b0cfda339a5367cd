"""The audit: who did what."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, g, render_template, request
from werkzeug.exceptions import Forbidden

from receiver.ops.audit import AuditFilter, list_acts
from receiver.ops.console.parts import PageLinks, console, reading, whole

blueprint = Blueprint("audit", __name__, url_prefix="/audit")

FILTERS: Final = ("actor", "action")
"""The filters in the address."""


@blueprint.get("/")
def listing() -> str:
    """Show who did what, newest first."""
    if not g.me.may_operate:
        raise Forbidden("Records of what users did are for operators: ask one of them.")
    wanted = {name: request.args[name] for name in FILTERS if request.args.get(name)}
    most = console().rows
    with reading() as connection:
        found = list_acts(
            connection,
            AuditFilter(actor=wanted.get("actor"), action=wanted.get("action")),
            before=whole(request.args.get("before")),
            limit=most + 1,
        )
    rows = found[:most]
    older = rows[-1].id if len(found) > most else None
    return render_template("audit.html", rows=rows, wanted=wanted, links=PageLinks.of(request, older=older))
