"""What goes wrong between OpenCard and a receiver: duplicates, disorder, lost answers, bursts, losses, an outage."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from receiver.sandbox.story_events import StoryEvent

_SHORTEST_BURST: Final = 5
_LONGEST_BURST: Final = 40
LONGEST_OUTAGE: Final = 10_000

Loss: TypeAlias = Literal["lost", "outage"]
"""Why no attempt of a sending reaches the receiver: no connection, or a gateway that answers 503 in its place."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How much goes wrong, as shares from 0 (never) to 1 (always), and hours. Raises ``ValueError`` beyond those."""

    duplicates: float = 0
    """Share of events that are sent a second time, later."""
    disorder: float = 0
    """Share of events that change places: most a little, some by days."""
    lost_answers: float = 0
    """Share of sendings whose first 200 does not come back."""
    bursts: float = 0
    """Share of sendings that are held back and sent together, as after an outage at OpenCard."""
    lost: float = 0
    """Share of events that never reach the receiver: OpenCard finds no connection, a few times, and gives up."""
    outage: float = 0
    """Virtual hours in which a gateway answers 503 in the receiver's place; OpenCard gives up what is due then."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most, unit = (LONGEST_OUTAGE, "hours") if field.name == "outage" else (1, "a share")
            if not 0 <= value <= most:
                raise ValueError(f"{field.name}: {unit} from 0 to {most}, not {value!r}")


@dataclass(frozen=True, slots=True)
class Sending:
    """One event to be sent until it is taken."""

    sent: StoryEvent
    at: timedelta
    """When it is due, in virtual time; never before the sending in front of it."""
    duplicate: bool = False
    lose_answer: bool = False
    """The first 200 counts as lost, so the same bytes are sent again."""
    burst: bool = False
    """Part of a burst: due at the same moment as its neighbours."""
    loss: Loss | None = None
    """Why it is given up, the receiver being untouched; ``None`` when it gets through."""


def schedule(story_events: Sequence[StoryEvent], faults: Faults, seed: int) -> list[Sending]:
    """Return the sendings of *story_events* (in true order) in the order in which they are to go out.

    Each event is sent at least once. The events of one card holder keep their order, duplicates included, because they
    carry no time that would distinguish them. A displaced event is due when the one whose place it took was. The same
    arguments give the same schedule; losses and an outage change nothing but the fate of what is in it.
    """
    rng = Random(seed)  # noqa: S311 - a schedule has to be the same again, not unguessable
    ordered = sorted(_places(story_events, faults, rng), key=itemgetter(0))  # stable: equal places keep their order
    latest = len(story_events) - 1
    sendings = [
        Sending(
            sent,
            at=story_events[min(max(int(place), 0), latest)].at,
            duplicate=duplicate,
            lose_answer=rng.random() < faults.lost_answers,
        )
        for place, sent, duplicate in ordered
    ]
    held_back = list(_hold_back(sendings, faults.bursts, rng))
    return list(_decide_losses(held_back, story_events, faults, seed))


def _places(
    story_events: Sequence[StoryEvent], faults: Faults, rng: Random
) -> Iterator[tuple[float, StoryEvent, bool]]:
    """Yield each event, and its duplicate, with the place in the story that it is to take; halves lie between two."""
    reached: dict[tuple[str, str], float] = {}
    for index, sent in enumerate(story_events):
        place = float(index)
        if rng.random() < faults.disorder:
            place += rng.choice((-1, 1)) * _distance(rng, len(story_events))
        holder = sent.card_holder
        if holder:
            place = max(place, reached.get(holder, place))
        yield place, sent, False
        if rng.random() < faults.duplicates:
            place += _distance(rng, len(story_events))
            yield place, sent, True
        if holder:
            reached[holder] = place


def _distance(rng: Random, longest: int) -> float:
    """Return a number of places and a half: all orders of magnitude alike, so most are near and some are far."""
    return round(math.pow(longest, rng.random())) + 0.5


def _hold_back(sendings: Sequence[Sending], share: float, rng: Random) -> Iterator[Sending]:
    average = (_SHORTEST_BURST + _LONGEST_BURST) / 2
    begins = share / (share + average * (1 - share))  # the chance at each free sending that gives this share on average
    index = 0
    while index < len(sendings):
        if rng.random() < begins:
            burst = sendings[index : index + rng.randint(_SHORTEST_BURST, _LONGEST_BURST)]
            yield from (replace(sending, at=burst[-1].at, burst=True) for sending in burst)
            index += len(burst)
        else:
            yield sendings[index]
            index += 1


def _decide_losses(
    sendings: Sequence[Sending], story_events: Iterable[StoryEvent], faults: Faults, seed: int
) -> Iterator[Sending]:
    """Yield each sending with its fate. What is lost is lost with its duplicate; the outage takes what is due in it."""
    rng = Random(f"fates of {seed}")  # noqa: S311 - as above; apart from it, so that the rest stays as it is without
    lost = {sent for sent in story_events if rng.random() < faults.lost}
    hours = timedelta(hours=faults.outage)
    # around something that is due then, or a short one would mostly pass unnoticed
    begins = rng.choice(sendings).at - hours * rng.random() if sendings else timedelta()
    for sending in sendings:
        if begins <= sending.at < begins + hours:
            yield replace(sending, loss="outage")
        elif sending.sent in lost:
            yield replace(sending, loss="lost")
        else:
            yield sending
