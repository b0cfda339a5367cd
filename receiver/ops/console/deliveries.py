"""Deliveries: the lists, one in full, and processing it again."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgspec
from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask_wtf import FlaskForm
from wtforms import IntegerField, StringField, SubmitField
from wtforms.validators import DataRequired, Length, NumberRange, Optional

from receiver.ops.audit import AuditFilter, arguments, list_acts
from receiver.ops.console.delivery_timeline import timeline_of
from receiver.ops.console.filter_form import FilterForm, filled_in, problems_of
from receiver.ops.console.parts import PageLinks, console, organizations, reading, whole
from receiver.ops.console.recorded import PERSONAL_ARGUMENT, SEARCH, VIEW, record_view
from receiver.ops.decisions import accept_deliveries
from receiver.ops.deliveries import error_group, list_deliveries, read_delivery, read_log_entries, verified_by
from receiver.ops.purchases.brief import read_purchases_of
from receiver.ops.replay import start_replay
from receiver.ops.resolving import resolve_deliveries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from werkzeug.wrappers import Response

    from receiver.ops.deliveries import DeliveryDetails

    class Retracting(Protocol):
        """``receiver.ops.retracting``."""

        def retract_deliveries(self, engine: Engine, ids: Sequence[int], *, by: str, reason: str) -> int:
            """Retract deliveries."""

        def undo_retraction(self, engine: Engine, ids: Sequence[int], *, reason: str) -> int:
            """Undo retractions."""


blueprint = Blueprint("deliveries", __name__, url_prefix="/deliveries")

VIEWS: Final = 20
"""How many of those who saw a payload are shown."""
LOOKED_AT: Final = 10_000
"""How many deliveries a page looks at for what no index knows; the next page goes on from there."""


class ReasonForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Why something is replayed."""

    reason = StringField(
        "Reason",
        [DataRequired("Give the reason: it is recorded."), Length(max=500)],
        render_kw={"placeholder": "what was wrong, and what was done about it", "autocomplete": "off"},
    )
    submit = SubmitField("Replay")


class ReplayForm(ReasonForm):
    """Why deliveries are replayed by a filter, and how many of them."""

    limit = IntegerField(
        "Only the newest",
        [Optional(), NumberRange(min=1, message="Give a number from 1 on, or nothing for all.")],
        description="To try a few first.",
    )


@blueprint.get("/")
def listing() -> str:
    """Show deliveries, newest first, without payloads."""
    with reading() as connection:
        form = FilterForm.of(request.args, organizations(connection))
        if not form.validate():
            return render_template("deliveries.html", form=form, problems=problems_of(form))
        wanted = form.wanted()
        page = list_deliveries(
            connection, wanted, before=whole(request.args.get("before")), limit=console().rows, max_examined=LOOKED_AT
        )
        purchases = read_purchases_of(connection, page.rows)
    if wanted.card_holder_reference_id:
        with console().engine.begin() as connection:
            record_view(connection, SEARCH, arguments([(PERSONAL_ARGUMENT, True)]))
    return render_template(
        "deliveries.html",
        form=form,
        may_replay=wanted.restricts and g.me.may_operate,
        page=page,
        purchases=purchases,
        links=PageLinks.of(request, older=page.before),
        arguments=filled_in(request.args),
    )


@blueprint.get("/<int:delivery_id>")
def delivery(delivery_id: int) -> str:
    """Show everything of one delivery, its payload included, and note who saw it."""
    return _delivery(delivery_id, ReasonForm(formdata=None))


@blueprint.post("/<int:delivery_id>/replay")
def replay(delivery_id: int) -> Response | tuple[str, int]:
    """Replay it."""
    form = ReasonForm()
    if not form.validate():
        return _delivery(delivery_id, form), 400
    replay_id = start_replay(console().engine, (delivery_id,), requested_by=g.me.name, reason=form.reason.data)
    if replay_id is None:
        flash("Nothing to replay: it is queued already, a test or retracted, or its body was deleted.", "warning")
        return redirect(url_for("deliveries.delivery", delivery_id=delivery_id))
    console().wake_worker()
    return redirect(url_for("replays.replay", replay_id=replay_id))


@blueprint.post("/<int:delivery_id>/resolve")
def resolve(delivery_id: int) -> Response | tuple[str, int]:
    """Resolve it without a replay: it no longer counts as open."""
    form = ReasonForm()
    if not form.validate():
        return _delivery(delivery_id, form), 400
    resolve_deliveries(console().engine, (delivery_id,), by=g.me.name, reason=form.reason.data)
    flash("Resolved: it keeps its status, and no longer counts as open.", "success")
    return redirect(url_for("deliveries.delivery", delivery_id=delivery_id))


@blueprint.post("/<int:delivery_id>/accept")
def accept(delivery_id: int) -> Response | tuple[str, int]:
    """Accept it as genuine, though OpenCard's log does not have it."""
    form = ReasonForm()
    if not form.validate():
        return _delivery(delivery_id, form), 400
    accept_deliveries(console().engine, (delivery_id,), by=g.me.name, reason=form.reason.data)
    flash("Accepted as genuine: it no longer counts as unconfirmed.", "success")
    return redirect(url_for("deliveries.delivery", delivery_id=delivery_id))


@blueprint.post("/<int:delivery_id>/retract")
def retract(delivery_id: int) -> Response | tuple[str, int]:
    """Retract it as forged, or undo that."""
    form = ReasonForm()
    if not form.validate():
        return _delivery(delivery_id, form), 400
    if request.form.get("undo"):
        _retracting().undo_retraction(console().engine, (delivery_id,), reason=form.reason.data)
        flash("The retraction is undone: the delivery counts again, and is unconfirmed.", "success")
    else:
        _retracting().retract_deliveries(console().engine, (delivery_id,), by=g.me.name, reason=form.reason.data)
        flash("Retracted: the tables of the EMS are computed without it.", "success")
    console().wake_worker()  # another delivery of its event may be processed again
    return redirect(url_for("deliveries.delivery", delivery_id=delivery_id))


def _retracting() -> Retracting:
    """Return what retracts; loaded at the first use, because deliveries need none of it."""
    return cast("Retracting", import_module("receiver.ops.retracting"))


def _delivery(delivery_id: int, form: ReasonForm) -> str:
    if whole(str(delivery_id)) is None:
        abort(404)
    with console().engine.begin() as connection:
        found = read_delivery(connection, delivery_id)
        if found is None:
            abort(404, f"There is no delivery {delivery_id}.")
        if request.method == "GET":
            record_view(connection, VIEW, str(delivery_id))
        steps = timeline_of(found, read_log_entries(connection, found))
        views = list_acts(connection, AuditFilter(action=VIEW, object=str(delivery_id)), limit=VIEWS)
    return render_template(
        "delivery.html",
        delivery=found,
        form=form,
        views=views,
        steps=steps,
        payload=readable(found.payload),
        same_error=_same_error(found),
        verified=verified_by(found.summary.verification),
    )


def readable(payload: str | None) -> str | None:
    """Return a payload with line breaks, its numbers and texts as they were sent; what is no JSON stays as it is."""
    if payload is None:
        return None
    try:
        return msgspec.json.format(payload.encode(), indent=2).decode()
    except (msgspec.DecodeError, RecursionError):
        return payload


def _same_error(found: DeliveryDetails) -> dict[str, str]:
    """Return the query string that finds deliveries with the same status, event and kind of error."""
    summary = found.summary
    return {"status": summary.status, "event": summary.event, "error": error_group(found.error)}
