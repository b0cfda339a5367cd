"""Signing in by OpenID Connect: to the provider with state, nonce and PKCE, and back with a code.

The browser's cookie keeps the state. Nonce and PKCE's verifier are computed from it with ``SECRET_KEY``, so that the
cookie, which its user can read, holds no secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from flask import Blueprint, flash, redirect, request, session, url_for
from werkzeug.exceptions import NotFound

from receiver.counters import count_failed_sign_in
from receiver.ops.audit import ActOutcome
from receiver.ops.console.limits import give_back, take_try
from receiver.ops.console.parts import console
from receiver.ops.console.recorded import record_sign_in
from receiver.ops.console.sessions import Account, how_to_get_a_role
from receiver.ops.console.sign_in import enter, safe_target
from receiver.ops.openid.answers import NoRole, ProviderRefused, ProviderUnavailable

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from receiver.ops.openid.provider import OpenIDProvider

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("oidc", __name__)

PENDING: Final = "oidc"
"""Where the session keeps the sign-in that the browser began last."""
MAX_SECONDS: Final = 600
"""How long a user may take to sign in at the provider."""
MAX_NEXT: Final = 1_000
"""Characters of the page to go on with; a cookie has room for some 4,000."""
ERROR: Final = re.compile(r"[a-z_]{1,64}")
"""What OAuth's errors look like; anything else is not repeated."""


@blueprint.get("/sign-in/oidc")
def start() -> Response:
    """Send the browser to the provider."""
    provider, state = _provider(), secrets.token_urlsafe(32)
    try:
        address = provider.authorization_url(
            redirect_uri=_redirect_uri(), state=state, nonce=_derived("nonce", state), verifier=_derived("pkce", state)
        )
    except ProviderUnavailable as unavailable:
        return _unavailable(provider, unavailable)
    wanted = request.args.get("next", "")
    session[PENDING] = {"state": state, "next": wanted if len(wanted) <= MAX_NEXT else "", "at": int(time.time())}
    return redirect(address)


@blueprint.get("/sign-in/oidc/callback")
def finish() -> Response:
    """Sign in the user whom the provider sends back, if this browser began the sign-in and the user has a role."""
    provider, address, began = _provider(), request.remote_addr or "unknown", _begun()
    if began is None:
        return _back("This sign-in began in another window, or too long ago. Begin again.")
    del session[PENDING]  # it is good once
    code, state = request.args.get("code"), began["state"]
    if not code:
        error = request.args.get("error", "")
        return _refused(provider, address, error if ERROR.fullmatch(error) else "no code")
    with console().engine.begin() as connection:
        subjects, wait = take_try(connection, None, address)
    if wait:
        seconds = math.ceil(wait.total_seconds())
        return _back(f"Too many failed attempts: try again in {seconds} second{'' if seconds == 1 else 's'}.")
    try:
        member = provider.sign_in(
            code,
            answered_by=request.args.get("iss"),
            redirect_uri=_redirect_uri(),
            nonce=_derived("nonce", state),
            verifier=_derived("pkce", state),
        )
    except ProviderRefused as refused:  # and the try counts
        with console().engine.begin() as connection:
            record_sign_in(connection, "(unknown)", ActOutcome.REFUSED)
        return _refused(provider, address, str(refused))
    except NoRole as without:
        with console().engine.begin() as connection:
            record_sign_in(connection, without.name, ActOutcome.REFUSED)
        answer = _without_role(provider, address, without.name)
    except ProviderUnavailable as unavailable:
        answer = _unavailable(provider, unavailable)
    else:
        account = Account.of_member(member, provider, console().sessions.users)
        with console().engine.begin() as connection:
            record_sign_in(connection, account.name, ActOutcome.DONE)
        enter(account, address)
        answer = redirect(safe_target(began["next"], request.root_path) or url_for("overview.overview"))
    with console().engine.begin() as connection:
        give_back(connection, subjects)
    return answer


def _provider() -> OpenIDProvider:
    provider = console().provider
    if provider is None:
        raise NotFound
    return provider


def _redirect_uri() -> str:
    """Return the address that is registered at the provider: of this console as the browser reaches it."""
    return url_for("oidc.finish", _external=True)


def _begun() -> dict[str, Any] | None:
    """Return the sign-in that this browser began, if the provider's answer is to it and in time."""
    began = session.get(PENDING)
    if not isinstance(began, dict) or time.time() - began["at"] > MAX_SECONDS:
        return None
    state = request.args.get("state", "")
    return began if hmac.compare_digest(state.encode(), began["state"].encode()) else None


def _derived(purpose: str, state: str) -> str:
    """Return what belongs to a sign-in and must not be guessed, as 43 URL-safe characters."""
    key = console().settings.secret_key.encode()
    digest = hmac.new(key, f"oidc {purpose} {state}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _refused(provider: OpenIDProvider, address: str, reason: str) -> Response:
    count_failed_sign_in()
    log.warning("oidc.refused", provider=provider.host, reason=reason, address=address)
    return _back(f"{provider.host} did not confirm the sign-in. Try again; the log of the web process says why.")


def _without_role(provider: OpenIDProvider, address: str, name: str) -> Response:
    count_failed_sign_in()
    log.warning("oidc.refused", provider=provider.host, reason="no-role", address=address)
    return _back(f"{name} is signed in at {provider.host}, but {how_to_get_a_role(provider)}")


def _unavailable(provider: OpenIDProvider, unavailable: ProviderUnavailable) -> Response:
    log.warning("oidc.unavailable", provider=provider.host, error=str(unavailable))
    return _back(f"{provider.host} does not answer as it should. Try again in a few minutes.")


def _back(problem: str) -> Response:
    """Lead to the sign-in page, which says what is wrong: an address with a code in it is not to be loaded again."""
    flash(problem, "danger")
    return redirect(url_for("sign_in.sign_in"))
