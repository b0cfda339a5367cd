"""Which process is killed when. Moments are parts of the stream, so that a seed repeats its run on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Final

from receiver.sandbox.killable import KILLABLE

MAY_STAY_AWAY: Final = ("worker", "scheduler", "valkey")
"""Without these the stream goes on, so they may be away until the next one is killed."""
MAX_WRONG: Final = timedelta(minutes=5)
"""How wrong OpenCard's clock may be."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One of them."""

    part: str
    at: float
    """Which part of the stream is completed by then, from 0 to 1."""
    stays_away: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does in addition to the story's own faults."""

    kills: tuple[Kill, ...]
    clock_ahead: timedelta
    """By how much OpenCard's clock is ahead; negative when it is behind."""


def plan(seed: int, *, kills: int) -> Plan:
    """Return what the run of *seed* does: each part as often as any other, in an order and at moments by chance."""
    rng = Random(f"kills of {seed}")  # noqa: S311 - a run has to be the same again, not unguessable
    parts = [KILLABLE[number % len(KILLABLE)] for number in range(kills)]
    rng.shuffle(parts)
    moments = sorted(rng.uniform(0.01, 0.99) for _ in parts)
    return Plan(
        tuple(
            Kill(part, moment, stays_away=part in MAY_STAY_AWAY and rng.random() < 1 / 2)
            for part, moment in zip(parts, moments, strict=True)
        ),
        clock_ahead=timedelta(seconds=rng.uniform(-1, 1) * MAX_WRONG.total_seconds()),
    )
