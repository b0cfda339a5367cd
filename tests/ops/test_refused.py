"""Deliveries that a webhook refuses are an issue within a minute, until one is stored."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import pytest

from receiver.counter_store import Flusher, connecting
from receiver.ops.refused import MANY, find_refused, read_refused
from receiver.ops.rollup import roll_up_once
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations

EVENT = "card_holder.created"


@pytest.fixture
def flusher(acme: Acme, settings: Settings) -> Flusher:
    """Brings counts to PostgreSQL; what earlier tests counted is there already."""
    flusher = Flusher(connecting(settings.database_url))
    assert flusher.flush()
    acme.execute("TRUNCATE receiver.refused_deliveries")
    return flusher


def refuse(acme: Acme, number: int, headers: dict[str, str | None] | None = None) -> None:
    for _ in range(number):
        response = acme.deliver(EVENT, card_holder(), headers=headers or {"X-Data-Signature": "f" * 64})
        assert response.status_code in {400, 401, 415}


def make_older(acme: Acme, minutes: int) -> None:
    acme.execute(
        "UPDATE receiver.refused_deliveries SET minute = minute - make_interval(mins => :minutes),"
        " last_at = last_at - make_interval(mins => :minutes)",
        minutes=minutes,
    )


def said(acme: Acme) -> list[str]:
    return [str(each) for each in find_refused(read_refused(acme.rows))]


def test_all_refused_is_a_finding_with_what_to_do(acme: Acme, flusher: Flusher) -> None:
    acme.deliver_ok(EVENT, card_holder("before"))
    acme.execute("UPDATE receiver.stored_deliveries SET received_at = received_at - interval '1 hour'")
    refuse(acme, 3)
    flusher.flush()
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    minute = acme.value("SELECT minute FROM receiver.refused_deliveries").astimezone(UTC)
    (finding,) = said(acme)
    assert finding == (
        f"webhook {webhook} (acme): 3 deliveries refused since {minute:%Y-%m-%d %H:%M} UTC: signature-wrong: "
        "either the secret differs from OpenCard's, or they are forged: OpenCard's log, not read since, will show it; "
        "receiver reconcile --organization acme"
    )


def read_log(acme: Acme, *, refused: int, minutes: int = 5) -> None:
    """Note a run of reconcile that found so many attempts answered 401."""
    acme.execute(
        "INSERT INTO receiver.delivery_log (webhook_id, identity, event, response_status, attempted_at, item)"
        " SELECT webhook.id, int4send(number), 'card_holder.created', 401, now(), '' FROM receiver.webhooks AS webhook,"
        " generate_series(1, :refused) AS number",
        refused=refused,
    )
    acme.execute(
        "INSERT INTO receiver.reconcile_runs (webhook_id, ended_at, checked_until)"
        " SELECT id, now(), now() + make_interval(mins => :minutes) FROM receiver.webhooks",
        minutes=minutes,
    )


def test_a_secret_is_rotated_only_if_the_log_has_the_attempts(acme: Acme, flusher: Flusher) -> None:
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    refuse(acme, 3)
    flusher.flush()
    read_log(acme, refused=2)
    (finding,) = said(acme)
    assert finding.endswith(
        "signature-wrong: the secret differs from OpenCard's: its log has 2 answered 401; "
        f"receiver webhooks rotate-secret {webhook}"
    )


def test_forged_requests_recommend_no_rotation(acme: Acme, flusher: Flusher) -> None:
    refuse(acme, 3)
    flusher.flush()
    read_log(acme, refused=0, minutes=-5)
    (finding,) = said(acme)
    assert "either the secret differs" in finding, "the log was read before them"
    read_log(acme, refused=0)
    (finding,) = said(acme)
    assert finding.endswith(
        "signature-wrong: forged, because OpenCard's log has no attempt answered 401 since then: change nothing"
    )


def test_credentials_are_replaced_by_the_command_that_sends_them(acme: Acme, flusher: Flusher) -> None:
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    refuse(acme, 1)
    flusher.flush()
    acme.execute("UPDATE receiver.refused_deliveries SET reason = 'custom-missing'")
    read_log(acme, refused=1)
    (finding,) = said(acme)
    assert finding.endswith(
        "custom-missing: OpenCard sends no credentials: its log has 1 answered 401; "
        f"receiver webhooks rotate-secret {webhook}"
    )


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("signature-missing", "unsigned; accepted only with SIGNATURE_POLICY=when-present and credentials"),
        ("signature-of-a-challenge", "a signed challenge was sent as a delivery"),
    ],
)
def test_a_new_secret_is_no_remedy_for_other_signatures(acme: Acme, flusher: Flusher, reason: str, cause: str) -> None:
    refuse(acme, 3)
    flusher.flush()
    acme.execute("UPDATE receiver.refused_deliveries SET reason = :reason", reason=reason)
    (finding,) = said(acme)
    assert f"{reason}: {cause}" in finding
    assert "rotate" not in finding


def test_a_stored_delivery_after_them_ends_it(acme: Acme, flusher: Flusher) -> None:
    refuse(acme, 3)
    flusher.flush()
    make_older(acme, 20)
    assert len(said(acme)) == 1, "however long it is silent"
    acme.deliver_ok(EVENT, card_holder("after"))
    assert said(acme) == []


def test_a_few_refused_among_stored_ones_are_no_finding(acme: Acme, flusher: Flusher) -> None:
    refuse(acme, MANY - 1)
    flusher.flush()
    make_older(acme, 2)
    acme.deliver_ok(EVENT, card_holder())
    assert said(acme) == []
    refuse(acme, 1)
    flusher.flush()
    make_older(acme, 1)
    (finding,) = said(acme)
    assert f": {MANY} deliveries refused since" in finding
    make_older(acme, 20)
    assert said(acme) == []


@pytest.mark.parametrize(
    ("headers", "advice"),
    [
        ({"X-Event": None}, "no-event: does a proxy before this service change or cut requests?"),
        ({"Content-Type": "text/plain"}, "not-json: does a proxy before this service change or cut requests?"),
    ],
    ids=["no-event", "not-json"],
)
def test_each_reason_has_its_advice(acme: Acme, flusher: Flusher, headers: dict[str, str | None], advice: str) -> None:
    refuse(acme, 1, headers)
    flusher.flush()
    (finding,) = said(acme)
    assert finding.endswith(advice)


def test_a_clock_that_was_set_back_hides_and_keeps_nothing(acme: Acme, flusher: Flusher) -> None:
    acme.deliver_ok(EVENT, card_holder("before"))
    refuse(acme, 1)
    flusher.flush()
    acme.execute("UPDATE receiver.stored_deliveries SET received_at = received_at + interval '1 day'")
    make_older(acme, -24 * 60)
    assert said(acme) == [], "what was refused before says nothing now"
    refuse(acme, 1)
    flusher.flush()
    (finding,) = said(acme)
    assert ": 1 delivery refused since" in finding
    make_older(acme, 1)
    acme.deliver_ok(EVENT, card_holder("after"))
    assert said(acme) == []


def test_too_large_a_delivery_counts(acme: Acme, flusher: Flusher, settings: Settings) -> None:
    content = b'"' + b"x" * settings.max_body_bytes + b'"'
    assert acme.deliver(EVENT, content).status_code == 413
    flusher.flush()
    (finding,) = said(acme)
    assert finding.endswith("too-large: larger than MAX_BODY_BYTES")


def test_each_webhook_counts_for_itself(organizations: Organizations, settings: Settings) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    flusher = Flusher(connecting(settings.database_url))
    flusher.flush()
    acme.execute("TRUNCATE receiver.refused_deliveries")
    refuse(acme, 2)
    globex.deliver_ok(EVENT, card_holder(organization="globex"))
    flusher.flush()
    assert [each.organization_reference_id for each in read_refused(acme.rows)] == ["acme"]
    acme.execute("UPDATE receiver.webhooks SET enabled = false WHERE organization_reference_id = 'acme'")
    assert read_refused(acme.rows) == (), "OpenCard may go on for a while after it was switched off"


def test_counts_are_deleted_after_thirty_days(acme: Acme, flusher: Flusher) -> None:
    refuse(acme, 1)
    flusher.flush()
    make_older(acme, 29 * 24 * 60)
    roll_up_once(acme.engine)
    assert acme.value("SELECT count(*) FROM receiver.refused_deliveries") == 1
    make_older(acme, 2 * 24 * 60)
    roll_up_once(acme.engine)
    assert acme.value("SELECT count(*) FROM receiver.refused_deliveries") == 0
