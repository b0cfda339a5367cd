"""Webhooks whose credentials or endpoint key are being replaced, over HTTP."""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING

import pytest

from receiver.encryption import Encryption
from receiver.webhooks import directory
from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.credentials import Credentials, encrypt_credentials
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations

EVENT = "card_holder.created"
BASIC = Credentials(basic_username="opencard", basic_password="the-old-password")
CUSTOM = Credentials(custom_key="X-Request-Id", custom_value="the-old-value")
UNKNOWN_KEY = "u" * 43
CHALLENGE = "?challenge=abc"


def answer(acme: Acme, headers: dict[str, str | None] | None = None) -> int:
    return acme.deliver(EVENT, card_holder(), headers=headers).status_code


def verdicts(acme: Acme) -> list[str]:
    return [row["verification"] for row in acme.rows("SELECT verification FROM receiver.deliveries ORDER BY id")]


def replace_by_custom(acme: Acme, settings: Settings) -> dict[str, str | None]:
    """Store new credentials in addition to those OpenCard knows; return the headers it will send once it took them."""
    new = Credentials(custom_key="X-New-Token", custom_value="the-new-value")
    acme.execute(
        "UPDATE receiver.webhooks SET previous_authentication_type = authentication_type,"
        " previous_credentials = credentials, authentication_type = 'custom', credentials = :new,"
        " acknowledged_at = NULL, previous_credentials_expires_at = NULL",
        new=encrypt_credentials(new, Encryption(settings.encryption_keys)),
    )
    return {"Authorization": None, "X-Request-Id": None, "X-New-Token": "the-new-value"}


def acknowledge(acme: Acme, *, overlap: str | None) -> None:
    acme.execute(
        "UPDATE receiver.webhooks SET acknowledged_at = now(),"
        " previous_credentials_expires_at = now() + CAST(:overlap AS interval)",
        overlap=overlap,
    )


@pytest.mark.parametrize(("old", "proof"), [(BASIC, "basic"), (CUSTOM, "custom")], ids=["basic", "custom"])
def test_old_credentials_are_valid_until_after_acknowledgment(
    organizations: Organizations, settings: Settings, old: Credentials, proof: str
) -> None:
    acme = organizations.adopt("acme", old)
    assert answer(acme) == 200
    new = replace_by_custom(acme, settings)
    assert (answer(acme), answer(acme, {"X-Data-Signature": None}), answer(acme, new)) == (200, 200, 200)
    acknowledge(acme, overlap="1 hour")
    assert (answer(acme), answer(acme, new)) == (200, 200)
    acknowledge(acme, overlap="-1 second")
    assert (answer(acme), answer(acme, new)) == (401, 200)
    by_previous = f"{proof}-by-previous-credentials"
    assert verdicts(acme) == [
        f"signature+{proof}",
        f"signature+{by_previous}",
        by_previous,
        "signature+custom",
        f"signature+{by_previous}",
        "signature+custom",
        "signature+custom",
    ]


def test_acknowledged_previous_without_expiry_is_refused(organizations: Organizations, settings: Settings) -> None:
    acme = organizations.adopt("acme", BASIC)
    replace_by_custom(acme, settings)
    acknowledge(acme, overlap=None)
    assert answer(acme) == 401


def test_new_credentials_are_optional_until_acknowledged(acme: Acme, settings: Settings) -> None:
    new = replace_by_custom(acme, settings)
    unsigned: dict[str, str | None] = {"X-Data-Signature": None}
    assert (answer(acme), answer(acme, unsigned), answer(acme, {**new, **unsigned})) == (200, 401, 200)
    acknowledge(acme, overlap="-1 second")
    assert (answer(acme), answer(acme, new)) == (401, 200)
    assert verdicts(acme) == ["signature", "custom", "signature+custom"]


def test_replaced_secret_is_valid_until_the_new_one_is_taken(acme: Acme, settings: Settings) -> None:
    acme.execute(
        "UPDATE receiver.webhooks SET previous_secret = secret, secret = :new, acknowledged_at = NULL",
        new=Encryption(settings.encryption_keys).encrypt("a-new-secret"),
    )
    assert answer(acme) == 200
    acme.execute("UPDATE receiver.webhooks SET acknowledged_at = now()")
    assert answer(acme) == 401


@pytest.mark.parametrize("acknowledged", [False, True])
def test_replaced_credentials_are_never_kept_with_a_delivery(
    organizations: Organizations, settings: Settings, *, acknowledged: bool
) -> None:
    acme = organizations.adopt("acme", CUSTOM)
    new = replace_by_custom(acme, settings)
    if acknowledged:
        acknowledge(acme, overlap="-1 second")
    assert answer(acme, {**new, "X-Request-Id": CUSTOM.custom_value}) == 200
    kept = acme.value("SELECT headers::text FROM receiver.deliveries")
    for secret in ("the-old-value", "the-new-value", "X-Request-Id", "X-New-Token"):
        assert secret not in kept


def replace_key(acme: Acme) -> Acme:
    """Give the webhook a new endpoint key, keep the old one too, and return acme at its new address."""
    key = secrets.token_urlsafe(32)  # one that no web process remembers from another test
    acme.execute("INSERT INTO receiver.previous_endpoint_keys SELECT endpoint_key, id FROM receiver.webhooks")
    acme.execute("UPDATE receiver.webhooks SET endpoint_key = :key", key=key)
    url = acme.registration.url.rpartition("/")[0] + "/" + key
    return dataclasses.replace(acme, registration=dataclasses.replace(acme.registration, url=url))


def test_previous_endpoint_key_finds_its_webhook(acme: Acme) -> None:
    before = acme.client.get(acme.path + CHALLENGE)
    moved = replace_key(acme)
    assert moved.path != acme.path
    assert (answer(acme), answer(moved), answer(acme, {"X-Data-Signature": "0" * 64})) == (200, 200, 401)
    for path in (acme.path, moved.path):
        after = acme.client.get(path + CHALLENGE)
        assert (after.status_code, after.headers["X-Verify-Token"]) == (200, before.headers["X-Verify-Token"])
    assert acme.value("SELECT count(DISTINCT webhook_id) FROM receiver.deliveries") == 1


def test_every_previous_key_is_good_as_long_as_its_row_is_there(acme: Acme) -> None:
    once_moved = replace_key(acme)
    twice_moved = replace_key(acme)
    for moved in (acme, once_moved, twice_moved):
        assert acme.client.get(moved.path + CHALLENGE).status_code == 200
    assert acme.client.get(f"{ENDPOINT_PATH}{UNKNOWN_KEY}{CHALLENGE}").status_code == 404


def test_a_previous_key_leads_to_its_own_webhook_only(acme: Acme, organizations: Organizations) -> None:
    replace_key(acme)
    globex = organizations.adopt("globex")
    headers = globex.registration.headers(EVENT, b"{}")
    assert globex.client.post(acme.path, data=b"{}", headers=headers).status_code == 401
    assert answer(acme) == 200


def test_a_previous_key_of_a_disabled_webhook_is_unknown(acme: Acme) -> None:
    replace_key(acme)
    acme.execute("UPDATE receiver.webhooks SET enabled = false")
    assert (answer(acme), acme.client.get(acme.path + CHALLENGE).status_code) == (404, 404)


def test_removed_previous_key_is_unknown_at_once_despite_cache(acme: Acme) -> None:
    moved = replace_key(acme)
    assert (answer(acme), answer(moved)) == (200, 200)
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM receiver.previous_endpoint_keys")
        connection.exec_driver_sql("UPDATE receiver.webhooks SET updated_at = now()")
    assert (answer(acme), acme.client.get(acme.path + CHALLENGE).status_code) == (404, 404)
    assert answer(moved) == 200
    assert acme.value("SELECT count(*) FROM receiver.deliveries") == 3


def test_delivery_with_a_cached_previous_key_is_one_statement(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_key(acme)
    assert answer(acme) == 200
    monkeypatch.setattr("receiver.webhooks.directory._BY_KEY", "SELECT no_such_column")
    assert answer(acme) == 200


def test_endpoint_key_lookup_uses_indexes(acme: Acme) -> None:
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = connection.exec_driver_sql(f"EXPLAIN {directory._BY_KEY}", {"key": UNKNOWN_KEY}).scalars()
        assert "Seq Scan" not in "\n".join(plan)
