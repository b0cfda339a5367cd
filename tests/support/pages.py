"""The shell lines of the documents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.*?) -->\n)?^ *```sh\n(?P<lines>.*?)^ *```", re.MULTILINE | re.DOTALL)


def shell_lines(page: Path, *, run: bool | None = None) -> list[str]:
    """Return the lines of the shell blocks: all, those that are to run, or those that are marked as not to."""
    return lines_of(page.read_text(), run=run)


def lines_of(text: str, *, run: bool | None = None) -> list[str]:
    """Return the lines of the shell blocks of a part of a page."""
    blocks = [block for block in BLOCK.finditer(text) if run is None or run is (block["reason"] is None)]
    return [line.strip() for block in blocks for line in block["lines"].splitlines() if line.strip()]
