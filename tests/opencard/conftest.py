"""A local OpenCard over real HTTP, and clients of its API; pauses between attempts are written down, not waited."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.wrappers import Request, Response

from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.opencard.client import OpenCard
from receiver.opencard.routes import TOKEN_PATH
from receiver.opencard.tokens import MemoryTokens, StoredTokens
from receiver.sandbox.provider import Behaviour, Client, Provider, ProviderOrganization, serving
from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from receiver.opencard.tokens import TokenStore
    from receiver.settings import Settings

SECRET = "the-client-secret"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, in seconds."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waited.append))
    return waited


@dataclass
class ApiWorld:
    """An account at OpenCard with one organization, and who asks for it."""

    provider: Provider
    client: Client
    organization: ProviderOrganization
    url: str
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def access(self) -> Access:
        return Access(self.url, str(self.client.account_id), self.client.id, SECRET)

    def api(self, *scopes: str, store: TokenStore | None = None, access: Access | None = None) -> OpenCard:
        """Return the API with a token of *scopes*."""
        return self._stack.enter_context(OpenCard(access or self.access, scopes, store or MemoryTokens()))

    def token_requests(self) -> list[frozenset[str]]:
        """Return the scopes of each request to the token endpoint."""
        return [each.scopes_asked or frozenset() for each in self.provider.requests.all(path=TOKEN_PATH)]

    def asked(self, method: str | None = None) -> int:
        """Return how many requests the application API had."""
        return len(self.provider.requests.all(method=method, path="/api/"))

    def add_webhook(self, **fields: Any) -> int:
        """Register a webhook and return its id."""
        return self.provider.state.add_webhook(self.organization.id, "https://hooks.example.com/1", **fields).id


@pytest.fixture
def world() -> Iterator[ApiWorld]:
    provider = Provider(behaviour=Behaviour(per_page=3))
    client = provider.clients.add("ems", secret=SECRET)
    organization = provider.state.add_organization("acme")
    with serving(provider) as url, ExitStack() as stack:
        yield ApiWorld(provider, client, organization, url, stack)


@pytest.fixture
def stored(engine: Engine, settings: Settings) -> StoredTokens:
    return StoredTokens(engine, Encryption(settings.encryption_keys))


@pytest.fixture
def answering() -> Iterator[Callable[..., Access]]:
    """Serves an API whose every answer a function makes; the token endpoint gives out ``the-token``, or its own."""
    with ExitStack() as stack:
        yield lambda answer, token=None: stack.enter_context(_served(answer, token))


@contextmanager
def _served(answer: Callable[[Request], Response], token: Response | None) -> Iterator[Access]:
    @Request.application
    def app(request: Request) -> Response:
        request.get_data()
        if request.path == TOKEN_PATH:
            if token is not None:
                return token
            return as_json({"token_type": "Bearer", "expires_in": 31536000, "access_token": "the-token"})
        return answer(request)

    with served(app) as url:
        yield Access(url, "1", "ems", SECRET)


def as_json(value: object, status: int = 200, **headers: str) -> Response:
    return Response(json.dumps(value), status, headers, content_type="application/json")
