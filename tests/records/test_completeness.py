"""Up to when an organization is complete: never past what is missing, and to the last check once all is fixed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from tests.support.factories import snapshot
from tests.support.program import db
from tests.support.roles import connected_as, new_role

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.conftest import Acme, Organizations

COMPLETENESS = "SELECT * FROM ems.completeness"
BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SCHEDULES = 1_000
EVENTS = 8
CLEARED = "card.transaction.cleared"
FAULTS = ("applied", "applied", "applied", "late", "lost", "pending", "failed", "dead", "quarantined", "ignored")
"""What becomes of an event; late: applied, but attempted earlier than it arrived; lost: only in the log, no payload."""

WEBHOOKS = text(
    """
INSERT INTO receiver.webhooks (opencard_webhook_id, organization_id, organization_reference_id, endpoint_key, secret)
SELECT n, n, 'org-' || n, 'key-' || n, '' FROM generate_series(1, :number) AS n
"""
)
RUN = text(
    """
INSERT INTO receiver.reconcile_runs (webhook_id, started_at, ended_at, watermark)
SELECT id, :at, :at, :at FROM receiver.webhooks WHERE opencard_webhook_id % 3 <> :without
"""
)
LOG = text(
    """
INSERT INTO receiver.delivery_log (webhook_id, identity, event, attempted_at, item, unrecoverable)
SELECT id, CAST(:identity AS bytea), :event, :at, '', true FROM receiver.webhooks
WHERE organization_reference_id = :organization
"""
)
DELIVERY = text(
    """
WITH stored AS (
    INSERT INTO receiver.stored_deliveries (webhook_id, event, verification, received_at, occurred_at)
    SELECT id, :event, 'signature', :received_at, :received_at FROM receiver.webhooks
    WHERE organization_reference_id = :organization
    RETURNING id
), queued AS (
    INSERT INTO receiver.queue (delivery_id) SELECT id FROM stored WHERE CAST(:status AS text) IN ('pending', 'failed')
), dated AS (
    INSERT INTO receiver.confirmations (delivery_id, occurred_at) SELECT id, CAST(:at AS timestamptz) FROM stored
)
INSERT INTO receiver.outcomes (delivery_id, status, attempts)
SELECT id, :status, 1 FROM stored WHERE CAST(:status AS text) <> 'pending'
"""
)
FIX = (
    text("UPDATE receiver.delivery_log SET unrecoverable = false"),
    text("UPDATE receiver.outcomes SET status = 'processed'"),
    text("DELETE FROM receiver.queue"),
)


def test_complete_through_never_passes_what_is_missing(engine: Engine) -> None:
    chance = random.Random(20261001)  # noqa: S311 - the same each time
    stories = [[chance.choice(FAULTS) for _ in range(EVENTS)] for _ in range(SCHEDULES)]
    times = [BEGIN + number * MINUTE for number in range(EVENTS)]
    checked = BEGIN + (EVENTS - 2) * MINUTE + MINUTE / 2
    with engine.begin() as connection:
        connection.execute(WEBHOOKS, {"number": SCHEDULES})
        logged: list[dict[str, Any]] = []
        stored: list[dict[str, Any]] = []
        for number, story in enumerate(stories, start=1):
            for place, (at, fault) in enumerate(zip(times, story, strict=True)):
                event = {"organization": f"org-{number}", "event": CLEARED, "at": at}
                if fault == "lost":
                    logged.append({**event, "identity": f"{number}-{place}".encode()})
                else:
                    received_at = at + timedelta(days=2) if fault == "late" else at
                    status = "processed" if fault in {"applied", "late"} else fault
                    stored.append({**event, "received_at": received_at, "status": status})
        connection.execute(LOG, logged)
        connection.execute(DELIVERY, stored)
        connection.execute(RUN, {"at": checked, "without": 0})
    for number, row in enumerate(_by_organization(engine), start=1):
        story = stories[number - 1]
        first = next((at for at, fault in zip(times, story, strict=True) if fault not in {"applied", "late"}), None)
        gaps = sum(fault not in {"applied", "late", "pending"} for fault in story)
        assert row["open_gaps"] == gaps, story
        if number % 3 == 0:
            assert row["complete_through"] is None
        elif first is None or first > checked:
            assert row["complete_through"] == checked, story
        else:
            assert first - timedelta(milliseconds=1) < row["complete_through"] < first, story
    with engine.begin() as connection:
        for statement in FIX:
            connection.execute(statement)
        connection.execute(RUN, {"at": times[-1] + MINUTE, "without": -1})
    for row in _by_organization(engine):
        assert (row["complete_through"], row["open_gaps"]) == (times[-1] + MINUTE, 0)


def _by_organization(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(text(COMPLETENESS)).mappings()]
    return sorted(rows, key=lambda row: int(row["organization_reference_id"].removeprefix("org-")))


def checked(acme: Acme) -> None:
    acme.execute(
        "INSERT INTO receiver.reconcile_runs (webhook_id, started_at, ended_at, watermark)"
        " SELECT id, now(), now(), now() FROM receiver.webhooks"
    )


def test_organization_never_checked_is_complete_through_nothing(acme: Acme) -> None:
    row = acme.row(COMPLETENESS)
    assert row["organization_reference_id"] == "acme"
    assert (row["complete_through"], row["open_gaps"], row["checked_at"]) == (None, 0, None)


def test_delivery_of_what_can_not_be_parsed_is_an_open_gap(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared", original_amount="a lot"))
    checked(acme)
    row = acme.row(f"SELECT *, complete_through < checked_at AS before FROM ({COMPLETENESS}) AS it")  # noqa: S608
    assert (row["open_gaps"], row["before"]) == (1, True)


@pytest.mark.parametrize(("event", "gaps"), [("card.transaction.refunded", 1), ("card_holder.renamed", 0)])
def test_unknown_event_is_a_gap_where_it_is_about_money(acme: Acme, event: str, gaps: int) -> None:
    acme.apply(event, snapshot("cleared"))
    checked(acme)
    assert acme.row(COMPLETENESS)["open_gaps"] == gaps


def test_lost_event_without_a_time_leaves_nothing_complete(acme: Acme) -> None:
    checked(acme)
    acme.execute(
        "INSERT INTO receiver.delivery_log (webhook_id, identity, event, item, unrecoverable)"
        " SELECT id, '1', 'tpa.signed', '', true FROM receiver.webhooks"
    )
    row = acme.row(COMPLETENESS)
    assert (row["complete_through"], row["open_gaps"]) == (None, 1)


def test_acknowledged_gap_is_passed_and_counted(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared", original_amount="a lot"))
    checked(acme)
    acme.execute(
        "INSERT INTO receiver.acknowledged_gaps (kind, id, organization_reference_id, acknowledged_by, reason)"
        " SELECT kind, id, 'acme', 'operator', 'entered by hand' FROM receiver.gaps_of('acme')"
    )
    row = acme.row(f"SELECT *, complete_through = checked_at AS whole FROM ({COMPLETENESS}) AS it")  # noqa: S608
    assert (row["open_gaps"], row["acknowledged_gaps"], row["whole"]) == (0, 1, True)


def test_runs_before_a_restore_do_not_count(acme: Acme) -> None:
    checked(acme)
    acme.execute("INSERT INTO receiver.feed_epochs (epoch, last_run_id) SELECT 7, max(id) FROM receiver.reconcile_runs")
    assert acme.row(COMPLETENESS)["complete_through"] is None


def test_restricted_reader_sees_its_own_organization(organizations: Organizations) -> None:
    acme = organizations.adopt("acme")
    organizations.adopt("globex")
    with new_role(acme.engine.url) as role:
        assert db(acme.engine.url, "grant-reader", role, "--organization", "acme").exit_code == 0
        with connected_as(acme.engine.url, role) as connection:
            seen = connection.execute(b"SELECT organization_reference_id FROM ems.completeness").fetchall()
    assert seen == [("acme",)]


def test_reader_of_all_sees_every_organization(organizations: Organizations) -> None:
    acme = organizations.adopt("acme")
    organizations.adopt("globex")
    with new_role(acme.engine.url) as role:
        assert db(acme.engine.url, "grant-reader", role).exit_code == 0
        with connected_as(acme.engine.url, role) as connection:
            seen = connection.execute(b"SELECT organization_reference_id FROM ems.completeness ORDER BY 1").fetchall()
            assert seen == [("acme",), ("globex",)]
