"""Issues in PostgreSQL. One process at a time compares them with the findings; operators may change them meanwhile."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.ops.issues import lifecycle
from receiver.ops.issues.lifecycle import Issue, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlalchemy import Connection, RowMapping

    from receiver.ops.findings import Finding

_FIELDS: Final = tuple(field.name for field in fields(Issue))
_COLUMNS: Final = ", ".join(_FIELDS)
# those that are not resolved, and those that a person resolved and that may still be found
_LIVE: Final = text(f"SELECT id, {_COLUMNS} FROM receiver.issues WHERE state <> 'resolved' OR by_person FOR UPDATE")  # noqa: S608 - constants
_FOUND_AGAIN: Final = text(
    f"""
SELECT id, {_COLUMNS} FROM receiver.issues
WHERE (kind, subject) IN (SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:subjects AS text[])))
FOR UPDATE
"""  # noqa: S608 - constants
)
_CHANGE: Final = text(
    f"""
UPDATE receiver.issues SET {", ".join(f"{name} = :{name}" for name in _FIELDS)}
WHERE kind = :kind AND subject = :subject RETURNING id
"""  # noqa: S608 - constants
)
_ADD: Final = text(
    f"""
INSERT INTO receiver.issues ({_COLUMNS}) VALUES ({", ".join(f":{name}" for name in _FIELDS)}) RETURNING id
"""  # noqa: S608 - constants
)
_ONE: Final = text(f"SELECT id, {_COLUMNS} FROM receiver.issues WHERE id = :id")  # noqa: S608 - constants
_ONE_LOCKED: Final = text(f"{_ONE.text} FOR UPDATE")
_LIST: Final = text(
    f"""
SELECT id, {_COLUMNS} FROM receiver.issues
WHERE state = ANY(:states)
ORDER BY array_position(ARRAY['open', 'acknowledged', 'resolved'], state), severity DESC, opened_at DESC, id DESC
LIMIT :limit
"""  # noqa: S608 - constants
)
# only for the addresses that were notified of the issue; whether there is something to send is decided when it is due
_NOTIFY: Final = text(
    """
UPDATE receiver.notifications SET state = :state, opened_at = :opened_at, due_at = greatest(clock_timestamp(), due_at)
WHERE issue_id = :issue_id
"""
)
_DELETE_OLD: Final = text(
    "DELETE FROM receiver.issues WHERE state = 'resolved' AND NOT by_person AND resolved_at < :at - interval '400 days'"
)


@dataclass(frozen=True, slots=True)
class StoredIssue:
    """An issue and its id."""

    id: int
    issue: Issue


def compare(connection: Connection, findings: Iterable[Finding], *, at: datetime) -> list[StoredIssue]:
    """Update the stored issues to the *findings*, in the caller's transaction; return those that changed state.

    An issue that reopened counts as changed. *at*: the time of the check, by the database's clock.
    """
    found = {(str(finding.kind), finding.subject): finding for finding in findings}
    parameters = {"kinds": [kind for kind, _ in found], "subjects": [subject for _, subject in found]}
    rows = [*connection.execute(_LIVE).mappings(), *connection.execute(_FOUND_AGAIN, parameters).mappings()]
    known = {(row["kind"], row["subject"]): _stored(row) for row in rows}
    changed = []
    for key in known.keys() | found.keys():
        stored = known.get(key)
        before = stored.issue if stored else None
        after = lifecycle.observe(before, found.get(key), at)
        if after is None or after == before:
            continue
        issue_id = _save(connection, after)
        if before is None or (before.state, before.opened_at) != (after.state, after.opened_at):
            changed.append(StoredIssue(issue_id, after))
    connection.execute(_DELETE_OLD, {"at": at})
    return changed


def accepted(connection: Connection, findings: Iterable[Finding], *, at: datetime) -> list[Finding]:
    """Return the findings that a person acknowledged or resolved."""
    found = list(findings)
    parameters = {"kinds": [str(each.kind) for each in found], "subjects": [each.subject for each in found]}
    query = text(_FOUND_AGAIN.text.replace("FOR UPDATE", ""))
    rows = connection.execute(query, parameters).mappings()
    known = {(row["kind"], row["subject"]): _stored(row).issue for row in rows}
    return [each for each in found if lifecycle.is_accepted(known.get((str(each.kind), each.subject)), each, at)]


def list_issues(connection: Connection, *, states: Iterable[State], limit: int) -> list[StoredIssue]:
    """Return issues of some states: open ones first, of those the worst first."""
    rows = connection.execute(_LIST, {"states": [str(state) for state in states], "limit": limit}).mappings()
    return [_stored(row) for row in rows]


def read_issue(connection: Connection, issue_id: int) -> StoredIssue:
    """Return one issue. Raises ``OperationRefused`` when there is none of this id."""
    return _one(connection, _ONE, issue_id)


def answer(connection: Connection, issue_id: int, change: Callable[[Issue], Issue]) -> StoredIssue:
    """Apply an operator's *change* to an issue, in the caller's transaction, and return the changed issue.

    The addresses that were notified of it are sent the change, and no reminders while it is not open. Raises
    ``OperationRefused`` when there is none of this id, or *change* does.
    """
    after = change(_one(connection, _ONE_LOCKED, issue_id).issue)
    _save(connection, after)
    changed = {"issue_id": issue_id, "state": str(after.state), "opened_at": after.opened_at}
    connection.execute(_NOTIFY, changed)
    return StoredIssue(issue_id, after)


def _one(connection: Connection, query: Any, issue_id: int) -> StoredIssue:  # noqa: ANN401 - a text clause
    row = connection.execute(query, {"id": issue_id}).mappings().one_or_none()
    if row is None:
        raise OperationRefused(f"there is no issue {issue_id}; see receiver issues list")
    return _stored(row)


def _save(connection: Connection, issue: Issue) -> int:
    """Store an issue and return its id. It updates before it inserts: a failed INSERT would use up an id."""
    values = {**asdict(issue), "state": str(issue.state)}
    known = connection.scalar(_CHANGE, values)
    return int(connection.execute(_ADD, values).scalar_one() if known is None else known)


def _stored(row: RowMapping) -> StoredIssue:
    values = {name: row[name] for name in _FIELDS}
    return StoredIssue(row["id"], Issue(**{**values, "state": State(values["state"])}))
