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

BYTE_ORDER_MARK: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
"""By which Excel knows that a file is UTF-8."""
WORDS: Final = frozenset({"text", "jsonb", "text[]"})
"""Types whose values others chose; the rest cannot look like a formula, or may."""


def rows_in(how: Format, into: IO[bytes], columns: Mapping[str, str], *, excel: bool = False) -> Rows:
    """Return what writes rows in a format; *columns*: name → type, as PostgreSQL calls it; *excel*: see ``CsvRows``."""
    match how:
        case Format.CSV:
            return CsvRows(into, columns, excel=excel)
        case Format.JSONL:
            return JsonRows(into)
        case Format.PARQUET:
            return ParquetRows(into, columns)


class CsvRows(Rows):
    """CSV in UTF-8, with a line of names; for *excel* with a byte order mark, ``;`` and a decimal comma."""

    def __init__(self, into: IO[bytes], columns: Mapping[str, str], *, excel: bool = False) -> None:
        self._into = into
        self._separator = ";" if excel else ","
        self._texts = [kind in WORDS for kind in columns.values()]
        self._amounts = [excel and kind == "numeric" for kind in columns.values()]
        into.write((BYTE_ORDER_MARK if excel else "").encode() + line(columns, self._separator).encode())

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch; each cell is a text or null."""
        self._into.write("".join(line(self._safe(row), self._separator) for row in rows).encode())

    def _safe(self, row: Row) -> Iterator[str | None]:
        for words, is_text, is_amount in zip(row, self._texts, self._amounts, strict=True):
            if words is None:
                yield None
            elif is_amount:
                yield words.replace(".", ",")
            else:
                yield quoted(words) if is_text else words


class JsonRows(Rows):
    """JSON lines: an object for each row, as PostgreSQL wrote it."""

    def __init__(self, into: IO[bytes]) -> None:
        self._into = into

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch; each row is one text."""
        self._into.write("".join(f"{document}\n" for (document,) in rows).encode())
