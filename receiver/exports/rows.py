"""Rows on their way into a file: what the writers of all formats have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

Row: TypeAlias = Sequence[Any]


class Rows(ABC):
    """Writes rows to a file that is open as long as this is not closed."""

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch, or keep it for the next."""

    def end(self) -> None:  # noqa: B027 - most formats have nothing after the last row
        """Write what comes after the last row."""

    def close(self) -> None:  # noqa: B027 - likewise
        """Close the file, also after an error."""
