"""Formats of times, durations, numbers and payloads in the pages."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from werkzeug.datastructures import MultiDict

NOTHING: Final = Markup("")
LONGEST_HIGHLIGHTED: Final = 65_536
"""Characters of a payload; a longer one has no colours."""
_JSON: Final = re.compile(
    r"""(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<text>"(?:[^"\\]|\\.)*")"""
    r"""|(?P<value>-?[0-9][0-9.eE+-]*|true|false|null)"""
)


def when(moment: datetime | None) -> Markup:
    """Return a moment to the second, in UTC; a line may end between its date and its time, nowhere else."""
    if moment is None:
        return NOTHING
    utc = moment.astimezone(UTC)
    parts = Markup('<span class="nowrap">{:%Y-%m-%d}</span> <span class="nowrap">{:%H:%M:%S}</span>').format(utc, utc)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(), parts)


def ago(moment: datetime | None, now: datetime | None = None) -> Markup:
    """Return how long ago a moment was; the moment itself shows on the pointer."""
    if moment is None:
        return Markup("never")
    utc = moment.astimezone(UTC)
    passed = (now or datetime.now(UTC)) - utc
    words = "just now" if passed < timedelta(seconds=1) else f"{length_of_time(passed)} ago"
    return Markup('<time datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(utc.isoformat(), utc, words)


def length_of_time(length: timedelta) -> str:
    """Return a length of time in its two largest units."""
    seconds = max(0, int(length.total_seconds()))
    parts = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((place for place, (_, number) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for unit, number in parts[first : first + 2] if number) or "0 s"


def age(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago a moment was, in its largest unit."""
    first, unit, *_ = length_of_time((now or datetime.now(UTC)) - moment).split()
    return f"{first} {unit}"


def seconds(length: timedelta) -> str:
    """Return a short length of time, as it is measured."""
    number = length.total_seconds()
    return f"{1000 * number:.0f} ms" if number < 1 else f"{number:.1f} s" if number < 60 else length_of_time(length)  # noqa: PLR2004 - a minute


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number of things."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def query(arguments: Iterable[tuple[str, str]]) -> str:
    """Return the query string of an address."""
    return urlencode(list(arguments))


def without(arguments: MultiDict[str, str], name: str) -> list[tuple[str, str]]:
    """Return the first page's arguments without one of them."""
    return [each for each in arguments.items(multi=True) if each[1] and each[0] not in {name, "before", "back"}]


def highlighted(payload: str) -> Markup:
    """Return a payload with the names, texts and other values of its JSON in colours."""
    if len(payload) > LONGEST_HIGHLIGHTED:
        return escape(payload)
    parts, end = [], 0
    for found in _JSON.finditer(payload):
        parts.append(escape(payload[end : found.start()]))
        parts.append(Markup('<span class="json-{}">{}</span>').format(found.lastgroup, found[0]))
        end = found.end()
    return NOTHING.join([*parts, escape(payload[end:])])


FILTERS: Final[Mapping[str, Callable[..., object]]] = {
    "when": when,
    "ago": ago,
    "age": age,
    "length_of_time": length_of_time,
    "counted": counted,
    "highlighted": highlighted,
    "seconds": seconds,
    "query": query,
    "without": without,
}
