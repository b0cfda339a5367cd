"""Waiting for what another process does: looked at often, so that a test waits no longer than it must."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def eventually(condition: Callable[[], bool], *, within: float = 10.0) -> bool:
    """Return whether *condition* comes true within that many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
