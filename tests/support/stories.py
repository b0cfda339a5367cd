"""Stories: events of every kind, how each attempt to deliver them ends, and the rows that follow from what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from hypothesis import strategies as st

from receiver.events.catalogue import canonical_name, spellings
from receiver.events.content import decode
from receiver.events.event import ClaimedDelivery
from receiver.events.kinds import BY_NAME, KIND_OF, KINDS
from receiver.events.parse import parse
from receiver.json_rows import rows_parameter
from receiver.records.folds import fold
from receiver.records.history import Subject
from receiver.records.tables import FOLDED
from receiver.verify import rows as verified_rows
from tests.support.factories import body, card_holder, enrichment, sample, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import psycopg

    from receiver.events.event import Event
    from receiver.json_rows import Row

SUBJECT: Final = "subject-1"
VERSIONS: Final = 3
"""How many payloads of one event about one subject there are; of card holders, whose payloads never differ, one."""


class Sent(NamedTuple):
    """What OpenCard sends."""

    event: str
    payload: dict[str, Any]


def _vat(subject: str, version: int) -> dict[str, Any]:
    lines = [
        {"vat_amount": version, "taxable_amount": 1, "total_amount": number, "currency": "SEK"} for number in (1, 2)
    ]
    rates = [{**line, "percentage": 25} for line in lines]
    return enrichment("transaction.true.vat", transaction=subject, vat_rates=rates[:version], totals=lines)


def _line_items(subject: str, version: int) -> dict[str, Any]:
    items = [{"description": f"item {number}", "total_amount": version} for number in range(version)]
    return enrichment("transaction.line.items", transaction=subject, line_items=items)


_PAYLOADS: Final[dict[str, Callable[[str, str, int], dict[str, Any]]]] = {
    "transaction": lambda event, subject, version: snapshot(
        event.rpartition(".")[2], transaction=subject, accounting_amount=Decimal(version)
    ),
    "card_holder": lambda _, subject, __: card_holder(subject),
    "tpa": lambda event, subject, version: sample(event, id=subject, name=f"name {version}"),
    "receipt": lambda event, subject, version: enrichment(
        event, transaction=subject, url=f"https://files.invalid/{version % 2}", original_amount=Decimal(version)
    ),
    "vat": lambda _, subject, version: _vat(subject, version),
    "line_items": lambda _, subject, version: _line_items(subject, version),
    "environmental_impact": lambda event, subject, version: enrichment(
        event, transaction=subject, carbon_emission_in_grams=version
    ),
    "invoice": lambda event, subject, version: sample(event, id=subject, invoice_amount=Decimal(version)),
}


def sent(event: str, version: int = 0, subject: str = SUBJECT) -> Sent:
    """Return an *event*, in any spelling, about *subject*; its payload differs with *version*."""
    name = canonical_name(event)
    assert name is not None
    return Sent(event, _PAYLOADS[KIND_OF[name].name](name, subject, version))


def events_of(kind: str) -> st.SearchStrategy[Sent]:
    """Return a strategy for the events of a kind about one subject, in every spelling."""
    names = [spelling for name in BY_NAME[kind].payloads for spelling in spellings(name)]
    return st.builds(sent, st.sampled_from(names), st.integers(0, VERSIONS - 1))


SENT: Final[dict[str, st.SearchStrategy[Sent]]] = {kind.name: events_of(kind.name) for kind in KINDS}
"""Events of one kind, by its name."""
EVERYTHING: Final = st.one_of(*SENT.values())


# --- attempts --------------------------------------------------------------------------------------------------------


class Attempt(NamedTuple):
    """One request of OpenCard."""

    at: timedelta
    """After the story began."""
    status: int | None
    """What OpenCard's log says of it; ``None`` for no answer."""
    arrives: bool
    """Whether it is stored."""


class Happened(NamedTuple):
    """An event, and all attempts to deliver it."""

    sent: Sent
    attempts: tuple[Attempt, ...]


ENDINGS: Final[dict[str, tuple[tuple[int | None, bool], ...]]] = {
    "at once": ((200, True),),
    "by a retry": ((503, False), (200, True)),
    "by the third attempt": ((503, False), (None, False), (200, True)),
    "twice, for an answer was lost": ((None, True), (200, True)),
    "twice, after a failure": ((503, False), (None, True), (200, True)),
    "not, for what was taken was lost": ((200, False),),
    "not, for a retry was lost": ((503, False), (200, False)),
    "never": ((503, False), (503, False)),
    "without an answer": ((None, True),),
}
"""How the attempts to deliver an event end: the status in OpenCard's log, and whether the request is stored."""
GAPS: Final = (timedelta(seconds=6), timedelta(minutes=1), timedelta(hours=13), timedelta(hours=25))
PAUSES: Final = (timedelta(seconds=7), timedelta(seconds=45), timedelta(hours=2), timedelta(hours=30))
"""Between the attempts of one event."""


def _is_closed(ending: str) -> bool:
    return ENDINGS[ending][-1][0] == 200


@dataclass(frozen=True)
class DeliveryStory:
    """Events in true order, that of their first attempts."""

    happened: tuple[Happened, ...]

    def attempts(self) -> list[tuple[Attempt, Sent]]:
        """Return all attempts in the order in which they are made."""
        return sorted((attempt, each.sent) for each in self.happened for attempt in each.attempts)

    @property
    def length(self) -> timedelta:
        """The time from its beginning to its last attempt."""
        return self.attempts()[-1][0].at


def story(happened: Sequence[tuple[Sent, timedelta, str, timedelta]]) -> DeliveryStory:
    """Return the story of events, each with the gap before it, its fate, and the pause between its attempts.

    Payloads bear no id: whether an event failed and equals a later one, or the later one is a retry of it,
    cannot be known. So of equal events only the last is left without an answer of 200, and none begins before the
    attempts of the one before it have ended.
    """
    names = [(canonical_name(each[0].event), body(each[0].payload)) for each in happened]
    ended: dict[Any, timedelta] = {}
    events: list[Happened] = []
    at = timedelta()
    for number, (what, gap, ending, pause) in enumerate(happened):
        at = max(at + gap, ended.get(names[number], timedelta()) + GAPS[0])
        endings = ENDINGS[ending if _is_closed(ending) or names[number] not in names[number + 1 :] else "by a retry"]
        ended[names[number]] = at + (len(endings) - 1) * pause
        own = at + timedelta(microseconds=number + 1)  # no two attempts are made at the same moment
        events.append(Happened(what, tuple(Attempt(own + place * pause, *end) for place, end in enumerate(endings))))
    return DeliveryStory(tuple(events))


def stories(what: st.SearchStrategy[Sent], *, most: int = 6) -> st.SearchStrategy[DeliveryStory]:
    """Return a strategy for stories of the events *what*."""
    each = st.tuples(what, st.sampled_from(GAPS), st.sampled_from(sorted(ENDINGS)), st.sampled_from(PAUSES))
    return st.builds(story, st.lists(each, min_size=1, max_size=most))


# --- what follows ----------------------------------------------------------------------------------------------------


def rows_of(story: DeliveryStory, began: datetime, organization: str = "acme") -> dict[str, list[Row]]:
    """Return, by table, the rows of ``ems``: the fold of what was sent, each event at its first attempt."""
    by_subject: dict[Subject, list[Event]] = {}
    for number, (what, attempts) in zip(count(1), story.happened, strict=False):
        event = parse(
            ClaimedDelivery(
                id=number,
                organization_reference_id=organization,
                event=what.event,
                version="1",
                body=body(what.payload),
                source="push",
                occurred_at=began + attempts[0].at,
                attempts=1,
            )
        )
        event = msgspec.structs.replace(event, as_sent=False)  # columns are read from its content
        by_subject.setdefault(Subject(KIND_OF[event.name], organization, event.subject_id), []).append(event)
    rows: dict[str, list[Row]] = {table.name: [] for table in FOLDED.values()}
    for subject, events in by_subject.items():
        for model, folded in fold(subject.kind, events).items():
            rows[FOLDED[model].name] += folded
    return rows


def differing(
    connection: psycopg.Connection[Any], expected: dict[str, list[Row]], organization: str = "acme"
) -> list[str]:
    """Return the rows of ``ems`` that are not what is expected; which delivery brought them does not count."""
    found = []
    for table in FOLDED.values():
        asked = {"organization": organization, "after": "", "until": None, "rows": rows_parameter(expected[table.name])}
        for pair in connection.execute(verified_rows._COMPARE[table.name], asked, prepare=False):
            present, wanted = ({} if row is None else decode(row.encode()) for row in pair)
            columns = {name for name in present.keys() | wanted.keys() if present.get(name) != wanted.get(name)}
            columns.discard("delivery_id")
            if columns:
                shown = {name: (present.get(name), wanted.get(name)) for name in sorted(columns)}
                found.append(f"{table.name}: {shown}")
    return found
