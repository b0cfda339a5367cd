"""A receiver of which everything is as it should be: web process, local OpenCard, two webhooks; over real HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from receiver.cli import main
from receiver.encryption import Encryption
from receiver.sandbox.provider import Client, Provider, serving
from receiver.sandbox.provider import environment as environment_of
from receiver.webhooks.addresses import endpoint_url
from receiver.webhooks.adoption import Adoption, adopt
from receiver.webhooks.credentials import AuthenticationType, Credentials
from tests.support.log_lines import logging_as_it_was

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis
    from sqlalchemy import Engine

SECRET = "the-webhook-secret"


@dataclass
class Installation:
    """What the doctor looks at."""

    provider: Provider
    client: Client
    engine: Engine
    environment: dict[str, str]
    folder: Path
    webhooks: list[int] = field(default_factory=list)
    """OpenCard's ids."""
    secrets: list[str] = field(default_factory=list)
    """What no output may hold."""

    def run(self, *arguments: str) -> Result:
        result = CliRunner(env=self.environment).invoke(main, ["doctor", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert not [secret for secret in self.secrets if secret in result.output]
        return result

    def findings(self, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
        """Return the exit code, and check → state and detail; of several lines of a check, the last."""
        result = self.run("--json", *arguments)
        rows = json.loads(result.stdout)
        assert all(set(row) == {"check", "state", "detail"} for row in rows)
        return result.exit_code, {row["check"]: (row["state"], row["detail"]) for row in rows}

    def register(self, reference: str) -> None:
        """Register a webhook of a new organization, and adopt it."""
        organization = self.provider.state.add_organization(reference)
        webhook = self.provider.state.add_webhook(
            organization.id, "https://hooks.example.com", secret=SECRET, active=True
        )
        adoption = Adoption(
            organization_reference_id=reference,
            organization_id=organization.id,
            opencard_webhook_id=webhook.id,
            secret=SECRET,
            authentication_type=AuthenticationType.NONE,
            credentials=Credentials(),
        )
        with self.engine.begin() as connection:
            adopted = adopt(connection, adoption, Encryption([self.environment["ENCRYPTION_KEYS"]]))
        url = endpoint_url(self.environment["PUBLIC_URL"], adopted["endpoint_key"])
        self.provider.state.change_webhook(webhook.id, url=url)
        self.webhooks.append(webhook.id)

    def execute(self, statement: str, **parameters: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), parameters)

    def check_of(self, number: int) -> str:
        """Return what the check of the *number*-th webhook is called."""
        with self.engine.connect() as connection:
            row = connection.execute(
                text("SELECT id, organization_reference_id FROM receiver.webhooks ORDER BY id OFFSET :n LIMIT 1"),
                {"n": number},
            ).one()
        return f"webhook {row[0]} ({row[1]})"

    def configure(self, content: str) -> None:
        """Write the configuration file that is there by default."""
        (self.folder / "webhooks.toml").write_text(content)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: None))


@pytest.fixture
def installation(
    engine: Engine,
    redis: Redis,
    environment: dict[str, str],
    public_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Installation]:
    del redis  # asked for so that it runs
    monkeypatch.chdir(tmp_path)
    provider = Provider()
    client = provider.clients.add("ems")
    with serving(provider) as url, logging_as_it_was():
        variables = {**environment, **environment_of(url, client), "PUBLIC_URL": public_url}
        secrets = [client.secret, SECRET, environment["ENCRYPTION_KEYS"], "database-password"]
        installation = Installation(provider, client, engine, variables, tmp_path, secrets=secrets)
        installation.register("acme")
        installation.register("beta")
        yield installation
