"""Secrets are readable nowhere: not in the database, not in what describes a webhook."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.adoption import Adoption
from receiver.webhooks.credentials import AuthenticationType, Credentials

if TYPE_CHECKING:
    from flask import Flask

    from receiver.deliveries.receive import Intake
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations

BASIC = Credentials(basic_username="opencard", basic_password="the-basic-password")
CUSTOM = Credentials(custom_key="X-Webhook-Token", custom_value="the-custom-value")


@pytest.fixture(params=[BASIC, CUSTOM], ids=["basic", "custom"])
def acme(request: pytest.FixtureRequest, organizations: Organizations) -> Acme:
    return organizations.adopt("acme", request.param)


def secrets(acme: Acme) -> list[str]:
    registration = acme.registration
    candidates = (registration.secret, registration.basic_password, registration.custom_value)
    return [secret for secret in candidates if secret]


def test_no_column_of_a_webhook_holds_a_secret_that_can_be_read(acme: Acme) -> None:
    row = acme.value("SELECT to_jsonb(webhooks)::text FROM receiver.webhooks")
    assert len(secrets(acme)) == 2
    for secret in secrets(acme):
        for written in (secret, secret.encode().hex(), base64.b64encode(secret.encode()).decode()):
            assert written not in row


def test_two_webhooks_with_the_same_password_do_not_look_alike(organizations: Organizations) -> None:
    acme = organizations.adopt("acme", BASIC)
    organizations.adopt("globex", BASIC)
    assert acme.value("SELECT count(DISTINCT credentials) FROM receiver.webhooks") == 2


def test_descriptions_of_a_webhook_show_no_secret(acme: Acme, app: Flask, settings: Settings) -> None:
    intake: Intake = app.extensions["receiver"]
    registered = intake.webhooks.read(acme.path.removeprefix(ENDPOINT_PATH))
    adoption = Adoption(
        organization_reference_id="acme",
        organization_id=1,
        opencard_webhook_id=1,
        secret=registered.secret,
        authentication_type=AuthenticationType(acme.registration.authentication_type),
        credentials=registered.credentials,
    )
    assert registered.secret == acme.registration.secret
    described = [registered, registered.expected(datetime.now(UTC)), adoption, settings, intake, intake.webhooks]
    for thing in described:
        for secret in (*secrets(acme), *settings.encryption_keys):
            assert secret not in repr(thing)
            assert secret not in f"{thing}"
