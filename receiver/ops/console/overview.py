"""The first page: how the service stands, what failed, and what needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, render_template

from receiver.ops.console.parts import console, query_of, reading
from receiver.ops.status import read_standing, what_needs_a_person

if TYPE_CHECKING:
    from receiver.ops.status import Standing

blueprint = Blueprint("overview", __name__)


@blueprint.get("/")
def overview() -> str:
    """Show how the service stands."""
    with reading() as connection:
        standing: Standing = read_standing(query_of(connection))
    return render_template(
        "overview.html", standing=standing, attention=what_needs_a_person(standing, interval=console().interval)
    )
