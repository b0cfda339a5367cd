"""Issues: what needs attention, since when, and what people said about it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask_wtf import FlaskForm
from wtforms import BooleanField, DateField, StringField
from wtforms.validators import DataRequired, Length, Optional, ValidationError

from receiver.ops.console.filter_form import UNCONFIRMED
from receiver.ops.console.parts import console, reading, whole
from receiver.ops.console.words import query
from receiver.ops.deliveries.filter import NO_VERSION
from receiver.ops.findings import FindingKind, Severity
from receiver.ops.issues import lifecycle
from receiver.ops.issues.lifecycle import State
from receiver.ops.issues.store import answer, list_issues, read_issue
from receiver.ops.status import NOT_APPLIED
from receiver.ops.unknown import named_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response

    from receiver.ops.issues.lifecycle import Issue

blueprint = Blueprint("issues", __name__, url_prefix="/issues")

ROWS: Final = 200
SHOWN: Final = {"current": (State.OPEN, State.ACKNOWLEDGED), "resolved": (State.RESOLVED,)}
"""The values of the parameter, and the states that each shows."""


_WEBHOOK: Final = re.compile(r"webhook ([0-9]{1,18})(?::|$)", re.ASCII)
_STATUSES: Final[dict[str, str]] = {
    FindingKind.DEAD: "dead",
    FindingKind.QUARANTINED: "quarantined",
    FindingKind.UNKNOWN_FORMAT: "ignored",
    FindingKind.UNCONFIRMED: UNCONFIRMED,
}
_FORMATS: Final = (FindingKind.UNKNOWN_FORMAT, FindingKind.UNKNOWN_VERSION)
"""The kinds whose subject names an event and a version."""


_AT_WEBHOOKS: Final[dict[str, tuple[str, str]]] = {
    FindingKind.WEBHOOK_INACTIVE: ("Register again …", "webhooks.register"),
    FindingKind.RECONCILE: ("Reconcile now …", "webhooks.webhook"),
    FindingKind.NOT_RECONCILED: ("Reconcile now …", "webhooks.webhook"),
}

_OF_COMMANDS: Final = {
    "receiver webhooks rotate-secret": ("Rotate secret …", "webhooks.rotate_secret"),
    "receiver reconcile": ("Reconcile now …", "webhooks.webhook"),
}
"""What the page of a webhook does that the command of a refusal does."""


class AnswerForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """The form that acknowledges or resolves an issue."""

    note = StringField(
        "Note",
        [DataRequired("Enter a note: it is shown with the issue."), Length(max=500)],
        render_kw={"autocomplete": "off"},
    )
    until = DateField("Until (optional)", [Optional()])
    until_it_grows = BooleanField("Only until its count grows")

    def validate_until(self, field: DateField) -> None:
        """Refuse a day that is over."""
        if field.data <= datetime.now(UTC).date():
            raise ValidationError("Choose a day in the future.")

    @property
    def ends_at(self) -> datetime | None:
        """When an acknowledgement ends: at the beginning of the day, in UTC."""
        return None if self.until.data is None else datetime.combine(self.until.data, datetime.min.time(), UTC)


@blueprint.get("/")
def listing() -> str:
    """Show the issues that are open or acknowledged; or those that are resolved."""
    shown = request.args.get("show", "current")
    states = SHOWN.get(shown)
    if states is None:
        abort(404)
    with reading() as connection:
        found = list_issues(connection, states=states, limit=ROWS)
    return render_template("issues.html", rows=found, shown=shown, severities=_SEVERITIES, most=ROWS)


@blueprint.get("/<int:issue_id>")
def issue(issue_id: int) -> str:
    """Show one issue, with the forms to answer it."""
    return _page(issue_id, AnswerForm())


@blueprint.post("/<int:issue_id>/acknowledge")
def acknowledge(issue_id: int) -> Response | tuple[str, int]:
    """Note that the issue is known."""
    form = AnswerForm()
    return _answer(
        issue_id,
        form,
        lambda: partial(
            lifecycle.acknowledge,
            by=g.me.name,
            note=form.note.data,
            until=form.ends_at,
            until_it_grows=form.until_it_grows.data,
        ),
        "Acknowledged: status and the alert ReceiverIssueOpen no longer count it.",
    )


@blueprint.post("/<int:issue_id>/resolve")
def resolve(issue_id: int) -> Response | tuple[str, int]:
    """Note that the issue is resolved."""
    form = AnswerForm()
    return _answer(
        issue_id,
        form,
        lambda: partial(lifecycle.resolve, by=g.me.name, note=form.note.data, at=datetime.now(UTC)),
        "Resolved: it reopens when it grows, or recurs.",
    )


_SEVERITIES: Final = {int(severity): severity.name.lower() for severity in Severity}


def _answer(
    issue_id: int, form: AnswerForm, change: Callable[[], Callable[[Issue], Issue]], done: str
) -> Response | tuple[str, int]:
    if not form.validate():
        return _page(issue_id, form), 400
    with console().engine.begin() as connection:
        answer(connection, issue_id, change())
    flash(done, "success")
    return redirect(url_for("issues.issue", issue_id=issue_id))


def deliveries_of(issue: Issue) -> dict[str, str] | None:
    """Return the filter that lists what an issue is about; ``None`` where deliveries have no such filter."""
    status = _STATUSES.get(issue.kind)
    named = named_format(issue.subject) if issue.kind in _FORMATS else None
    if status is None and named is None:
        return None
    found = {} if status is None else {"status": status}
    if status in NOT_APPLIED:
        found["only_unresolved"] = "y"
    event, separator, error = issue.subject.partition(": ")
    if status in {"dead", "quarantined"} and separator:
        found |= {"event": event, "error": error}
    if named is not None:
        found |= {"event": named[0], "version": NO_VERSION if named[1] is None else named[1]}
    if issue.organization_reference_id:
        found["organization"] = issue.organization_reference_id
    return found


def actions_of(issue: Issue) -> list[tuple[str, str]]:
    """Return where the console helps with an issue: what each link is called, and its address."""
    found: list[tuple[str, str]] = []
    listed, webhook = deliveries_of(issue), _webhook_of(issue)
    if listed is not None:
        found.append(("Deliveries", f"{url_for('deliveries.listing')}?{query(listed.items())}"))
        if issue.kind != FindingKind.UNCONFIRMED:
            found.append(("Replay …", f"{url_for('replays.new')}?{query(listed.items())}"))
    if webhook is not None and (action := _at_webhook(issue)) is not None:
        found.append((action[0], url_for(action[1], webhook_id=webhook)))
    if issue.kind == FindingKind.WITHOUT_WEBHOOK:
        found.append(("Webhooks", url_for("webhooks.listing")))
    return found


def _at_webhook(issue: Issue) -> tuple[str, str] | None:
    """Return what can be done to the webhook that has the trouble, and the endpoint of its page."""
    if issue.kind != FindingKind.REFUSED:
        return _AT_WEBHOOKS.get(issue.kind)
    for command, action in _OF_COMMANDS.items():
        if issue.command.startswith(command):
            return action
    return None


def _page(issue_id: int, form: AnswerForm) -> str:
    if whole(str(issue_id)) is None:
        abort(404)
    with reading() as connection:
        stored = read_issue(connection, issue_id)
    return render_template(
        "issue.html",
        stored=stored,
        issue=stored.issue,
        form=form,
        severities=_SEVERITIES,
        actions=actions_of(stored.issue) if g.me.may_operate else [],
        deliveries=deliveries_of(stored.issue),
        webhook=_webhook_of(stored.issue),
    )


def _webhook_of(issue: Issue) -> int | None:
    """Return this service's id of the webhook that has the trouble, if it is one's."""
    found = _WEBHOOK.match(issue.subject)
    return int(found[1]) if found else None
