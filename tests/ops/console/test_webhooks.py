from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from receiver.app import create_app
from receiver.settings import load_settings
from tests.support.pools import ACCESS
from tests.support.service_states import add_run
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Acme


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
