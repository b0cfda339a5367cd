"""Events and versions that this release does not know: what was ignored for it, and what was applied all the same."""

from __future__ import annotations

import re
from ast import literal_eval
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.deliveries.models import TEST
from receiver.ops.deliveries.filter import is_resolved
from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from receiver.ops.retention.record import Query

MAX_ROWS: Final = 20
"""How many events and versions are named, those with the most deliveries first."""
LONGEST_NAME: Final = 100
_QUOTED: Final = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_SUBJECT: Final = re.compile(f"({_QUOTED}), (?:no version|version ({_QUOTED}))")

_IGNORED: Final = f"""
SELECT stored.event, stored.version, count(*) AS deliveries, min(stored.received_at) AS oldest,
    max(stored.received_at) AS newest
FROM receiver.outcomes AS outcome JOIN receiver.stored_deliveries AS stored ON stored.id = outcome.delivery_id
WHERE outcome.status = 'ignored' AND outcome.error IS DISTINCT FROM '{TEST}'
    AND NOT {is_resolved("outcome.delivery_id")}
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {MAX_ROWS}
"""  # noqa: S608 - constants
_APPLIED: Final = f"""
SELECT event, version, deliveries, first_at AS oldest, last_at AS newest FROM receiver.unknown_versions
WHERE last_at > now() - interval '8 days' ORDER BY deliveries DESC, event, version LIMIT {MAX_ROWS}
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class UnknownFormat:
    """Deliveries of one event and version."""

    event: str
    version: str | None
    deliveries: int
    oldest: datetime
    newest: datetime
    """When they were received, or applied."""

    def __str__(self) -> str:
        version = "no version" if self.version is None else f"version {self.version[:LONGEST_NAME]!r}"
        return f"{self.event[:LONGEST_NAME]!r}, {version}"


def named_format(subject: str) -> tuple[str, str | None] | None:
    """Return event and version in a subject, which is ``str`` of an ``UnknownFormat``; ``None`` if it was shortened."""
    found = _SUBJECT.fullmatch(subject)
    if found is None:
        return None
    event, version = literal_eval(found[1]), None if found[2] is None else literal_eval(found[2])
    return None if LONGEST_NAME in (len(event), len(version or "")) else (event, version)


@dataclass(frozen=True, slots=True)
class UnknownFormats:
    """The events and versions that arrived and that this release does not know."""

    ignored: tuple[UnknownFormat, ...] = ()
    """Kept and not applied; test deliveries are none of it."""
    applied: tuple[UnknownFormat, ...] = ()
    """Applied within eight days, because the payload has all fields of the known version."""


def read_unknown(query: Query) -> UnknownFormats:
    """Read what arrived that this release was not written for."""
    return UnknownFormats(
        tuple(UnknownFormat(**row) for row in query(_IGNORED)), tuple(UnknownFormat(**row) for row in query(_APPLIED))
    )


def find_unknown(found: UnknownFormats) -> Iterable[Finding]:
    """Yield what needs attention."""
    for each in found.ignored:
        number = "1 ignored delivery" if each.deliveries == 1 else f"{each.deliveries} ignored deliveries"
        text = (
            f"{number} ({each}): this release does not know the event or cannot parse the version; it is not in "
            "ems: upgrade, then replay"
        )
        again = "receiver replay --status ignored"
        yield Finding(FindingKind.UNKNOWN_FORMAT, text, str(each), count=each.deliveries, command=again)
    for each in found.applied:
        number = "1 delivery" if each.deliveries == 1 else f"{each.deliveries} deliveries"
        text = (
            f"{number} of an unknown version ({each}) applied as version 1, last at "
            f"{each.newest:%Y-%m-%d %H:%M:%S} UTC: ask OpenCard what changed, and upgrade"
        )
        yield Finding(FindingKind.UNKNOWN_VERSION, text, str(each), count=each.deliveries)
