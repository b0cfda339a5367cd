"""The console as a separate application, which the web process serves under ``/ops``.

Apart, so that sessions, CSRF tokens and headers are the console's matter alone: a delivery never meets them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from flask import Flask, flash, g, redirect, request, session, url_for
from flask_bootstrap import Bootstrap5
from flask_login import LoginManager, current_user
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import BadRequest, Forbidden

from receiver.connections import WEB
from receiver.db import small_engine_for
from receiver.encryption import Encryption
from receiver.ops.attention import reconcile_interval
from receiver.ops.console import (
    audit,
    closings,
    deliveries,
    errors,
    issues,
    oidc,
    overview,
    purchases,
    reconcile,
    replays,
    sign_in,
    webhooks,
)
from receiver.ops.console.passwords import Passwords
from receiver.ops.console.recorded import record_post
from receiver.ops.console.sessions import SessionEnded, Sessions
from receiver.ops.console.words import FILTERS
from receiver.ops.openid.provider import OpenIDProvider

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any

    from flask import Response
    from sqlalchemy import Engine
    from werkzeug.wrappers import Response as AnyResponse

    from receiver.ops.console.sessions import SignedIn
    from receiver.settings import Settings

PATH: Final = "/ops"
CONNECTIONS: Final = 2
"""The console's share of the database in each web process; deliveries have others."""
STATEMENT_SECONDS: Final = 5
LARGEST_FORM: Final = 64 * 1024
OPEN: Final = frozenset({"static", "bootstrap.static", "sign_in.sign_in", "oidc.start", "oidc.finish"})
"""Endpoints that need no sign-in."""
FOR_EVERYBODY: Final = frozenset({"sign_in.sign_in", "sign_in.sign_out"})
"""The pages to which a viewer may POST, too."""
REFRESH: Final = "X-Refresh"
"""The header of a page's automatic refresh: it does not extend the session."""
NAVIGATION: Final = (
    ("overview.overview", "Overview"),
    ("issues.listing", "Issues"),
    ("purchases.listing", "Purchases"),
    ("deliveries.listing", "Deliveries"),
    ("replays.listing", "Replays"),
    ("webhooks.listing", "Webhooks"),
    ("reconcile.listing", "Reconciliation"),
    ("closings.listing", "Closed months"),
    ("audit.listing", "Audit"),
)
FOR_OPERATORS: Final = frozenset({"audit.listing"})
"""The pages that viewers do not see."""
# data: is how Bootstrap's style sheet draws the arrows of its fields
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Console:
    """The objects that the console's pages use."""

    settings: Settings
    engine: Engine
    passwords: Passwords | None
    """``None`` when no user has a password."""
    provider: OpenIDProvider | None
    """``None`` when users do not sign in by OpenID Connect."""
    sessions: Sessions
    wake_worker: Callable[[], object]
    rows: int = 50
    """Rows on a page of a list."""

    @property
    def interval(self) -> timedelta | None:
        """How often webhooks are reconciled, by the settings of this process; ``None`` if they are not."""
        return reconcile_interval(self.settings)


def console_application(settings: Settings, *, wake_worker: Callable[[], object]) -> Flask:
    """Return the application. Connects to PostgreSQL when a page first needs it."""
    users = {user.name: user for user in settings.ops_users}
    engine = small_engine_for(
        settings.database_url,
        application="console",
        connections=CONNECTIONS,
        timeouts=replace(WEB, statement=STATEMENT_SECONDS),
    )
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY=settings.secret_key,
        SESSION_COOKIE_NAME="receiver_console",
        SESSION_COOKIE_PATH=PATH,
        SESSION_COOKIE_SECURE=settings.public_url.startswith("https://"),
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        MAX_CONTENT_LENGTH=LARGEST_FORM,
        BOOTSTRAP_SERVE_LOCAL=True,
        WTF_CSRF_TIME_LIMIT=None,  # a token ends with its session
        WTF_CSRF_SSL_STRICT=False,  # browsers send no Referer: Referrer-Policy says so
    )
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.jinja_env.filters.update(FILTERS)
    provider = OpenIDProvider.of(settings)
    sessions = Sessions(engine, Encryption(settings.encryption_keys), users, provider)
    passwords = Passwords(users) if users else None
    app.extensions["console"] = Console(settings, engine, passwords, provider, sessions, wake_worker)
    Bootstrap5(app)
    CSRFProtect(app)
    manager = LoginManager()
    manager.init_app(app, add_context_processor=False)  # it would query the database for every template
    manager.session_protection = None  # a telephone's address changes
    manager.user_loader(partial(_signed_in, sessions))
    app.before_request(_admit)
    app.after_request(_protect)
    app.after_request(record_post)  # runs before the other: its answer is protected, too
    app.context_processor(lambda: {"me": g.get("me"), "navigation": _navigation(), "provider": provider})
    errors.register(app)
    for module in (sign_in, overview, issues, purchases, deliveries, replays, webhooks, reconcile, closings, audit):
        app.register_blueprint(module.blueprint)
    if provider is not None:
        app.register_blueprint(oidc.blueprint)

    def close() -> None:
        engine.dispose()
        if provider is not None:
            provider.close()

    app.extensions["console.close"] = close
    return app


def _signed_in(sessions: Sessions, token: str) -> SignedIn | None:
    """Return the session, and remember why there is none any more, if that was not the user's doing."""
    try:
        return sessions.find(token, seen=REFRESH not in request.headers)
    except SessionEnded as ended:
        g.session_ended = str(ended)
        return None


def _admit() -> AnyResponse | None:
    """Admit users who signed in; only operators may change anything. PostgreSQL's texts hold no NUL."""
    if any("\0" in value for value in request.values.values()):
        raise BadRequest("The request contains a character that is not allowed.")
    if request.endpoint in OPEN:
        return None
    if not current_user.is_authenticated:
        if request.endpoint is None:
            return None  # there is no such page for any user
        if "session_ended" in g:
            session.clear()
            flash(g.session_ended, "warning")
        wanted = request.full_path.rstrip("?") if request.method == "GET" else None
        return redirect(url_for("sign_in.sign_in", next=wanted if wanted != "/" else None))
    g.me = current_user._get_current_object()  # noqa: SLF001 - the way that Flask-Login documents
    changes = request.method not in {"GET", "HEAD", "OPTIONS"} and request.endpoint not in FOR_EVERYBODY
    if changes and not g.me.may_operate:
        raise Forbidden(
            "This needs the role operator, and you are a viewer. Ask an operator to do it, or ask those who maintain "
            "OPS_USERS or the groups in OPS_OIDC_ROLES for the role."
        )
    return None


def _navigation() -> list[tuple[str, str]]:
    """Return the pages that the user may see."""
    operates = "me" in g and g.me.may_operate
    return [page for page in NAVIGATION if operates or page[0] not in FOR_OPERATORS]


def _protect(response: Response) -> Response:
    headers: dict[str, Any] = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    response.headers.update(headers)
    if request.endpoint not in {"static", "bootstrap.static"}:
        response.headers["Cache-Control"] = "no-store"
    return response
