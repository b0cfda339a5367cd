"""How long work reports its progress; how it is shown, for example as a bar, is up to the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Progress:
    """What work reports while it runs; may be called from several threads."""

    stage: Callable[[str], None] = lambda _words: None
    total: Callable[[int], None] = lambda _number: None
    advance: Callable[[], None] = lambda: None
