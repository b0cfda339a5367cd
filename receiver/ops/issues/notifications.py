"""Messages about issues, through Apprise: one for each change of state and address, until it is taken.

What is to be sent is written in the transaction of the change. A process claims a message for a minute, sends it, and
notes that; so none is lost, and none is sent twice within a minute. A reminder follows each day that an issue is open.
Apprise knows some hundred services by their URLs: Slack, Teams, PagerDuty, Telegram, e-mail, webhooks.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import apprise
import structlog
from sqlalchemy import text

from receiver.errors import ConfigurationError
from receiver.ops.findings import Severity
from receiver.ops.issues.lifecycle import State
from receiver.tracing import span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Engine, RowMapping

    from receiver.ops.issues.store import StoredIssue
    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

LONGEST_PAUSE: Final = 300
"""Seconds after which a message that was not taken is tried again at the latest; first after ten."""
LONGEST_TEXT: Final = 2_000
"""Characters of a message; some services refuse longer ones."""

TYPES: Final = {Severity.WARNING: "warning", Severity.CRITICAL: "failure"}
"""Apprise's types of messages; some services act on them."""
_NO_LONGER_OPEN: Final = {State.ACKNOWLEDGED: "info", State.RESOLVED: "success"}

_NOTE: Final = text(
    """
INSERT INTO receiver.notifications AS notification (issue_id, target, state, opened_at, due_at)
SELECT changed.issue_id, target, changed.state, changed.opened_at, clock_timestamp()
FROM unnest(CAST(:issue_ids AS bigint[]), CAST(:states AS text[]), CAST(:opened AS timestamptz[]),
    CAST(:severities AS integer[])) AS changed (issue_id, state, opened_at, severity)
JOIN unnest(CAST(:targets AS text[]), CAST(:lowest AS integer[])) AS address (target, lowest)
    ON changed.severity >= address.lowest
ON CONFLICT (issue_id, target) DO UPDATE
SET state = excluded.state, opened_at = excluded.opened_at,
    due_at = greatest(excluded.due_at, notification.due_at)
"""
)
"""What is being sent, was sent within a minute or is to be tried again keeps its time."""
# a time beyond the longest pause was written before the server's clock was set back
_CLAIM: Final = text(
    """
UPDATE receiver.notifications AS notification SET due_at = clock_timestamp() + interval '1 minute'
FROM receiver.issues AS issue
WHERE issue.id = notification.issue_id AND (notification.issue_id, notification.target) = (
    SELECT due.issue_id, due.target FROM receiver.notifications AS due
    WHERE due.target = ANY(:targets)
        AND due.due_at NOT BETWEEN clock_timestamp() AND clock_timestamp() + :longest * interval '1 second' AND (
        (due.state, due.opened_at) IS DISTINCT FROM (due.sent_state, due.sent_opened_at)
        OR due.state = 'open' AND due.sent_at < clock_timestamp() - interval '1 day'
    )
    ORDER BY due.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING notification.issue_id, notification.target, notification.state, notification.opened_at,
    notification.attempts,
    (notification.state, notification.opened_at) IS NOT DISTINCT FROM
        (notification.sent_state, notification.sent_opened_at) AS reminder,
    issue.kind, issue.severity, issue.text, issue.command, issue.example_delivery_id,
    issue.organization_reference_id, issue.resolved_at, issue.owner, issue.note
"""
)
_SENT: Final = text(
    """
UPDATE receiver.notifications
SET sent_state = :state, sent_opened_at = :opened_at, sent_at = clock_timestamp(), attempts = 0, error = NULL
WHERE issue_id = :issue_id AND target = :target
"""
)
_FAILED: Final = text(
    """
UPDATE receiver.notifications
SET attempts = attempts + 1, error = :error,
    due_at = clock_timestamp() + least(:longest, 10 * 2 ^ least(attempts, 10)) * interval '1 second'
WHERE issue_id = :issue_id AND target = :target
"""
)


@dataclass(frozen=True, slots=True)
class Target:
    """One address of ``NOTIFY_URLS``."""

    key: str
    """A hash of the URL: the database does not learn the URL, which holds a secret."""
    name: str
    """The URL with its secrets masked."""
    lowest: Severity
    """The lowest severity that is sent."""
    service: apprise.Apprise

    def send(self, *, title: str, body: str, message_type: str) -> None:
        """Send a message of one of Apprise's types. Raises ``OSError`` when it was not taken."""
        with apprise.LogCapture(level=logging.WARNING) as said:  # type: ignore[no-untyped-call]
            taken = self.service.notify(title=title, body=body[:LONGEST_TEXT], notify_type=message_type)
            reason = said.getvalue().strip().splitlines()
        if not taken:
            raise OSError(reason[-1] if reason else "not taken")


def targets_of(settings: Settings) -> tuple[Target, ...]:
    """Return the addresses to which messages go. Raises ``ConfigurationError`` for one that Apprise does not know."""
    targets = []
    for number, each in enumerate(settings.notify_urls, start=1):
        service = apprise.Apprise()
        if not service.add(each.url):
            raise ConfigurationError(
                [f"NOTIFY_URLS: entry {number} of {len(settings.notify_urls)} is not a URL that Apprise knows"]
            )
        key = hashlib.sha256(each.url.encode()).hexdigest()[:32]
        name = service[0].url(privacy=True)  # type: ignore[no-untyped-call]
        targets.append(Target(key, name, Severity[each.lowest.upper()], service))
    return tuple(targets)


def note_changes(connection: Connection, changed: Sequence[StoredIssue], targets: Sequence[Target]) -> None:
    """Note that issues changed state, in the transaction of the change."""
    if changed and targets:
        parameters = {
            "issue_ids": [each.id for each in changed],
            "states": [str(each.issue.state) for each in changed],
            "opened": [each.issue.opened_at for each in changed],
            "severities": [each.issue.severity for each in changed],
            "targets": [target.key for target in targets],
            "lowest": [int(target.lowest) for target in targets],
        }
        connection.execute(_NOTE, parameters)


def send_due(engine: Engine, targets: Iterable[Target], *, link: str) -> int:
    """Send what is due, one after the other; return how many were taken.

    *link*: the address of the console, without the slash at its end. Raises SQLAlchemy's errors.
    """
    by_key = {target.key: target for target in targets}
    sent = 0
    while True:
        with engine.begin() as connection:
            row = (
                connection.execute(_CLAIM, {"targets": list(by_key), "longest": LONGEST_PAUSE}).mappings().one_or_none()
            )
        if row is None:
            return sent
        target = by_key[row["target"]]
        try:
            with span("send notification", **{"receiver.issue_id": row["issue_id"], "receiver.state": row["state"]}):
                target.send(
                    title=_title(row),
                    body=_body(row, link),
                    message_type=_NO_LONGER_OPEN.get(row["state"], TYPES[Severity(row["severity"])]),
                )
        except OSError as error:
            log.warning("notification.failed", target=target.name, issue=row["issue_id"], error=str(error))
            outcome, values = _FAILED, {"error": str(error)[:LONGEST_TEXT], "longest": LONGEST_PAUSE}
        else:
            sent += 1
            outcome, values = _SENT, {"state": row["state"], "opened_at": row["opened_at"]}
        with engine.begin() as connection:
            connection.execute(outcome, {**values, "issue_id": row["issue_id"], "target": row["target"]})


def _title(row: RowMapping) -> str:
    state = "still open" if row["reminder"] else row["state"]
    about = row["organization_reference_id"]
    return f"OpenCard receiver: {row['kind']} {state}" + (f" ({about})" if about else "")


def _body(row: RowMapping, link: str) -> str:
    lines = [row["text"], f"since {row['opened_at']:%Y-%m-%d %H:%M:%S} UTC"]
    if row["state"] == State.RESOLVED and row["resolved_at"] is not None:
        lines[-1] += f", until {row['resolved_at']:%Y-%m-%d %H:%M:%S} UTC"
    if row["state"] != State.OPEN and row["note"]:
        lines.append(f"{row['owner']}: {row['note']}")
    if row["state"] == State.OPEN and row["command"]:
        lines.append(row["command"])
    if row["state"] == State.OPEN and row["example_delivery_id"] is not None:
        lines.append(f"for example {link}/ops/deliveries/{row['example_delivery_id']}")
    return "\n".join([*lines, f"{link}/ops/issues/{row['issue_id']}"])
