"""An issue's life, by what is found and by what people say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import OperationRefused
from receiver.ops.findings import Finding, FindingKind
from receiver.ops.issues.lifecycle import Issue, State, acknowledge, is_accepted, observe, resolve

AT = datetime(2026, 3, 1, 2, 41, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def dead(count: int = 1) -> Finding:
    return Finding(FindingKind.DEAD, f"{count} dead", "card_holder.created: missing", "acme", count)


def opened(count: int = 1) -> Issue:
    issue = observe(None, dead(count), AT)
    assert issue is not None
    return issue


def looked(issue: Issue, finding: Finding | None, minutes: int = 1) -> Issue:
    seen = observe(issue, finding, AT + minutes * MINUTE)
    assert seen is not None
    return seen


def test_opens_when_found_and_resolves_when_gone() -> None:
    assert observe(None, None, AT) is None
    issue = opened(3)
    assert (issue.state, issue.count, issue.first_seen_at, issue.opened_at) == (State.OPEN, 3, AT, AT)
    more = looked(issue, dead(5))
    assert (more.state, more.count, more.opened_at, more.last_seen_at) == (State.OPEN, 5, AT, AT + MINUTE)
    gone = looked(more, None, 2)
    assert (gone.state, gone.resolved_at) == (State.RESOLVED, AT + 2 * MINUTE)
    assert looked(gone, None, 3) == gone
    again = looked(gone, dead(), 4)
    assert (again.state, again.opened_at, again.first_seen_at) == (State.OPEN, AT + 4 * MINUTE, AT)
    assert again.resolved_at is None


def test_permanently_acknowledged_stays_so_until_resolved() -> None:
    known = acknowledge(opened(), by="ada", note="ticket 7")
    assert (known.state, known.owner, known.note) == (State.ACKNOWLEDGED, "ada", "ticket 7")
    assert looked(known, dead(1000), 9_999).state is State.ACKNOWLEDGED
    assert is_accepted(known, dead(1000), AT)
    assert looked(known, None).state is State.RESOLVED
    assert looked(looked(known, None), dead(), 2).state is State.OPEN, "it came back"


def test_acknowledged_until_a_time_reopens_then() -> None:
    known = acknowledge(opened(), by="ada", note="monday", until=AT + 5 * MINUTE)
    assert looked(known, dead(9), 4).state is State.ACKNOWLEDGED
    late = looked(known, dead(9), 5)
    assert (late.state, late.opened_at, late.accepted_until) == (State.OPEN, AT + 5 * MINUTE, None)
    assert not is_accepted(known, dead(9), AT + 5 * MINUTE)


def test_acknowledged_until_it_grows_reopens_by_count() -> None:
    known = acknowledge(opened(3), by="ada", note="three", until_it_grows=True)
    assert looked(known, dead(3)).state is State.ACKNOWLEDGED
    assert looked(known, dead(2)).state is State.ACKNOWLEDGED
    assert looked(known, dead(4)).state is State.OPEN


def test_resolved_by_a_person_reopens_by_growth_or_return() -> None:
    resolved = resolve(opened(3), by="ada", note="test account", at=AT)
    assert (resolved.state, resolved.owner) == (State.RESOLVED, "ada")
    assert looked(resolved, dead(3)).state is State.RESOLVED
    assert looked(resolved, dead(4)).state is State.OPEN
    away = looked(looked(resolved, dead(3)), None, 2)
    assert looked(away, dead(1), 3).state is State.OPEN


def test_resolved_issue_cannot_be_acknowledged_or_resolved() -> None:
    resolved = resolve(opened(), by="ada", note="x", at=AT)
    with pytest.raises(OperationRefused, match="nothing to acknowledge"):
        acknowledge(resolved, by="bo", note="y")
    with pytest.raises(OperationRefused, match="resolved already"):
        resolve(resolved, by="bo", note="y", at=AT)


HAPPENINGS = st.lists(
    st.one_of(st.none(), st.integers(1, 4), st.sampled_from(["acknowledge", "until it grows", "resolve"])), max_size=30
)


@given(HAPPENINGS)
def test_nothing_is_open_that_does_not_hold(happenings: list[int | str | None]) -> None:
    issue: Issue | None = None
    answered = False
    for number, happening in enumerate(happenings):
        at = AT + number * MINUTE
        if isinstance(happening, str):
            if issue is None or issue.state is State.RESOLVED:
                continue
            answered = True
            if happening == "resolve":
                issue = resolve(issue, by="ada", note="n", at=at)
            else:
                issue = acknowledge(issue, by="ada", note="n", until_it_grows=happening == "until it grows")
            continue
        issue = observe(issue, None if happening is None else dead(happening), at)
        if happening is None:
            assert issue is None or issue.state is State.RESOLVED
            answered = False
        else:
            assert issue is not None
            assert issue.count == happening
            assert issue.state is State.OPEN or answered, "only a person closes what holds"
