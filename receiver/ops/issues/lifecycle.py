"""How an issue changes: by what was found, and by what a person does. Pure; times are aware, in UTC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from receiver.errors import OperationRefused

if TYPE_CHECKING:
    from datetime import datetime

    from receiver.ops.findings import Finding


class State(StrEnum):
    """The states of an issue."""

    OPEN = "open"
    """Needs attention."""
    ACKNOWLEDGED = "acknowledged"
    """Its cause is still found, and a person accepted that."""
    RESOLVED = "resolved"
    """Its cause is no longer found, or a person resolved it."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One cause that needs attention, and how operators answered it."""

    kind: str
    subject: str
    severity: int
    text: str
    organization_reference_id: str | None
    count: int
    state: State
    opened_at: datetime
    """When it opened last."""
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None = None
    owner: str | None = None
    """Who acknowledged or resolved it last."""
    note: str | None = None
    accepted_count: int | None = None
    """The count up to which it stays acknowledged or resolved although it is found; ``None``: any."""
    accepted_until: datetime | None = None
    """When an acknowledgement ends; ``None``: never."""
    by_person: bool = False
    """Whether a person acknowledged or resolved it since it opened, while its cause may still be found."""
    command: str = ""
    """The command that shows more or ends it."""
    example_delivery_id: int | None = None
    """One of the deliveries that are affected."""


def observe(issue: Issue | None, finding: Finding | None, at: datetime) -> Issue | None:
    """Return an issue after a check: *finding* is ``None`` when its cause was not found any more.

    ``None`` when there was no issue, and none is needed.
    """
    if finding is None:
        if issue is None:
            return None
        ended = replace(issue, by_person=False, accepted_count=None, accepted_until=None)  # found again, it reopens
        return ended if issue.state is State.RESOLVED else replace(ended, state=State.RESOLVED, resolved_at=at)
    if issue is None:
        return Issue(
            finding.kind,
            finding.subject,
            int(finding.severity),
            finding.text,
            finding.organization_reference_id,
            finding.count,
            State.OPEN,
            opened_at=finding.since or at,
            first_seen_at=finding.since or at,
            last_seen_at=at,
            command=finding.command,
            example_delivery_id=finding.example_delivery_id,
        )
    seen = replace(
        issue,
        severity=int(finding.severity),
        text=finding.text,
        command=finding.command,
        example_delivery_id=finding.example_delivery_id,
        organization_reference_id=finding.organization_reference_id,
        count=finding.count,
        last_seen_at=at,
    )
    if issue.state is State.OPEN or _is_accepted(issue, finding.count, at):
        return seen
    return _reopened(seen, finding.since or at)


def acknowledge(
    issue: Issue, *, by: str, note: str, until: datetime | None = None, until_it_grows: bool = False
) -> Issue:
    """Return an issue after a person acknowledged it: permanently, or until a time, or until its count grows.

    Raises ``OperationRefused`` for one that is resolved.
    """
    if issue.state is State.RESOLVED:
        raise OperationRefused(
            "the issue is resolved: there is nothing to acknowledge; it reopens by itself when its cause recurs"
        )
    return replace(
        issue,
        state=State.ACKNOWLEDGED,
        owner=by,
        note=note,
        accepted_until=until,
        accepted_count=issue.count if until_it_grows else None,
        by_person=True,
    )


def resolve(issue: Issue, *, by: str, note: str, at: datetime) -> Issue:
    """Return an issue after a person resolved it. It reopens when its count grows, or when its cause ends and recurs.

    Raises ``OperationRefused`` for one that is resolved.
    """
    if issue.state is State.RESOLVED:
        raise OperationRefused("the issue is resolved already; it reopens by itself when its count grows")
    return replace(
        issue,
        state=State.RESOLVED,
        owner=by,
        note=note,
        resolved_at=at,
        accepted_count=issue.count,
        accepted_until=None,
        by_person=True,
    )


def is_accepted(issue: Issue | None, finding: Finding, at: datetime) -> bool:
    """Return whether an operator acknowledged or resolved this finding, so that no issue is open."""
    return issue is not None and issue.state is not State.OPEN and _is_accepted(issue, finding.count, at)


def _is_accepted(issue: Issue, count: int, at: datetime) -> bool:
    return (
        issue.by_person
        and (issue.accepted_until is None or at < issue.accepted_until)
        and (issue.accepted_count is None or count <= issue.accepted_count)
    )


def _reopened(issue: Issue, at: datetime) -> Issue:
    return replace(
        issue,
        state=State.OPEN,
        opened_at=at,
        resolved_at=None,
        accepted_count=None,
        accepted_until=None,
        by_person=False,
    )
