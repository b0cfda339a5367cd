"""Up to when an organization is complete: never past what is missing, and to the last check once all is fixed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.migrate import upgrade
from receiver.records.epochs import notice_branch
from tests.support.factories import snapshot
from tests.support.program import db
from tests.support.restoring import Place, copied, place
from tests.support.roles import connected_as, new_role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Acme, Organizations

COMPLETENESS = "SELECT * FROM ems.completeness"
BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SCHEDULES = 1_000
EVENTS = 8
TIMES = [BEGIN + n * MINUTE for n in range(EVENTS)]
CLEARED = "card.transaction.cleared"
FAULTS = ("applied", "applied", "applied", "late", "lost", "pending", "failed", "dead", "quarantined", "ignored")
"""What happens to an event; late: applied, but attempted earlier than it arrived; lost: only in the log, no payload."""

WEBHOOKS = text(
    """
INSERT INTO receiver.webhooks (opencard_webhook_id, organization_id, organization_reference_id, endpoint_key, secret)
SELECT n, n, 'org-' || n, 'key-' || n, '' FROM generate_series(1, :number) AS n
"""
)
RUNS = text(
    """
INSERT INTO receiver.reconcile_runs (webhook_id, started_at, ended_at, checked_until)
SELECT webhook.id, run.at, run.at, run.at
FROM jsonb_to_recordset(CAST(:runs AS jsonb)) AS run (number bigint, at timestamptz)
JOIN receiver.webhooks AS webhook ON webhook.opencard_webhook_id = run.number
"""
)
EVENTS_HAPPEN = text(
    """
WITH happened AS MATERIALIZED (
    SELECT webhook.id AS webhook_id, nextval('receiver.stored_deliveries_id_seq') AS id, :event AS event,
        event.number || '-' || event.place AS identity, event.at, event.fault,
        CASE event.fault WHEN 'late' THEN 'processed' WHEN 'applied' THEN 'processed' ELSE event.fault END AS status,
        CASE event.fault WHEN 'late' THEN event.at + interval '2 days' ELSE event.at END AS received_at
    FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS event (number bigint, place int, at timestamptz, fault text)
    JOIN receiver.webhooks AS webhook ON webhook.opencard_webhook_id = event.number
), lost AS (
    INSERT INTO receiver.delivery_log (webhook_id, identity, event, attempted_at, item, unrecoverable)
    SELECT webhook_id, CAST(identity AS bytea), event, at, '', true FROM happened WHERE fault = 'lost'
), stored AS (
    INSERT INTO receiver.stored_deliveries (id, webhook_id, event, verification, received_at, occurred_at)
    SELECT id, webhook_id, event, 'signature', received_at, received_at FROM happened WHERE fault <> 'lost'
), queued AS (
    INSERT INTO receiver.queue (delivery_id) SELECT id FROM happened WHERE status IN ('pending', 'failed')
), confirmed AS (
    INSERT INTO receiver.confirmations (delivery_id, occurred_at) SELECT id, at FROM happened WHERE fault <> 'lost'
)
INSERT INTO receiver.outcomes (delivery_id, status, attempts)
SELECT id, status, 1 FROM happened WHERE status NOT IN ('pending', 'lost')
"""
)
FIX = (
    text("UPDATE receiver.delivery_log SET unrecoverable = false"),
    text("UPDATE receiver.outcomes SET status = 'processed'"),
    text("DELETE FROM receiver.queue"),
)


@dataclass(frozen=True)
class Schedule:
    """What becomes of the events of one organization, and of those that a restore of the database loses."""

    faults: list[str]
    backup: int
    """Before which event the backup is made."""
    saved: list[bool]
    """Whether an event is in the backup. A late one that was attempted before may not have arrived yet."""
    restored: list[str]
    """What becomes of the events once the log of the restored database has been read again."""

    @classmethod
    def by(cls, chance: random.Random) -> Schedule:
        faults = [chance.choice(FAULTS) for _ in range(EVENTS)]
        backup = chance.randint(0, EVENTS)
        saved = [n < backup and (fault != "late" or chance.random() < 0.5) for n, fault in enumerate(faults)]
        again = [fault if kept else chance.choice(FAULTS) for fault, kept in zip(faults, saved, strict=True)]
        return cls(faults, backup, saved, again)


@pytest.fixture
def original(new_database: Callable[[], str]) -> Iterator[Place]:
    made = place(new_database())
    with made.engine.connect() as connection:
        upgrade(connection)
    yield made
    made.engine.dispose()


def test_complete_through_never_passes_what_is_missing(original: Place, new_database: Callable[[], str]) -> None:
    chance = random.Random(20261001)  # noqa: S311 - the same each time
    schedules = {number: Schedule.by(chance) for number in range(1, SCHEDULES + 1)}
    set_back = {number for number in schedules if chance.random() < 0.5}
    others = set(schedules) - set_back
    places = [(number, n) for number in schedules for n in range(EVENTS)]
    saved = [(number, n) for number, n in places if schedules[number].saved[n]]
    unsaved = [(number, n) for number, n in places if not schedules[number].saved[n]]
    read = {number for number in schedules if number % 3 != 0}
    checked = TIMES[-2] + MINUTE / 2
    with original.engine.begin() as connection:
        connection.execute(WEBHOOKS, {"number": SCHEDULES})

    happen(original, [(number, n, schedules[number].faults[n]) for number, n in saved])
    reconcile(original, {number: BEGIN + schedules[number].backup * MINUTE - MINUTE / 2 for number in read})
    restored = copied(original, new_database())
    happen(original, [(number, n, schedules[number].faults[n]) for number, n in unsaved])
    reconcile(original, dict.fromkeys(read, checked))
    for number, row in completeness(original, others).items():
        assert_complete(row, schedules[number].faults, checked if number in read else None)

    notice_branch(restored.engine)
    read_again = {number for number in schedules if number % 3 != 1}
    happen(restored, [(number, n, schedules[number].restored[n]) for number, n in unsaved if number in read_again])
    reconcile(restored, dict.fromkeys(read_again, checked))
    for number, row in completeness(restored, set_back).items():
        if number in read_again:
            assert_complete(row, schedules[number].restored, checked)
        else:
            assert row["complete_through"] is None

    happen(restored, [(number, n, "applied") for number, n in unsaved if number not in read_again])
    now = TIMES[-1] + MINUTE
    for database, numbers in ((original, others), (restored, set_back)):
        with database.engine.begin() as connection:
            for statement in FIX:
                connection.execute(statement)
        reconcile(database, dict.fromkeys(schedules, now))
        for row in completeness(database, numbers).values():
            assert (row["complete_through"], row["open_gaps"]) == (now, 0)
    restored.engine.dispose()


def happen(database: Place, events: list[tuple[int, int, str]]) -> None:
    """Write events, each with the number of its schedule, its place there and what becomes of it."""
    rows = [{"number": number, "place": n, "at": TIMES[n], "fault": fault} for number, n, fault in events]
    with database.engine.begin() as connection:
        connection.execute(EVENTS_HAPPEN, {"event": CLEARED, "events": json.dumps(rows, default=str)})


def reconcile(database: Place, until: dict[int, datetime]) -> None:
    """Write a run of reconcile for each of these schedules, that read the log until then."""
    rows = [{"number": number, "at": at} for number, at in until.items()]
    with database.engine.begin() as connection:
        connection.execute(RUNS, {"runs": json.dumps(rows, default=str)})


def completeness(database: Place, numbers: set[int]) -> dict[int, dict[str, Any]]:
    """Return the rows of these schedules, by their numbers."""
    query = text(f"{COMPLETENESS} WHERE organization_reference_id = ANY(:names)")
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text("VACUUM ANALYZE receiver.outcomes, receiver.queue")
        )  # else a thousand rows take seconds
        rows = [dict(row) for row in connection.execute(query, {"names": [f"org-{n}" for n in numbers]}).mappings()]
    assert len(rows) == len(numbers)
    return {int(row["organization_reference_id"].removeprefix("org-")): row for row in rows}


def assert_complete(row: dict[str, Any], faults: list[str], checked: datetime | None) -> None:
    """Check a row against the outcomes of the events; *checked*: until when the log has been read."""
    missing = [(at, fault) for at, fault in zip(TIMES, faults, strict=True) if fault not in {"applied", "late"}]
    assert row["open_gaps"] == sum(fault != "pending" for _, fault in missing), faults
    first = missing[0][0] if missing else None
    if checked is None:
        assert row["complete_through"] is None
    elif first is None or first > checked:
        assert row["complete_through"] == checked, faults
    else:
        assert first - timedelta(milliseconds=1) < row["complete_through"] < first, faults


def checked(acme: Acme) -> None:
    acme.execute(
        "INSERT INTO receiver.reconcile_runs (webhook_id, started_at, ended_at, checked_until)"
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
