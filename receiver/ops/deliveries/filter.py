"""Which deliveries a filter selects, and which errors are one and the same. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

ANYTHING: Final = "*"
"""Replaces what differs between errors of one group; matches anything in a filter."""
LONGEST_GROUP: Final = 200
NO_VERSION: Final = "none"
"""The version, in a filter, of deliveries without ``X-Version``."""

# quoted names are kept unless they bear digits: 'acme' names a cause, 't-4711' one case of it
_QUOTED: Final = re.compile(r"""(?P<quote>['"`])(?=[^'"`]*[0-9])[^'"`]*(?P=quote)""")
_UUID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_HEX: Final = re.compile(r"\b(?:0x[0-9a-f]+|(?=[a-f]*[0-9])[0-9a-f]{8,})\b", re.IGNORECASE)
_TIME: Final = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]+(?:Z|[+-][0-9:]+)?)?", re.ASCII)
_NUMBER: Final = re.compile(r"(?<![\w.])[-+]?[0-9]+(?:[.,:/][0-9]+)*(?![0-9A-Za-z_])", re.ASCII)

IS_NOT_IN_THE_LOG: Final = """
delivery.source = 'push' AND delivery.confirmed_at IS NULL AND delivery.received_at < (
    SELECT run.unconfirmed_before FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = delivery.webhook_id AND run.checked_until IS NOT NULL ORDER BY run.started_at DESC LIMIT 1
)
"""
"""The condition, in SQL, that a ``delivery`` is missing in OpenCard's log."""
IS_UNCONFIRMED: Final = f"delivery.decision IS NULL AND {IS_NOT_IN_THE_LOG}"
"""The condition, in SQL, that it is missing there, and that no person decided about it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries; what is empty does not restrict. Different fields restrict together, values of one widen."""

    statuses: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    """As they arrived in ``X-Event``."""
    version: str | None = None
    """As it arrived in ``X-Version``; ``none`` for deliveries without one."""
    organizations: tuple[str, ...] = ()
    """The EMS's own ids of them."""
    since: datetime | None = None
    """Received at this time or later."""
    until: datetime | None = None
    """Received before this time."""
    error: str | None = None
    """Text of the first line of the error, in upper or lower case; ``*`` is anything, as in a group's name."""
    transaction_id: str | None = None
    card_holder_reference_id: str | None = None
    """Events of that card holder, and of the card holder's transactions."""

    unresolved: bool = False
    """Failed, dead, quarantined or ignored, and not resolved; test deliveries are left out."""

    unconfirmed: bool = False
    """Pushed, missing in OpenCard's log when that was last compared, and no person decided about it."""

    @property
    def restricts(self) -> bool:
        """Whether anything is left out."""
        return self != Filter()


def is_resolved(delivery_id: str) -> str:
    """Return the condition, in SQL, that an operator resolved a delivery (``receiver.ops.resolving``)."""
    return (
        "EXISTS (SELECT FROM receiver.acknowledged_gaps AS resolved "
        f"WHERE resolved.kind = 'delivery' AND resolved.id = {delivery_id})"
    )


def error_group(error: str | None) -> str:
    """Return the name that errors of one cause share: the first line, with ``*`` for ids, numbers and times."""
    line = (error or "").partition("\n")[0].strip()
    for varying in (_QUOTED, _UUID, _TIME, _HEX, _NUMBER):
        line = varying.sub(ANYTHING, line)
    return line if len(line) <= LONGEST_GROUP else line[: LONGEST_GROUP - 1] + ANYTHING


def error_pattern(wanted: str) -> str:
    """Return the pattern, for ``ILIKE``, of error lines that contain *wanted*."""
    parts = [
        re.sub(r"([\\%_])", r"\\\1", part) for part in wanted.replace("\0", "\N{REPLACEMENT CHARACTER}").split("*")
    ]
    return "%" + "%".join(parts) + "%"
