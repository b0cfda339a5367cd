"""The downloads of receipts: what is still to be downloaded, fails or was lost, for ``status`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from datetime import datetime

Query: TypeAlias = Callable[[str], Iterable[Mapping[str, Any]]]
"""Runs a query without parameters and returns its rows."""

# the table holds what is not done, so it is small; what was given up is reported for as long as reconciling looks back
_STATE: Final = """
SELECT count(*) FILTER (WHERE status = 'waiting') AS waiting,
    min(noted_at) FILTER (WHERE status = 'waiting') AS oldest_waiting,
    count(*) FILTER (WHERE status = 'waiting' AND error IS NOT NULL AND attempts >= 3) AS failing,
    min(expires_at) FILTER (WHERE status = 'waiting' AND error IS NOT NULL AND attempts >= 3) AS first_expires_at,
    (
        SELECT error FROM receiver.receipt_downloads
        WHERE status = 'waiting' AND error IS NOT NULL AND attempts >= 3 ORDER BY last_attempt_at DESC LIMIT 1
    ) AS last_error,
    count(*) FILTER (WHERE status = 'expired') AS expired,
    count(*) FILTER (WHERE status = 'refused') AS refused,
    count(*) FILTER (WHERE status = 'expired' AND completed_at > now() - interval '8 days') AS newly_expired,
    count(*) FILTER (WHERE status = 'refused' AND completed_at > now() - interval '8 days') AS newly_refused
FROM receiver.receipt_downloads
"""


@dataclass(frozen=True, slots=True)
class ReceiptsState:
    """The state of the downloads of receipts. Its fields are the columns of the query."""

    waiting: int
    """Files that are still to be downloaded, those that fail so far included."""
    oldest_waiting: datetime | None
    """When the first of them was noted."""
    failing: int
    """Those of them that failed three times or more."""
    first_expires_at: datetime | None
    """When the first of those is lost."""
    last_error: str | None
    expired: int
    """Files that were lost: all that are known."""
    refused: int
    """Files that must not be stored: all that are known."""
    newly_expired: int
    """Those of the last eight days."""
    newly_refused: int
    """Likewise."""

    def in_words(self) -> str:
        """Return the downloads that are still to be made, on one line."""
        return f"{self.waiting} waiting for their files, {self.failing} of them failing"


def read_receipts(query: Query) -> ReceiptsState:
    """Read the present state of the downloads."""
    (row,) = query(_STATE)
    return ReceiptsState(**row)


def find_in_receipts(state: ReceiptsState, *, missing: str) -> Iterable[Finding]:
    """Yield what needs attention with the downloads; *missing*: why nothing is downloaded at all, empty if it is."""
    if missing and state.waiting:
        text = f"{_files(state.waiting)} not downloaded, and lost when the URLs expire: {missing}"
        yield Finding(FindingKind.RECEIPTS_LATE, text, count=state.waiting)
    elif state.failing:
        until = state.first_expires_at
        lost = "" if until is None else f", the first is lost at {until:%Y-%m-%d %H:%M:%S} UTC"
        text = f"{_files(state.failing)} not downloaded so far{lost}: {state.last_error}"
        yield Finding(FindingKind.RECEIPTS_LATE, text, count=state.failing)
    if state.newly_expired:
        text = f"{_files(state.newly_expired)} lost, the URLs expired before the download"
        listed = "receiver files list --status expired"
        yield Finding(FindingKind.RECEIPTS_LOST, text, count=state.newly_expired, command=listed)
    if state.newly_refused:
        text = f"{_files(state.newly_refused)} refused"
        listed = "receiver files list --status refused"
        yield Finding(FindingKind.RECEIPTS_REFUSED, text, count=state.newly_refused, command=listed)


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"
