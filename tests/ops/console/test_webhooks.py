from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.app import create_app
from receiver.ops import webhook_actions
from receiver.sandbox.provider import ApiFault
from receiver.settings import load_settings
from tests.support.pools import ACCESS
from tests.support.sending import processing
from tests.support.service_states import add_run
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Acme
    from tests.support.world import World


@pytest.fixture
def operator_with_access(console_environment: dict[str, str], acme: Acme) -> Iterator[Visitor]:
    """An operator at a console whose service has access to OpenCard's API."""
    del acme  # asked for so that there is a webhook
    app = create_app(load_settings({**console_environment, **ACCESS}))
    visitor = Visitor(app.test_client())
    visitor.sign_in("olga")
    yield visitor
    app.extensions["receiver.close"]()


def test_an_operator_has_a_webhook_reconciled_now(acme: Acme, operator_with_access: Visitor) -> None:
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    page = f"/ops/webhooks/{webhook}"
    answer = operator_with_access.post(f"{page}/reconcile", form=page)
    assert answer.location == page
    assert acme.value("SELECT reconcile_requested_at > now() - interval '1 min' FROM receiver.webhooks")
    assert "has not begun" in operator_with_access.get(page).text
    add_run(acme.engine, "acme")
    shown = operator_with_access.get(page).text
    assert "has not begun" not in shown
    assert re.search("Reconcile now</button>", shown)
    act = acme.row("SELECT actor, action, object, outcome FROM receiver.audit WHERE action = 'reconcile'")
    assert act == {"actor": "olga", "action": "reconcile", "object": f"--webhook {webhook}", "outcome": "done"}


def test_a_webhook_that_is_off_cannot_be_reconciled(acme: Acme, operator_with_access: Visitor) -> None:
    acme.execute("UPDATE receiver.webhooks SET enabled = false")
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    page = f"/ops/webhooks/{webhook}"
    answer = operator_with_access.post(f"{page}/reconcile", form=page)
    assert answer.status_code == 409
    assert "not in use" in answer.text
    assert acme.value("SELECT reconcile_requested_at FROM receiver.webhooks") is None


def test_nothing_is_requested_that_no_scheduler_would_do(acme: Acme, operator: Visitor) -> None:
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    page = f"/ops/webhooks/{webhook}"
    answer = operator.post(f"{page}/reconcile", form=page)
    assert (answer.status_code, "RECONCILE_INTERVAL" in answer.text) == (409, True)


@pytest.fixture
def at_opencard(console_environment: dict[str, str], world: World) -> Iterator[Visitor]:
    """An operator at the console of a service whose webhook is registered at the local OpenCard."""
    assert world.bootstrap().failures == []
    app = create_app(load_settings(world.environment(console_environment)))
    visitor = Visitor(app.test_client())
    visitor.sign_in("olga")
    yield visitor
    app.extensions["receiver.close"]()


def acts(world: World) -> list[tuple[Any, ...]]:
    with world.engine.connect() as connection:
        query = "SELECT action, object, outcome, error FROM receiver.audit WHERE action <> 'sign-in' ORDER BY id"
        return [tuple(row) for row in connection.execute(text(query))]


def test_operator_rotates_a_secret_after_confirming(world: World, at_opencard: Visitor) -> None:
    before = world.stored()
    page = f"/ops/webhooks/{before.id}/rotate-secret"
    assert f'href="{page}"' in at_opencard.get(f"/ops/webhooks/{before.id}").text
    assert "accepted for 24 hours more" in at_opencard.get(page).text
    assert world.stored().secret == before.secret
    answer = at_opencard.post(page, form=page)
    assert answer.location == f"/ops/webhooks/{before.id}", answer.text
    assert "OpenCard has the new secret" in at_opencard.get(answer.location).text
    assert world.stored().secret == world.registered().secret != before.secret
    refused = at_opencard.post(page, form=page)
    assert (refused.status_code, "was rotated already" in refused.text) == (409, True)
    about = ("webhooks rotate-secret", str(before.id))
    assert acts(world) == [(*about, "done", None), (*about, "refused", "OperationRefused")]


def test_operator_has_a_test_delivery_sent(world: World, at_opencard: Visitor) -> None:
    webhook = world.stored().id
    page = f"/ops/webhooks/{webhook}/test"
    with processing(world.engine):
        answer = at_opencard.post(page, form=page, event="receipt.fetched")
    assert answer.status_code == 302, answer.text
    assert "The test arrived as delivery" in at_opencard.get(answer.location).text
    (asked,) = world.provider.requests.all(path="/test/")
    assert asked.path.endswith("/test/receipt.fetched")
    assert acts(world) == [("webhooks test", f"--webhook {webhook} receipt.fetched", "done", None)]
    assert at_opencard.post(page, form=page, event="no.event").status_code == 400


def test_inactive_webhook_is_challenged_again(world: World, at_opencard: Visitor) -> None:
    webhook = world.stored()
    world.provider.state.change_webhook(world.registered().id, active=False)
    page = f"/ops/webhooks/{webhook.id}/register"
    answer = at_opencard.post(page, form=page)
    assert answer.status_code == 302, answer.text
    assert "Registered again at OpenCard" in at_opencard.get(answer.location).text
    assert world.stored().endpoint_key != webhook.endpoint_key
    assert world.registered().active
    assert "Nothing differs" in at_opencard.get(at_opencard.post(page, form=page).location or "").text
    assert acts(world) == [("bootstrap", f"--webhook {webhook.id}", "done", None)] * 2


@pytest.mark.parametrize("part", ["rotate-secret", "test", "register"])
def test_a_page_does_not_wait_long_for_opencard(
    world: World, at_opencard: Visitor, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_actions, "OPENCARD_SECONDS", 0.3)
    before = world.stored()
    world.provider.faults.add(ApiFault("slow", seconds=1.5, times=99))
    page = f"/ops/webhooks/{before.id}/{part}"
    answer = at_opencard.post(page, form=page, event="receipt.fetched")
    world.provider.faults.clear()
    assert (answer.status_code, "no answer (" in answer.text) == (502, True)
    assert world.stored().secret == before.secret
    assert acts(world)[0][2:] == ("failed", "ApiUnavailable")


@pytest.mark.parametrize("part", ["rotate-secret", "test", "register"])
def test_all_requests_of_a_page_have_one_limit(
    world: World, at_opencard: Visitor, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_actions, "OPENCARD_SECONDS", 0.8)
    monkeypatch.setattr(webhook_actions, "TEST_SECONDS", 0.0)
    with world.engine.begin() as connection:
        connection.execute(text("DELETE FROM receiver.oauth_tokens"))
    world.provider.state.change_webhook(world.registered().id, active=False)
    world.provider.faults.add(ApiFault("slow", seconds=0.5, times=99))  # each request alone is quick enough
    page = f"/ops/webhooks/{world.stored().id}/{part}"
    answer = at_opencard.post(page, form=page, event="receipt.fetched")
    world.provider.faults.clear()
    assert (answer.status_code, "no answer (" in answer.text) == (502, True), answer.text


@pytest.mark.parametrize("part", ["rotate-secret", "test", "register"])
def test_refusal_by_opencard_is_shown(world: World, at_opencard: Visitor, part: str) -> None:
    before = world.stored()
    world.provider.clients.set_scopes(world.client.id, ("organizations-read",))
    with world.engine.begin() as connection:
        connection.execute(text("DELETE FROM receiver.oauth_tokens"))
    page = f"/ops/webhooks/{before.id}/{part}"
    answer = at_opencard.post(page, form=page, event="receipt.fetched")
    assert (answer.status_code, "webhooks-" in answer.text) == (502, True)
    assert (world.stored(), world.store.tests()) == (before, [])
    assert acts(world)[0][2:] == ("failed", "ScopeNotGranted")


@pytest.mark.parametrize("part", ["rotate-secret", "test", "register"])
def test_console_without_access_names_variables_and_command(acme: Acme, operator: Visitor, part: str) -> None:
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    shown = operator.get(f"/ops/webhooks/{webhook}").text
    assert "OPENCARD_CLIENT_SECRET are not set in the environment of the web process" in shown
    assert f'{part}"' not in shown
    page = f"/ops/webhooks/{webhook}/{part}"
    answer = operator.post(page, form=page, event="receipt.fetched")
    assert (answer.status_code, "OPENCARD_CLIENT_SECRET are not set" in answer.text) == (409, True)
    assert re.search(r"<code[^>]*>receiver (webhooks|bootstrap) ", answer.text)
