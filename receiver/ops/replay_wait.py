"""Waiting until a replay has ended; the replay does not depend on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from receiver.ops.replay_state import read_replay

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.ops.replay_state import ReplayState
    from receiver.progress import Progress

PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 2.0


def wait_for_end(engine: Engine, replay_id: int, *, timeout: float, progress: Progress) -> ReplayState:
    """Return the state of a replay when it has ended, or when nothing was processed for *timeout* seconds."""
    progress.stage("waiting for a worker")
    shown, last_sign, pause = 0, time.monotonic(), PAUSE
    while True:
        with engine.connect() as connection:
            replay = read_replay(connection, replay_id)
        if replay.finished > shown:
            if not shown:
                progress.stage("replaying")
                progress.total(replay.selected)
            for _ in range(replay.finished - shown):
                progress.advance()
            shown, last_sign, pause = replay.finished, time.monotonic(), PAUSE
        if replay.ended_at is not None or time.monotonic() - last_sign > timeout:
            return replay
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
