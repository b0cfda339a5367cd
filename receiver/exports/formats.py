"""How each format writes rows, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.exports.cells import line, quoted
from receiver.exports.parquet import ParquetRows
from receiver.exports.rows import Rows
from receiver.exports.source import Format

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from receiver.exports.rows import Row

WORDS: Final = frozenset({"text", "jsonb", "text[]"})
"""Types whose values others chose; the rest cannot look like a formula, or may."""


def rows_in(how: Format, into: IO[bytes], columns: Mapping[str, str]) -> Rows:
    """Return what writes rows in a format; *columns*: name → type, as PostgreSQL calls it."""
    match how:
        case Format.CSV:
            return CsvRows(into, columns)
        case Format.JSONL:
            return JsonRows(into)
        case Format.PARQUET:
            return ParquetRows(into, columns)


class CsvRows(Rows):
    """CSV in UTF-8, with a line of names."""

    def __init__(self, into: IO[bytes], columns: Mapping[str, str]) -> None:
        self._into = into
        self._texts = [kind in WORDS for kind in columns.values()]
        into.write(line(columns).encode())

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch; each cell is a text or null."""
        self._into.write("".join(line(self._safe(row)) for row in rows).encode())

    def _safe(self, row: Row) -> Iterator[str | None]:
        for words, is_text in zip(row, self._texts, strict=True):
            yield quoted(words) if is_text and words is not None else words


class JsonRows(Rows):
    """JSON lines: an object for each row, as PostgreSQL wrote it."""

    def __init__(self, into: IO[bytes]) -> None:
        self._into = into

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch; each row is one text."""
        self._into.write("".join(f"{document}\n" for (document,) in rows).encode())
