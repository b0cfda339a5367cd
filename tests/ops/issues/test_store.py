"""Issues in the database: compared with what holds, answered by people, seen by ``status``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from receiver.errors import OperationRefused
from receiver.ops.findings import Finding, FindingKind
from receiver.ops.issues import lifecycle
from receiver.ops.issues.lifecycle import State
from receiver.ops.issues.store import accepted, answer, compare, list_issues, read_issue

if TYPE_CHECKING:
    from sqlalchemy import Engine

AT = datetime(2026, 3, 1, 2, 41, tzinfo=UTC)
INACTIVE = Finding(FindingKind.WEBHOOK_INACTIVE, "webhook 1 (acme): not active", "webhook 1", "acme")
DEAD = Finding(FindingKind.DEAD, "3 dead deliveries", "card_holder.created: missing", "acme", 3)


def looked(engine: Engine, *findings: Finding, minutes: int = 0) -> list[tuple[str, str]]:
    """Compare with what was found; return kind and state of each issue that changed state."""
    with engine.begin() as connection:
        changed = compare(connection, findings, at=AT + timedelta(minutes=minutes))
    return sorted((each.issue.kind, str(each.issue.state)) for each in changed)


def states(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {each.issue.kind: str(each.issue.state) for each in list_issues(connection, states=State, limit=10)}


def test_each_change_of_state_is_returned_once(engine: Engine) -> None:
    assert looked(engine, INACTIVE, DEAD) == [("deliveries-dead", "open"), ("webhook-inactive", "open")]
    assert looked(engine, INACTIVE, DEAD, minutes=1) == []
    assert looked(engine, DEAD, minutes=2) == [("webhook-inactive", "resolved")]
    assert looked(engine, DEAD, minutes=3) == []
    assert looked(engine, INACTIVE, DEAD, minutes=4) == [("webhook-inactive", "open")]
    assert states(engine) == {"deliveries-dead": "open", "webhook-inactive": "open"}


def test_a_person_answers_and_status_leaves_it_out(engine: Engine) -> None:
    looked(engine, INACTIVE, DEAD)
    with engine.begin() as connection:
        (dead,) = (each for each in list_issues(connection, states=[State.OPEN], limit=10) if each.issue.count == 3)
        change = partial(lifecycle.acknowledge, by="ada", note="ticket 7", until_it_grows=True)
        answer(connection, dead.id, change)
        assert accepted(connection, [INACTIVE, DEAD], at=AT) == [DEAD]
        grown = Finding(DEAD.kind, "4 dead", DEAD.subject, "acme", 4)
        assert accepted(connection, [INACTIVE, grown], at=AT) == []
        stored = read_issue(connection, dead.id).issue
    assert (stored.state, stored.owner, stored.note, stored.accepted_count) == (
        State.ACKNOWLEDGED,
        "ada",
        "ticket 7",
        3,
    )
    assert looked(engine, INACTIVE, DEAD, minutes=1) == []
    assert looked(engine, INACTIVE, minutes=2) == [("deliveries-dead", "resolved")]


def test_resolved_by_a_person_stays_so_while_unchanged(engine: Engine) -> None:
    looked(engine, DEAD)
    with engine.begin() as connection:
        (stored,) = list_issues(connection, states=[State.OPEN], limit=1)
        answer(connection, stored.id, partial(lifecycle.resolve, by="ada", note="test account", at=AT))
    assert looked(engine, DEAD, minutes=1) == []
    assert states(engine) == {"deliveries-dead": "resolved"}
    assert looked(engine, minutes=2) == []
    assert looked(engine, DEAD, minutes=3) == [("deliveries-dead", "open")]


def test_an_unknown_id_is_refused(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(OperationRefused, match="no issue 4711"):
        read_issue(connection, 4711)


def test_old_resolved_issues_are_deleted(engine: Engine) -> None:
    looked(engine, DEAD)
    looked(engine, minutes=1)
    looked(engine, minutes=60 * 24 * 399)
    assert states(engine) == {"deliveries-dead": "resolved"}
    looked(engine, minutes=60 * 24 * 401)
    assert states(engine) == {}
