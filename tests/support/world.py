"""An account at a local OpenCard, and the receiver of its EMS: both over real HTTP."""

from __future__ import annotations

import tomllib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from receiver.bootstrap.desired import Configuration, parse_configuration
from receiver.bootstrap.run import Bootstrap, BootstrapOptions, BootstrapResult
from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.sandbox.provider import SCOPES, Behaviour, Client, Provider, environment, serving
from receiver.webhooks.store import WebhookStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from sqlalchemy import Engine

    from receiver.sandbox.provider import ProviderWebhook
    from receiver.settings import Settings
    from receiver.webhooks.managed import ManagedWebhook


@dataclass
class World:
    """One account at OpenCard, and the receiver of its EMS."""

    provider: Provider
    client: Client
    api_url: str
    public_url: str
    engine: Engine
    settings: Settings
    transport: httpx.BaseTransport | None = field(default=None)
    """Takes the place of the network between the receiver and OpenCard's API."""

    def add_organizations(self, *references: str) -> None:
        for reference in references:
            self.provider.state.add_organization(reference)

    def bootstrap(
        self, configuration: str = "", environ: dict[str, str] | None = None, **options: Any
    ) -> BootstrapResult:
        """Run bootstrap with a configuration file's text."""
        return self.command().run(configured(configuration, environ), BootstrapOptions(**options))

    def command(self) -> Bootstrap:
        return Bootstrap(
            self.engine,
            Encryption(self.settings.encryption_keys),
            Access(self.api_url, str(self.client.account_id), self.client.id, self.client.secret),
            self.public_url,
            transport=self.transport,
        )

    @property
    def store(self) -> WebhookStore:
        return WebhookStore(self.engine, Encryption(self.settings.encryption_keys))

    def stored(self) -> ManagedWebhook:
        """Return the one managed webhook."""
        (webhook,) = self.store.all()
        return webhook

    def registered(self) -> ProviderWebhook:
        """Return the one webhook at OpenCard, the test webhook aside."""
        tests = {webhook.opencard_webhook_id for webhook in self.store.tests()}
        (webhook,) = (webhook for webhook in self.provider.state.webhooks() if webhook.id not in tests)
        return webhook

    def registered_test(self) -> ProviderWebhook:
        """Return the one test webhook at OpenCard."""
        (webhook,) = self.store.tests()
        assert webhook.opencard_webhook_id is not None
        return self.provider.state.webhook(webhook.opencard_webhook_id)

    def environment(self, settings_environment: dict[str, str]) -> dict[str, str]:
        """Return the environment of a command of this receiver."""
        return {**settings_environment, **environment(self.api_url, self.client), "PUBLIC_URL": self.public_url}

    def writes(self) -> list[str]:
        """Return what was asked of the API that is no reading, in order."""
        return [
            f"{each.method} {each.path}" for each in self.provider.requests.all(path="/api/") if each.method != "GET"
        ]

    def database(self) -> list[Any]:
        """Return everything that the database holds of webhooks and tokens, row versions included."""
        tables = (
            *("webhooks", "previous_endpoint_keys", "webhook_headers", "oauth_tokens"),
            *("organizations", "applied_configuration"),
        )
        with self.engine.connect() as connection:
            return [
                tuple(row)
                for table in tables
                for row in connection.execute(text(f"SELECT xmin, t.* FROM receiver.{table} AS t ORDER BY 2, 3"))  # noqa: S608
            ]


def configured(configuration: str, environ: dict[str, str] | None = None) -> Configuration:
    """Return what a configuration file's text says."""
    return parse_configuration(tomllib.loads(configuration), environ or {}, name="webhooks.toml")


@contextmanager
def world_of(engine: Engine, settings: Settings, public_url: str, **behaviour: Any) -> Iterator[World]:
    provider = Provider(behaviour=Behaviour(per_page=2, **behaviour))
    client = provider.clients.add("ems", scopes=tuple(SCOPES))
    with serving(provider) as url:
        yield World(provider, client, url, public_url, engine, settings)
