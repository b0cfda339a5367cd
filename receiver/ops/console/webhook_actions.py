"""What operators do to a webhook: each on a page that says what it changes at OpenCard, before it is done."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from shlex import quote
from typing import TYPE_CHECKING, Final, Protocol, cast

from flask import abort, flash, g, redirect, render_template, request, url_for
from flask_wtf import FlaskForm
from wtforms import SelectField
from wtforms.validators import InputRequired

from receiver.errors import ConfigurationError, OpenCardError, OperationRefused
from receiver.ops.console.parts import console, reading, whole
from receiver.ops.webhook_details import read_webhook
from receiver.settings import unset_for_api

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from werkzeug.wrappers import Response

    from receiver.settings import Settings

    class Actions(Protocol):
        """``receiver.ops.webhook_actions``."""

        EVENTS: Sequence[str]

        def rotate_secret(self, settings: Settings, webhook_id: int) -> str:
            """Give it a new secret."""

        def send_test(self, settings: Settings, webhook_id: int, event: str) -> str:
            """Have a test delivery sent."""

        def register(self, settings: Settings, webhook_id: int) -> str:
            """Register it again."""


USUAL_EVENT: Final = "card.transaction.cleared"


@dataclass(frozen=True, slots=True)
class WebhookAction:
    """The texts of an action's page."""

    title: str
    button: str
    changes: str
    """The changes at OpenCard and here."""
    command: str
    """The command that does the same, with the webhook's ``id`` and ``organization``."""


ROTATE: Final = WebhookAction(
    "Rotate secret",
    "Rotate secret",
    "The webhook gets a new secret, here and at OpenCard. Deliveries signed with the previous one are accepted for 24 "
    "hours more. To end it at once, use the command with --overlap 0.",
    "receiver webhooks rotate-secret {id}",
)
TEST: Final = WebhookAction(
    "Test delivery",
    "Send a test",
    "OpenCard sends an example to the test webhook of the organization, which is registered at the first test and "
    "enabled during each. Test deliveries are stored as ignored and never reach the tables of the EMS.",
    "receiver webhooks test card.transaction.cleared --webhook {id}",
)
REGISTER: Final = WebhookAction(
    "Register again",
    "Register again",
    "What OpenCard has registered for the organization is compared with the configuration that was applied last, and "
    "changed where it differs. An inactive webhook gets a new URL, and OpenCard challenges it; the previous URL stays "
    "valid until the new one is active.",
    "receiver bootstrap --organization {organization}",
)


class ConfirmForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Nothing but the token of the session."""


class TestForm(ConfirmForm):
    """Which event is sent."""

    event = SelectField("Event", [InputRequired()], default=USUAL_EVENT)


def rotate_secret(webhook_id: int) -> Response | str | tuple[str, int]:
    """Give the webhook a new secret."""
    return _page(webhook_id, ROTATE, ConfirmForm(), lambda: _actions().rotate_secret(console().settings, webhook_id))


def send_test(webhook_id: int) -> Response | str | tuple[str, int]:
    """Have OpenCard send a test delivery."""
    form = TestForm()
    form.event.choices = list(_actions().EVENTS)
    return _page(webhook_id, TEST, form, lambda: _actions().send_test(console().settings, webhook_id, form.event.data))


def register(webhook_id: int) -> Response | str | tuple[str, int]:
    """Register the webhook again where it differs."""
    return _page(webhook_id, REGISTER, ConfirmForm(), lambda: _actions().register(console().settings, webhook_id))


def commands_of(webhook: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """Return what can be done to a webhook: the page's endpoint, what it is called, and the command."""
    pages = {"rotate_secret": ROTATE, "send_test": TEST, "register": REGISTER}
    return [(f"webhooks.{name}", action.title, _command(action, webhook)) for name, action in pages.items()]


def _page(
    webhook_id: int, action: WebhookAction, form: ConfirmForm, carry_out: Callable[[], str]
) -> Response | str | tuple[str, int]:
    """Show what is to be confirmed; do it once it is."""
    if whole(str(webhook_id)) is None:
        abort(404)
    with reading() as connection:
        details = read_webhook(connection, webhook_id)
    if details is None or details.webhook["test"]:
        abort(404)
    missing, error, status = unset_for_api(console().settings), None, 200
    if request.method == "POST" and missing:
        status = 409
    elif request.method == "POST" and not form.validate():
        status = 400
    elif request.method == "POST":
        try:
            flash(carry_out(), "success")
        except (OperationRefused, OpenCardError, ConfigurationError) as refused:
            g.error = type(refused).__name__
            error, status = str(refused), 502 if isinstance(refused, OpenCardError) else 409
        else:
            return redirect(url_for("webhooks.webhook", webhook_id=webhook_id))
    shown = render_template(
        "webhook_action.html",
        action=action,
        command=_command(action, details.webhook),
        webhook=details.webhook,
        form=form,
        missing=missing,
        error=error,
    )
    return shown, status


def _command(action: WebhookAction, webhook: Mapping[str, object]) -> str:
    return action.command.format(id=webhook["id"], organization=quote(str(webhook["organization_reference_id"])))


def _actions() -> Actions:
    """Return what carries them out; loaded at the first use, because deliveries need none of it."""
    return cast("Actions", import_module("receiver.ops.webhook_actions"))
