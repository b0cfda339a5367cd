"""Deliveries on OAuth webhooks: taken with the token that the token endpoint issued for that webhook, and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from receiver.settings import SignaturePolicy
from receiver.webhooks.credentials import Credentials
from receiver.webhooks.oauth import issue_token
from tests.support.applications import receiver_with
from tests.support.factories import card_holder
from tests.support.token_requests import CLIENT, POST, TokenRequests, assert_issued

if TYPE_CHECKING:
    import pytest

    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations

EVENT = "card_holder.created"
GLOBEX = Credentials(oauth_client_id="globex-client", oauth_client_secret="another-client-secret")
UNSIGNED = {"X-Data-Signature": None}


def bearer(tokens: TokenRequests, **fields: str) -> dict[str, str | None]:
    """Get a token and return the header that OpenCard sends with it."""
    response = tokens.ask({**POST, **fields})
    assert response.status_code == 200, response.text
    assert isinstance(response.json, dict)
    return {"Authorization": f"Bearer {response.json['access_token']}"}


def deliver(acme: Acme, *attempts: dict[str, str | None]) -> list[int]:
    return [acme.deliver(EVENT, card_holder(), headers=attempt).status_code for attempt in attempts]


def verdicts(acme: Acme) -> list[str]:
    return [row["verification"] for row in acme.rows("SELECT verification FROM receiver.deliveries ORDER BY id")]


def test_issued_token_proves_signed_and_unsigned_deliveries(tokens: TokenRequests) -> None:
    right = bearer(tokens)
    assert deliver(tokens.acme, right, {**right, **UNSIGNED}, right) == [200, 200, 200]
    assert verdicts(tokens.acme) == ["signature+oauth", "oauth", "signature+oauth"]


def test_a_signature_alone_proves_nothing_on_an_oauth_webhook(tokens: TokenRequests) -> None:
    wrong: list[str | None] = [
        None,
        "",
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer \u00e9.\u00e9.\u00e9",
        "Basic eDp5",
    ]
    assert deliver(tokens.acme, *({"Authorization": value} for value in wrong)) == [401] * len(wrong)
    assert verdicts(tokens.acme) == []


def test_a_signature_that_is_there_must_be_right_as_well(tokens: TokenRequests) -> None:
    assert deliver(tokens.acme, {**bearer(tokens), "X-Data-Signature": "0" * 64}) == [401]


def test_the_client_secret_itself_is_no_token(tokens: TokenRequests) -> None:
    assert deliver(tokens.acme, {"Authorization": f"Bearer {CLIENT.oauth_client_secret}"}) == [401]


def test_token_is_refused_at_the_endpoint_of_another_tenant(
    tokens: TokenRequests, organizations: Organizations
) -> None:
    globex = organizations.adopt("globex")
    tokens.give("globex", GLOBEX)
    of_globex = bearer(tokens, client_id=GLOBEX.oauth_client_id, client_secret=GLOBEX.oauth_client_secret)
    assert deliver(tokens.acme, of_globex) == [401]
    assert deliver(globex, of_globex, bearer(tokens)) == [200, 401]


def test_an_expired_token_is_refused(tokens: TokenRequests) -> None:
    now = datetime.now(UTC)
    for age, status in ((timedelta(minutes=14), 200), (timedelta(minutes=15), 401), (timedelta(days=1), 401)):
        token = issue_token(
            webhook_id=tokens.acme.value("SELECT id FROM receiver.webhooks"),
            client_id=CLIENT.oauth_client_id,
            client_secret=CLIENT.oauth_client_secret,
            now=now - age,
        )
        assert deliver(tokens.acme, {"Authorization": f"Bearer {token}"}) == [status]


def test_replacing_the_client_secret_ends_its_tokens_at_once(tokens: TokenRequests) -> None:
    old = bearer(tokens)
    assert deliver(tokens.acme, old) == [200]
    tokens.give("acme", Credentials(oauth_client_id="acme-client", oauth_client_secret="new"))
    assert deliver(tokens.acme, old, bearer(tokens, client_secret="new")) == [401, 200]


def test_tokens_of_both_client_secrets_are_valid_in_rotation(tokens: TokenRequests) -> None:
    old = bearer(tokens)
    tokens.acme.execute(
        "UPDATE receiver.webhooks SET previous_authentication_type = 'oauth', previous_credentials = credentials,"
        " acknowledged_at = NULL"
    )
    tokens.give("acme", Credentials(oauth_client_id="acme-client", oauth_client_secret="new"))
    again = bearer(tokens)
    assert deliver(tokens.acme, {**old, **UNSIGNED}, again, bearer(tokens, client_secret="new")) == [200, 200, 200]
    by_previous = "oauth-by-previous-credentials"
    assert verdicts(tokens.acme) == [by_previous, f"signature+{by_previous}", "signature+oauth"]
    tokens.acme.execute("UPDATE receiver.webhooks SET acknowledged_at = now()")
    assert deliver(tokens.acme, old, again, bearer(tokens, client_secret="new")) == [401, 401, 200]


def test_a_token_opens_a_disabled_webhook_no_more(tokens: TokenRequests) -> None:
    right = bearer(tokens)
    tokens.acme.execute("UPDATE receiver.webhooks SET enabled = false")
    assert deliver(tokens.acme, right) == [404]


def test_when_signatures_are_required_a_token_alone_is_refused(tokens: TokenRequests, settings: Settings) -> None:
    right = bearer(tokens)
    with receiver_with(settings, signature_policy=SignaturePolicy.REQUIRED) as app:
        tokens.acme.client = app.test_client()
        assert deliver(tokens.acme, {**right, **UNSIGNED}, right) == [401, 200]


def test_a_token_is_not_kept_with_the_delivery_and_not_logged(
    tokens: TokenRequests, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    right = bearer(tokens)
    with receiver_with(settings, log_level="DEBUG") as app:
        tokens.acme.client = app.test_client()
        assert deliver(tokens.acme, right, {"Authorization": f"{right['Authorization']}A"}) == [200, 401]
    said = capsys.readouterr().err
    kept = tokens.acme.value("SELECT to_jsonb(deliveries)::text FROM receiver.deliveries")
    assert "delivery.refused" in said
    token = str(right["Authorization"]).removeprefix("Bearer ")
    for place in (said, kept):
        for secret in (token, token.rpartition(".")[2], "authorization"):
            assert secret not in place.lower()
            assert secret not in place


def test_a_token_is_good_on_every_key_of_its_webhook(tokens: TokenRequests) -> None:
    right = bearer(tokens)
    tokens.acme.execute("INSERT INTO receiver.previous_endpoint_keys SELECT endpoint_key, id FROM receiver.webhooks")
    tokens.acme.execute("UPDATE receiver.webhooks SET endpoint_key = gen_random_uuid()")
    assert deliver(tokens.acme, right) == [200]
    assert_issued(tokens, tokens.ask())
