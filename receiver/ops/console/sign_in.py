"""Signing in and out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from flask import Blueprint, flash, g, redirect, render_template, request, session, url_for
from flask_login import current_user, login_user, logout_user
from flask_wtf import FlaskForm
from wtforms import PasswordField, StringField, SubmitField
from wtforms.validators import InputRequired, Length

from receiver.counters import count_failed_sign_in
from receiver.ops.console.limits import give_back, take_try
from receiver.ops.console.parts import console
from receiver.ops.console.passwords import Busy
from receiver.ops.console.sessions import Account

if TYPE_CHECKING:
    from datetime import timedelta

    from werkzeug.wrappers import Response

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("sign_in", __name__)


class SignInForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """The user's name and password."""

    name = StringField(
        "Name",
        [InputRequired("Enter your name."), Length(max=64)],
        render_kw={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false", "autofocus": True},
    )
    password = PasswordField(
        "Password",
        [InputRequired("Enter your password."), Length(max=1024)],
        render_kw={"autocomplete": "current-password"},
    )
    submit = SubmitField("Sign in")


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Response | str | tuple[str, int, dict[str, str]]:
    """Ask for name and password; sign the user in, or slow further attempts down."""
    passwords = console().passwords
    if passwords is None:
        return render_template("sign_in.html", form=None)
    form = SignInForm()
    if not form.validate_on_submit():
        return render_template("sign_in.html", form=form)
    name, address = form.name.data.strip(), request.remote_addr or "unknown"
    engine = console().engine
    with engine.begin() as connection:
        subjects, wait = take_try(connection, name, address)
    if wait:
        return _not_now(form, wait)
    try:
        user = passwords.check(name, form.password.data)
    except Busy:
        with engine.begin() as connection:
            give_back(connection, subjects)
        form.password.errors = ["Too many users are signing in. Try again in a few seconds."]
        return render_template("sign_in.html", form=form), 503, {"Retry-After": "5"}
    g.signing_in = name if passwords.knows(name) else "(unknown)"  # it may be a mistyped password
    if user is None:
        count_failed_sign_in()
        log.warning("sign_in.failed", user=g.signing_in, address=address)
        form.password.errors = ["Name or password is wrong."]
        return render_template("sign_in.html", form=form), 401, {}
    with engine.begin() as connection:
        give_back(connection, subjects)
    enter(Account.of_user(user), address)
    return redirect(safe_target(request.args.get("next", ""), request.root_path) or url_for("overview.overview"))


@blueprint.post("/sign-out")
def sign_out() -> Response | str:
    """End the session, and the provider's if it has one that can be ended.

    The page that leads there is no redirect: the Content-Security-Policy lets a form end at this console alone.
    """
    tokens, provider = console().sessions.end(current_user.token), console().provider
    logout_user()
    session.clear()
    if tokens is not None and provider is not None:
        target = provider.sign_out(tokens, back=url_for("sign_in.sign_in", _external=True))
        if target is not None:
            return render_template("signed_out.html", target=target, me=None)
    flash("You are signed out.", "success")
    return redirect(url_for("sign_in.sign_in"))


def safe_target(wanted: str, root: str) -> str | None:
    """Return the page of this console to go on with, as a path below *root*; ``None`` for anything else."""
    if not wanted.startswith("/") or wanted.startswith("//") or "\\" in wanted or not wanted.isprintable():
        return None
    parts = urlsplit(wanted)
    if parts.scheme or parts.netloc:
        return None
    return f"{root.rstrip('/')}{wanted}"


def enter(account: Account, address: str) -> None:
    """Begin the session of an authenticated user."""
    with console().engine.begin() as connection:
        signed_in = console().sessions.begin(connection, account, address)
    session.clear()  # nothing remains of the previous user of this browser
    login_user(signed_in)
    log.info("sign_in.succeeded", user=account.subject or account.name, address=address)


def _not_now(form: SignInForm, wait: timedelta) -> tuple[str, int, dict[str, str]]:
    seconds = math.ceil(wait.total_seconds())
    form.password.errors = [f"Too many failed attempts: try again in {seconds} second{'' if seconds == 1 else 's'}."]
    return render_template("sign_in.html", form=form), 429, {"Retry-After": str(seconds)}
