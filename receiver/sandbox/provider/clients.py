"""OAuth clients and their tokens (contract, section 2)."""

from __future__ import annotations

import hmac
import secrets
import uuid
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from threading import RLock
from typing import TYPE_CHECKING, Final

from receiver.sandbox.provider.refusals import Refused, malformed, not_found
from receiver.sandbox.provider.resources import Client, IssuedToken
from receiver.sandbox.provider.scopes import SCOPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

SECRET_BYTES: Final = 30


class Clients:
    """The clients of all accounts, and every token that was issued; safe for threads."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = RLock()
        self._clients: dict[str, Client] = {}
        self._tokens: dict[str, IssuedToken] = {}

    def add(
        self,
        client_id: str | None = None,
        *,
        account_id: int = 1,
        name: str = "EMS",
        scopes: Iterable[str] = SCOPES,
        secret: str | None = None,
    ) -> Client:
        """Make a client; its id and secret are generated unless they are given."""
        client = Client(
            id=client_id or str(uuid.uuid4()),
            account_id=account_id,
            name=name,
            scopes=tuple(scopes),
            secret=secret or secrets.token_urlsafe(SECRET_BYTES),
        )
        with self._lock:
            self._clients[client.id] = client
        return client

    def of_account(self, account_id: int) -> list[Client]:
        """Return the clients of an account, in the order in which they were made."""
        with self._lock:
            return [client for client in self._clients.values() if client.account_id == account_id]

    def get(self, client_id: str) -> Client:
        """Return a client. Raises ``Refused`` (404) for an unknown one."""
        with self._lock:
            if client_id not in self._clients:
                raise not_found()
            return self._clients[client_id]

    def set_scopes(self, client_id: str, scopes: Iterable[str]) -> Client:
        """Give a client these scopes instead of its own; tokens that it has keep theirs."""
        return self._change(client_id, scopes=tuple(scopes))

    def rotate_secret(self, client_id: str) -> str:
        """Give a client a new secret and return it; tokens that it has stay good."""
        return self._change(client_id, secret=secrets.token_urlsafe(SECRET_BYTES)).secret

    def _change(self, client_id: str, **changes: object) -> Client:
        with self._lock:
            self._clients[client_id] = replace(self.get(client_id), **changes)  # type: ignore[arg-type]
            return self._clients[client_id]

    def token(self, value: str) -> IssuedToken | None:
        """Return the token, or ``None`` when it is unknown, revoked or expired."""
        with self._lock:
            token = self._tokens.get(value)
        return token if token and self._now() < token.expires_at else None

    def revoke(self, value: str) -> None:
        """Make one token useless, if it is one."""
        with self._lock:
            self._tokens.pop(value, None)

    def revoke_tokens(self, client_id: str | None = None) -> None:
        """Make all tokens useless, or all of one client."""
        with self._lock:
            self._tokens = {
                value: token
                for value, token in self._tokens.items()
                if client_id is not None and token.client_id != client_id
            }

    def issue(self, form: Mapping[str, str], *, expires_in: int, grants_silently: bool) -> IssuedToken:
        """Return a new token for the fields of a request to the token endpoint.

        *expires_in* is in seconds. *grants_silently* leaves scopes out that the client lacks, instead of refusing.
        Raises ``Refused`` with the error codes of OAuth 2.0.
        """
        if form.get("grant_type") != "client_credentials":
            raise malformed("unsupported_grant_type")
        with self._lock:
            client = self._clients.get(form.get("client_id", ""))
        secret = form.get("client_secret", "")
        if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
            raise Refused(HTTPStatus.UNAUTHORIZED, "invalid_client")
        requested = frozenset(form.get("scope", "").split())
        if requested - set(client.scopes) and not grants_silently:
            raise malformed("invalid_scope")
        token = IssuedToken(
            value=secrets.token_urlsafe(SECRET_BYTES),
            client_id=client.id,
            account_id=client.account_id,
            scopes=requested & set(client.scopes),
            expires_at=self._now() + timedelta(seconds=expires_in),
        )
        with self._lock:
            self._tokens[token.value] = token
        return token
