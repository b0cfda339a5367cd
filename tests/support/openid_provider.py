"""An OpenID provider that runs on loopback: one client, one user who is signed in there, and whatever can go wrong."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flask import Flask, abort, jsonify, redirect, request
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey
from joserfc.util import json_b64encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Response
    from werkzeug.wrappers import Response as AnyResponse

CLIENT_ID = "opencard-receiver"
CLIENT_SECRET = "openid-client-secret-of-32-characters"


def new_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"use": "sig", "kid": secrets.token_hex(4)})


KEY = new_key()


@dataclass
class Grant:
    """What a code was issued for."""

    redirect_uri: str
    challenge: str
    nonce: str


@dataclass
class OpenIdProvider:
    """The provider; tests set its fields while it runs."""

    groups: Any = field(default_factory=lambda: ["ops-admins"])
    name: dict[str, Any] = field(default_factory=lambda: {"email": "jane@example.com", "email_verified": True})
    """Claims that name the user."""
    key: RSAKey = field(default_factory=lambda: KEY)
    changes: dict[str, Any] = field(default_factory=dict)
    """Claims of the next ID tokens that are not what they should be; ``None`` leaves one out."""
    forged: str = ""
    """``none``, ``HS256``, or ``foreign`` for a key that is not published."""
    answers_with: int = 200
    """The status of every answer but the browser's."""
    refused: str = ""
    """The error with which the token endpoint answers."""
    gives_refresh_tokens: bool = True
    groups_in_id_token: bool = True
    user_of_userinfo: str = "user-1"
    metadata: dict[str, Any] = field(default_factory=dict)
    """Changes to what is published."""
    asked: list[str] = field(default_factory=list)
    """The paths of all requests, in order."""
    grants: dict[str, Grant] = field(default_factory=dict)
    refresh_tokens: set[str] = field(default_factory=set)
    access_tokens: set[str] = field(default_factory=set)

    def application(self) -> Flask:
        app = Flask("openid-provider")
        app.before_request(self._note)
        app.add_url_rule("/.well-known/openid-configuration", view_func=self._published)
        app.add_url_rule("/authorize", view_func=self._authorize)
        app.add_url_rule("/token", view_func=self._token, methods=["POST"])
        app.add_url_rule("/keys", view_func=self._published_keys)
        app.add_url_rule("/userinfo", view_func=self._userinfo)
        app.add_url_rule("/revoke", view_func=self._revoke, methods=["POST"])
        app.add_url_rule("/logout", view_func=self._logout)
        return app

    def revoke(self) -> None:
        """End the user's session here: no token is good any more."""
        self.refresh_tokens.clear()
        self.access_tokens.clear()

    def _note(self) -> None:
        self.asked.append(request.path)
        if request.path not in {"/authorize", "/logout"} and self.answers_with != 200:
            abort(self.answers_with)

    def _published(self) -> Response:
        base = request.host_url.rstrip("/")
        published = {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/keys",
            "userinfo_endpoint": f"{base}/userinfo",
            "end_session_endpoint": f"{base}/logout",
            "revocation_endpoint": f"{base}/revoke",
            "scopes_supported": ["openid", "profile", "email", "offline_access", "phone"],
            "response_types_supported": ["code"],
        }
        return jsonify({name: value for name, value in (published | self.metadata).items() if value is not None})

    def _published_keys(self) -> Response:
        unknown = {"kty": "LATTICE", "kid": "of-a-later-kind"}
        return jsonify({"keys": [unknown, *KeySet([self.key]).as_dict(private=False)["keys"]]})

    def _authorize(self) -> AnyResponse:
        """Redirect at once: the user has signed in here before."""
        given = request.args
        assert given["client_id"] == CLIENT_ID
        assert given["response_type"] == "code"
        assert given["code_challenge_method"] == "S256"
        assert {"openid", "email", "offline_access"} <= set(given["scope"].split())
        code = secrets.token_urlsafe(8)
        self.grants[code] = Grant(given["redirect_uri"], given["code_challenge"], given["nonce"])
        issuer = request.host_url.rstrip("/")
        return redirect(f"{given['redirect_uri']}?{urlencode({'code': code, 'state': given['state'], 'iss': issuer})}")

    def _token(self) -> Response | tuple[Response, int]:
        client = request.authorization
        if client is None or (client.username, client.password) != (CLIENT_ID, CLIENT_SECRET):
            return jsonify(error="invalid_client"), 401
        if self.refused:
            return jsonify(error=self.refused, error_description='a "quoted" reason'), 400
        nonce = self._granted(request.form)
        return self._issued(nonce) if nonce is not None else (jsonify(error="invalid_grant"), 400)

    def _granted(self, form: Mapping[str, str]) -> str | None:
        """Return the nonce of a sign-in, empty for a refresh token; ``None`` if the grant is not good."""
        if form["grant_type"] == "refresh_token":
            good = form["refresh_token"] in self.refresh_tokens
            self.refresh_tokens.discard(form["refresh_token"])  # each is good once
            return "" if good else None
        grant = self.grants.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if grant is None or (grant.redirect_uri, grant.challenge) != (form["redirect_uri"], challenge):
            return None
        return grant.nonce

    def _issued(self, nonce: str) -> Response:
        access_token, refresh_token = secrets.token_urlsafe(8), secrets.token_urlsafe(8)
        self.access_tokens.add(access_token)
        answer = {"access_token": access_token, "token_type": "Bearer", "id_token": self._id_token(nonce)}
        if self.gives_refresh_tokens:
            self.refresh_tokens.add(refresh_token)
            answer["refresh_token"] = refresh_token
        return jsonify(answer)

    def _id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": request.host_url.rstrip("/"),
            "sub": "user-1",
            "aud": CLIENT_ID,
            "exp": now + 300,
            "iat": now,
            "nonce": nonce or None,
            **self.name,
            **({"groups": self.groups} if self.groups_in_id_token else {}),
            **self.changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "RS256", "kid": self.key.kid}
        if self.forged == "none":
            return f"{json_b64encode({'alg': 'none'}).decode()}.{json_b64encode(claims).decode()}."
        if self.forged == "HS256":
            return jwt.encode({**header, "alg": "HS256"}, claims, OctKey.import_key(CLIENT_SECRET), ["HS256"])
        key = new_key() if self.forged == "foreign" else self.key
        return jwt.encode(header, claims, key, ["RS256"])

    def _userinfo(self) -> Response:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.access_tokens:
            abort(401)
        return jsonify({"sub": self.user_of_userinfo, "groups": self.groups, **self.name})

    def _revoke(self) -> Response:
        assert request.authorization is not None
        self.refresh_tokens.discard(request.form["token"])
        return jsonify({})

    def _logout(self) -> AnyResponse:
        assert request.args["client_id"] == CLIENT_ID
        assert request.args["id_token_hint"].count(".") == 2
        return redirect(request.args["post_logout_redirect_uri"])
