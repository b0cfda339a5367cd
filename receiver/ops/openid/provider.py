"""The requests to an OpenID provider. Authlib makes those of the authorization code flow."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client
from joserfc.errors import InvalidKeyIdError, JoseError

from receiver.ops.openid.answers import (
    KeyList,
    Member,
    Metadata,
    NoRole,
    ProviderRefused,
    ProviderUnavailable,
    TokenAnswer,
    Tokens,
)
from receiver.ops.openid.claims import Claims, check_claims, name_of, role_of, signed_claims, usable_keys
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from joserfc.jwk import KeySet

    from receiver.settings import Settings
    from receiver.variables import Role

T = TypeVar("T")

TIMEOUT: Final = httpx.Timeout(4, connect=2)
METADATA_SECONDS: Final = 3600.0
"""How long what the provider publishes about itself is kept. Keys are read again when a token names a new one."""
SCOPES: Final = ("openid", "profile", "email")
OPTIONAL_SCOPES: Final = ("groups", "offline_access")
"""Requested if the provider lists them: claims with groups, and a refresh token."""


class _TokenError(Exception):
    """What the token endpoint refuses, by OAuth's short name for the reason."""

    def __init__(self, error: object = None, description: object = None) -> None:
        del description  # which may name the user
        super().__init__(str(error)[:64])


class _ClientAuth(httpx.Auth, ClientAuth):  # type: ignore[misc]  # Authlib has no types
    """Authlib's authentication of a client, for a request of httpx."""

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        address, headers, body = self.prepare(
            request.method, str(request.url), dict(request.headers), request.content.decode()
        )
        headers.pop("content-length", None)
        yield httpx.Request(request.method, address, headers=headers, content=body, extensions=request.extensions)


class _OAuth(OAuth2Client):  # type: ignore[misc]  # Authlib has no types
    """Authlib's client of one request. Its own integration of httpx asks for another library of that kind."""

    client_auth_class = _ClientAuth
    oauth_error_class = _TokenError


class OpenIDProvider:
    """One OpenID provider, and the roles of its groups. Safe for threads; connects when first asked."""

    def __init__(self, *, issuer: str, client_id: str, client_secret: str, roles: Mapping[str, Role]) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self.roles = dict(roles)
        self._client_secret = client_secret
        self._http = httpx.Client(verify=tls_context(), timeout=TIMEOUT, headers={"Accept": "application/json"})
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: KeySet | None = None

    @classmethod
    def of(cls, settings: Settings) -> OpenIDProvider | None:
        """Return the provider that the settings name, if any."""
        if not settings.ops_oidc_issuer:
            return None
        return cls(
            issuer=settings.ops_oidc_issuer,
            client_id=settings.ops_oidc_client_id,
            client_secret=settings.ops_oidc_client_secret,
            roles=dict(settings.ops_oidc_roles),
        )

    @property
    def host(self) -> str:
        """The provider's host, as users know it."""
        return urlsplit(self.issuer).netloc

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def metadata(self) -> Metadata:
        """Return what the provider publishes about itself. Raises ``ProviderUnavailable``."""
        known = self._metadata
        if known is not None and time.monotonic() - known[0] < METADATA_SECONDS:
            return known[1]
        try:
            found = self._get(f"{self.issuer}/.well-known/openid-configuration", Metadata)
            self._check(found)
        except ProviderUnavailable:
            if known is None:
                raise
            found = known[1]
        self._metadata = (time.monotonic(), found)
        return found

    def check(self) -> None:
        """Read what the provider publishes, its keys included. Raises ``ProviderUnavailable``."""
        self._get(self.metadata().jwks_uri, KeyList)

    def authorization_url(self, *, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Return where the browser goes to sign in. Raises ``ProviderUnavailable``."""
        metadata = self.metadata()
        offered = metadata.scopes_supported or []
        client = self._oauth(
            metadata,
            redirect_uri=redirect_uri,
            scope=" ".join([*SCOPES, *(scope for scope in OPTIONAL_SCOPES if scope in offered)]),
            code_challenge_method="S256",
        )
        address, _ = client.create_authorization_url(
            metadata.authorization_endpoint, state=state, code_verifier=verifier, nonce=nonce
        )
        return str(address)

    def sign_out(self, tokens: Tokens, *, back: str) -> str | None:
        """Revoke the refresh token, and return where the browser goes to sign out there, too, and then *back*.

        Returns ``None`` if there is no such place. An offline refresh token outlives the provider's session.
        """
        try:
            metadata = self.metadata()
            self._revoke(metadata, tokens)
        except ProviderUnavailable:
            return None
        endpoint = metadata.end_session_endpoint
        hints = [
            ("id_token_hint", tokens.id_token),
            ("client_id", self.client_id),
            ("post_logout_redirect_uri", back),
        ]
        return str(add_params_to_uri(endpoint, hints)) if endpoint else None

    def sign_in(self, code: str, *, answered_by: str | None, redirect_uri: str, nonce: str, verifier: str) -> Member:
        """Return who has signed in. *answered_by* is the issuer that the browser brought back, if any.

        Raises ``ProviderUnavailable``, ``ProviderRefused``, ``NoRole``.
        """
        metadata = self.metadata()
        if answered_by not in {None, metadata.issuer}:
            raise ProviderRefused("another issuer answered")
        answer = self._tokens(
            lambda: self._oauth(metadata, redirect_uri=redirect_uri).fetch_token(
                metadata.token_endpoint, grant_type="authorization_code", code=code, code_verifier=verifier
            )
        )
        if answer.id_token is None:
            raise ProviderRefused("there is no ID token in the answer")
        claims = self._verified(answer.id_token, nonce=nonce)
        return self._member(claims, Tokens(answer.id_token, answer.access_token, answer.refresh_token))

    def confirm(self, tokens: Tokens, subject: str) -> Member:
        """Return the user of these tokens as the provider knows *subject* now. Raises as ``sign_in`` does.

        A refresh token is exchanged for new tokens. Without one the access token is good for as long as it lasts.
        """
        claims: Claims = {"sub": subject}
        if tokens.refresh_token is not None:
            metadata, refresh_token = self.metadata(), tokens.refresh_token
            answer = self._tokens(
                lambda: self._oauth(metadata).refresh_token(metadata.token_endpoint, refresh_token=refresh_token)
            )
            if answer.id_token is not None:
                claims = self._verified(answer.id_token, subject=subject)
            tokens = Tokens(
                answer.id_token or tokens.id_token, answer.access_token, answer.refresh_token or refresh_token
            )
        return self._member(claims, tokens)

    def _revoke(self, metadata: Metadata, tokens: Tokens) -> None:
        if metadata.revocation_endpoint is None or tokens.refresh_token is None:
            return
        try:
            self._oauth(metadata).revoke_token(metadata.revocation_endpoint, tokens.refresh_token)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderUnavailable(f"no answer ({type(error).__name__})") from None

    def _check(self, metadata: Metadata) -> None:
        if metadata.issuer.rstrip("/") != self.issuer:
            raise ProviderUnavailable(f"it says that its issuer is {metadata.issuer[:200]}")
        if self.issuer.startswith("https:") and not all(each.startswith("https:") for each in metadata.endpoints()):
            raise ProviderUnavailable("it names an address that is not HTTPS")

    def _member(self, claims: Claims, tokens: Tokens) -> Member:
        """Return the member whom *claims* are about; what they lack, the provider is asked for."""
        endpoint = self.metadata().userinfo_endpoint
        if "groups" not in claims and endpoint:
            more = self._get(endpoint, Claims, access_token=tokens.access_token)
            if more.get("sub") != claims["sub"]:
                raise ProviderRefused("its user information is about another user")
            claims = more | claims
        name = name_of(claims)
        role = role_of(claims.get("groups"), self.roles)
        if role is None:
            raise NoRole(name)
        return Member(claims["sub"], name, role, tokens)

    def _verified(self, id_token: str, *, nonce: str | None = None, subject: str | None = None) -> Claims:
        """Return the claims of an ID token of this provider for this client. Raises ``ProviderRefused``."""
        issuer = self.metadata().issuer
        try:
            claims = self._signed(id_token)
        except (JoseError, ValueError) as error:
            raise ProviderRefused(f"its ID token is not accepted ({error})") from None
        check_claims(
            claims, issuer=issuer, client_id=self.client_id, now=int(time.time()), nonce=nonce, subject=subject
        )
        return claims

    def _signed(self, id_token: str) -> Claims:
        """Return the claims, once their signature is verified. The keys are read again for one that is not known."""
        if self._keys is not None:
            try:
                return signed_claims(id_token, self._keys)
            except InvalidKeyIdError:
                pass  # the provider may have a new key
        self._keys = usable_keys(self._get(self.metadata().jwks_uri, KeyList).keys)
        return signed_claims(id_token, self._keys)

    def _oauth(self, metadata: Metadata, **options: str) -> _OAuth:
        methods = metadata.token_endpoint_auth_methods_supported or ["client_secret_basic"]
        basic, post = "client_secret_basic", "client_secret_post"
        client = _OAuth(
            self._http,
            client_id=self.client_id,
            client_secret=self._client_secret,
            token_endpoint_auth_method=post if post in methods and basic not in methods else basic,
            **options,
        )
        for hook in ("access_token_response", "refresh_token_response"):
            client.register_compliance_hook(hook, _not_overloaded)
        return client

    def _tokens(self, request: Callable[[], Mapping[str, Any]]) -> TokenAnswer:
        try:
            return msgspec.convert(dict(request()), TokenAnswer)
        except _TokenError as error:
            if str(error) in {"server_error", "temporarily_unavailable"}:
                raise ProviderUnavailable(f"its token endpoint answers {error}") from None
            raise ProviderRefused(f"its token endpoint answers {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # of msgspec, too
            raise ProviderUnavailable(f"no answer of its token endpoint ({type(error).__name__})") from None

    def _get(self, address: str, kind: type[T], *, access_token: str | None = None) -> T:
        headers = {} if access_token is None else {"Authorization": f"Bearer {access_token}"}
        try:
            answer = self._http.get(address, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderUnavailable(f"no answer ({type(error).__name__})") from None
        if access_token is not None and answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise ProviderRefused(f"its user information is refused with {answer.status_code}")
        if not answer.is_success:
            raise ProviderUnavailable(f"it answers {answer.status_code}")
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProviderUnavailable(f"its answer is not what OpenID Connect defines ({error})") from None


def _not_overloaded(answer: httpx.Response) -> httpx.Response:
    """Return the answer, unless it says that there were too many requests: that refuses no user."""
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        answer.raise_for_status()
    return answer
