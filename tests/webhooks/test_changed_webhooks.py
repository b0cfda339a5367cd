"""A webhook that changes while web processes remember what it was."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from receiver.deliveries.store import connection_pool
from receiver.encryption import Encryption
from receiver.webhooks.credentials import AuthenticationType
from receiver.webhooks.directory import WebhookDirectory
from receiver.webhooks.store import WebhookStore
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme

EVENT = "card_holder.created"


@pytest.fixture
def new(acme: Acme) -> Acme:
    """Acme, whose deliveries are signed with a new secret, which the receiver does not have yet."""
    return dataclasses.replace(acme, registration=dataclasses.replace(acme.registration, secret="a-new-secret"))


def encrypted(settings: Settings, secret: str) -> bytes:
    return Encryption(settings.encryption_keys).encrypt(secret)


def answer(acme: Acme) -> int:
    return acme.deliver(EVENT, card_holder()).status_code


def rotate(acme: Acme, settings: Settings, *, overlap: str) -> None:
    """Make the current secret the previous one, good for *overlap* from now on."""
    acme.execute(
        "UPDATE receiver.webhooks SET previous_secret = secret, secret = :new,"
        " previous_secret_expires_at = now() + CAST(:overlap AS interval)",
        new=encrypted(settings, "a-new-secret"),
        overlap=overlap,
    )


def test_both_secrets_are_good_while_one_replaces_the_other(acme: Acme, new: Acme, settings: Settings) -> None:
    assert answer(acme) == 200
    rotate(acme, settings, overlap="1 hour")
    assert (answer(acme), answer(new)) == (200, 200)
    verdicts = acme.rows("SELECT verification FROM receiver.deliveries ORDER BY id")
    assert [row["verification"] for row in verdicts] == ["signature", "signature-by-previous-secret", "signature"]


def test_the_previous_secret_is_refused_after_its_expiry(acme: Acme, new: Acme, settings: Settings) -> None:
    rotate(acme, settings, overlap="-1 second")
    assert (answer(acme), answer(new)) == (401, 200)


def test_replaced_secret_is_refused_at_once_despite_cache(acme: Acme, new: Acme, settings: Settings) -> None:
    assert answer(acme) == 200
    acme.execute("UPDATE receiver.webhooks SET secret = :new", new=encrypted(settings, "a-new-secret"))
    assert answer(acme) == 401
    assert answer(new) == 200
    assert acme.value("SELECT count(*) FROM receiver.deliveries") == 2


@pytest.mark.parametrize("replaced", ["secret", "credentials"])
def test_new_secret_is_accepted_at_once(acme: Acme, replaced: str) -> None:
    store = WebhookStore(acme.engine, acme.encryption)
    (webhook,) = store.all()
    assert answer(acme) == 200, "from now on the web process remembers the webhook"
    if replaced == "secret":
        webhook = store.replace_secret(webhook)
    else:
        webhook = store.replace_credentials(webhook, AuthenticationType.BASIC, {})
    changed = dataclasses.replace(
        acme.registration,
        secret=webhook.secret,
        basic_username=webhook.credentials.basic_username,
        basic_password=webhook.credentials.basic_password,
        authentication_type=webhook.authentication_type.value,
        signs=replaced == "secret",  # otherwise the credentials prove nothing that the signature does not
    )
    assert answer(dataclasses.replace(acme, registration=changed)) == 200


class SlowDirectory(WebhookDirectory):
    """PostgreSQL's answers are late: each secret is replaced between reading and answering."""

    def __init__(self, *arguments: Any, store: WebhookStore) -> None:
        super().__init__(*arguments)
        self._store = store

    def _row(self, query: str, parameters: dict[str, str]) -> dict[str, Any] | None:
        row = super()._row(query, parameters)
        (webhook,) = self._store.all()
        self._store.replace_secret(webhook)
        return row


def test_webhook_is_read_again_after_a_late_answer(acme: Acme, settings: Settings) -> None:
    store = WebhookStore(acme.engine, acme.encryption)
    (webhook,) = store.all()
    with connection_pool(settings.database_url, size=1) as pool:
        directory = SlowDirectory(pool, acme.encryption, store=store)
        found = directory.find(webhook.endpoint_key)
        (replaced,) = store.all()
        assert found.secret != replaced.secret
        again = directory.reread(found, webhook.endpoint_key)
        assert again is not None
        assert again.secret == replaced.secret


def test_disabling_and_enabling_a_webhook_apply_at_once(acme: Acme) -> None:
    assert answer(acme) == 200
    acme.execute("UPDATE receiver.webhooks SET enabled = false")
    assert answer(acme) == 404
    acme.execute("UPDATE receiver.webhooks SET enabled = true")
    assert answer(acme) == 200
    assert acme.value("SELECT count(*) FROM receiver.deliveries") == 2


def test_a_new_endpoint_key_replaces_the_old_one_at_once(acme: Acme) -> None:
    assert answer(acme) == 200
    acme.execute("UPDATE receiver.webhooks SET endpoint_key = repeat('n', 43)")
    assert acme.client.get(f"{acme.path}?challenge=abc").status_code == 404
    moved = dataclasses.replace(acme.registration, url=acme.registration.url.rpartition("/")[0] + "/" + "n" * 43)
    assert answer(dataclasses.replace(acme, registration=moved)) == 200


def test_additive_change_refuses_no_delivery(acme: Acme) -> None:
    assert answer(acme) == 200
    acme.execute("UPDATE receiver.webhooks SET updated_at = now()")
    assert answer(acme) == 200


def test_a_remembered_webhook_costs_a_delivery_one_statement(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(acme) == 200
    monkeypatch.setattr("receiver.webhooks.directory._BY_KEY", "SELECT no_such_column")
    assert answer(acme) == 200
