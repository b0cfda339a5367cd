"""Each form that a user sends, and each look at personal data, is recorded in receiver.audit."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog
from flask import current_app, g, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from receiver.ops.audit import Act, ActOutcome, Via, arguments, record
from receiver.ops.console.errors import not_recorded
from receiver.ops.console.filter_form import filled_in
from receiver.ops.console.parts import console

if TYPE_CHECKING:
    from flask import Response
    from sqlalchemy import Connection

log = structlog.stdlib.get_logger(__name__)

PERSONAL_ARGUMENT: Final = "card_holder"
"""The field of the filter whose value is personal."""
VIEW: Final = "deliveries show"
"""The action of viewing a payload."""
SEARCH: Final = "deliveries list"
"""The action of looking for a card holder's deliveries."""
SEARCH_PURCHASES: Final = "transactions list"
"""The action of looking for a card holder's purchases, or those of a card."""
ARGUMENTS: Final = {"closings.close": ("organization", "month"), "webhooks.send_test": ("event",)}
"""POST → the fields of its form that are arguments of the command that does the same."""
ANSWERS: Final = ("limit", "until", "until_it_grows", "undo")
"""The fields of forms that are recorded as the options of the command that does the same."""
ACTIONS: Final = {
    "sign_in.sign_in": ("sign-in", ""),
    "sign_in.sign_out": ("sign-out", ""),
    "issues.acknowledge": ("issues acknowledge", ""),
    "issues.resolve": ("issues resolve", ""),
    "deliveries.replay": ("replay", ""),
    "deliveries.resolve": ("deliveries resolve", ""),
    "deliveries.accept": ("deliveries accept", ""),
    "deliveries.retract": ("deliveries retract", ""),
    "replays.new": ("replay", ""),
    "replays.resolve": ("deliveries resolve", ""),
    "webhooks.reconcile": ("reconcile", "webhook"),
    "webhooks.rotate_secret": ("webhooks rotate-secret", ""),
    "webhooks.send_test": ("webhooks test", "webhook"),
    "webhooks.register": ("bootstrap", "webhook"),
    "replays.cancel": ("replay", "cancel"),
    "closings.close": ("close", ""),
}
"""POST → the action, and the option that the number in the address is given by; none where it is an argument."""


def record_view(connection: Connection, action: str, about: str | None = None) -> None:
    """Record that a user is shown personal data, by the same transaction that reads them or before."""
    record(connection, _act(g.me.name, action, about))


def record_sign_in(connection: Connection, actor: str, outcome: ActOutcome) -> None:
    """Record a sign-in that is no form: by OpenID Connect. *actor* is the user's name, as far as it is known."""
    record(connection, _act(actor, "sign-in", None, outcome=outcome))


def record_post(response: Response) -> Response:
    """Record a form that was sent, with its outcome.

    A stranger's forms are left out, and so are those whose token is of another session: they change nothing, and
    anybody could fill the table with them. A try to sign in is on record once its password was checked, which is
    possible a few times only.
    """
    actor = g.get("signing_in") or (g.me.name if "me" in g else None)
    if request.method != "POST" or request.endpoint is None or actor is None:
        return response
    action, option = ACTIONS.get(request.endpoint, (request.endpoint.replace(".", " "), ""))
    numbers = [(option, value) for value in (request.view_args or {}).values()]
    numbers += [("", request.form[name]) for name in ARGUMENTS.get(request.endpoint, ()) if name in request.form]
    filtered = [(name, True if name == PERSONAL_ARGUMENT else value) for name, value in filled_in(request.args)]
    answers = [
        (name, True if request.form[name] == "y" else request.form[name]) for name in ANSWERS if request.form.get(name)
    ]
    act = _act(
        actor,
        action,
        arguments([*numbers, *filtered, *answers]),
        reason=request.form.get("reason") or request.form.get("note") or None,
        outcome=_outcome(response.status_code),
        error=g.get("error"),
    )
    try:
        with console().engine.begin() as connection:
            record(connection, act)
    except (DBAPIError, NoConnectionFree) as error:
        log.error(  # noqa: TRY400 - the trace says nothing more
            "audit.not_recorded",
            actor=act.actor,
            action=act.action,
            object=act.object,
            outcome=act.outcome,
            error=type(error).__name__,
        )
        return response if act.outcome is ActOutcome.FAILED else current_app.make_response(not_recorded())
    return response


def _act(
    actor: str,
    action: str,
    about: str | None,
    *,
    reason: str | None = None,
    outcome: ActOutcome = ActOutcome.DONE,
    error: str | None = None,
) -> Act:
    return Act(
        actor=actor,
        via=Via.CONSOLE,
        address=request.remote_addr,
        action=action,
        object=about,
        reason=reason,
        outcome=outcome,
        error=error,
    )


def _outcome(status: int) -> ActOutcome:
    if status < HTTPStatus.BAD_REQUEST:
        return ActOutcome.DONE
    return ActOutcome.REFUSED if status < HTTPStatus.INTERNAL_SERVER_ERROR else ActOutcome.FAILED
