"""Replays: what was processed again, by whom and why; processing many again; cancelling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for

from receiver.ops.console.deliveries import ReasonForm, ReplayForm
from receiver.ops.console.filter_form import FilterForm, filled_in, problems_of
from receiver.ops.console.parts import PageLinks, console, organizations, reading, whole
from receiver.ops.console.words import counted
from receiver.ops.replay import cancel_replay, start_replay
from receiver.ops.replay_selection import preview
from receiver.ops.replay_state import list_replays, read_replay, what_failed
from receiver.ops.resolving import RESOLVABLE, resolve_deliveries

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from receiver.ops.deliveries import Filter
    from receiver.ops.replay_selection import Preview

blueprint = Blueprint("replays", __name__, url_prefix="/replays")

PREVIEW_SECONDS: Final = 5.0
"""Seconds that a page looks for what is to be replayed. Whatever takes longer is for the command line."""


@blueprint.get("/")
def listing() -> str:
    """Show the replays, newest first."""
    before, most = whole(request.args.get("before")), console().rows
    with reading() as connection:
        found = list_replays(connection, before=before, limit=most + 1)
    rows = found[:most]
    older = rows[-1].replay_id if len(found) > most else None
    return render_template("replays.html", rows=rows, links=PageLinks.of(request, older=older))


@blueprint.get("/<int:replay_id>")
def replay(replay_id: int) -> str:
    """Show the state of one replay."""
    if whole(str(replay_id)) is None:
        abort(404)
    with reading() as connection:
        return render_template(
            "replay.html", replay=read_replay(connection, replay_id), failed=what_failed(connection, replay_id)
        )


@blueprint.post("/<int:replay_id>/cancel")
def cancel(replay_id: int) -> Response:
    """Cancel it."""
    cancel_replay(console().engine, replay_id, cancelled_by=g.me.name)
    console().wake_worker()
    flash("Cancelled: deliveries that were not processed yet keep their status.", "success")
    return redirect(url_for("replays.replay", replay_id=replay_id))


@blueprint.route("/new", methods=["GET", "POST"])
def new() -> Response | str | tuple[str, int]:
    """Show what a replay of all that fits the filter would process; process it."""
    wanted, seen = _wanted()
    form = ReplayForm()
    if request.method == "POST" and (seen.all_counted or form.limit.data) and form.validate():
        replay_id = start_replay(
            console().engine,
            wanted,
            requested_by=g.me.name,
            reason=form.reason.data,
            limit=form.limit.data,
        )
        if replay_id is None:
            flash("Nothing to replay: no deliveries match.", "warning")
            return redirect(_with_filter("deliveries.listing"))
        console().wake_worker()
        return redirect(url_for("replays.replay", replay_id=replay_id))
    page = render_template(
        "replay_new.html",
        form=form,
        preview=seen,
        arguments=filled_in(request.args),
        may_resolve=seen.all_counted and any(group.status in RESOLVABLE for group in seen.groups),
    )
    return (page, 400) if request.method == "POST" else page


@blueprint.post("/resolve")
def resolve() -> Response:
    """Resolve all deliveries that match the filter, without a replay."""
    wanted, seen = _wanted()
    form = ReasonForm()
    if not seen.all_counted or not form.validate():
        flash("Too many to resolve here." if not seen.all_counted else "Give the reason: it is recorded.", "warning")
        return redirect(_with_filter("replays.new"))
    number = resolve_deliveries(console().engine, wanted, by=g.me.name, reason=form.reason.data)
    flash(f"Resolved {counted(number, 'delivery', 'deliveries')}: the status stays, they no longer count.", "success")
    return redirect(_with_filter("deliveries.listing"))


def _wanted() -> tuple[Filter, Preview]:
    """Return the filter in the address, and what fits it; refuse the request if there is none."""
    with reading() as connection:
        asked = FilterForm.of(request.args, organizations(connection))
        if not asked.validate():
            abort(400, f"The filter is wrong: {' '.join(problems_of(asked))}")
        if not asked.wanted().restricts:
            abort(400, "No filter: filter the deliveries first, then replay what is shown.")
        return asked.wanted(), preview(connection, asked.wanted(), seconds=PREVIEW_SECONDS)


def _with_filter(endpoint: str) -> str:
    return f"{url_for(endpoint)}?{urlencode(filled_in(request.args))}"
