"""Parquet, with the extra of that name: amounts as exact decimals, times in UTC, documents as JSON texts."""

from __future__ import annotations

from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Final

from receiver.errors import ConfigurationError, OperationRefused
from receiver.exports.rows import Rows
from receiver.exports.source import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from receiver.exports.rows import Row

DIGITS: Final = 38
"""What a 128-bit decimal holds, and what every reader of Parquet understands."""
PLACES: Final = 18
"""Digits behind the point; 20 are left for those in front of it."""
ROWS_IN_A_GROUP: Final = 20_000
"""Rows that are written together, and so kept in memory."""


class ParquetRows(Rows):
    """Rows in a Parquet file."""

    def __init__(self, into: IO[bytes], columns: Mapping[str, str]) -> None:
        """Raise ``ConfigurationError`` when the extra is not installed."""
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            import pyarrow.parquet as pq  # noqa: PLC0415 - likewise
        except ImportError:
            raise ConfigurationError(
                ["Parquet needs a library that is not installed: pip install 'opencard-receiver[parquet]'"]
            ) from None
        types = {
            TIMESTAMP: pa.timestamp("us", tz="UTC"),
            "numeric": pa.decimal128(DIGITS, PLACES),
            "bigint": pa.int64(),
            "integer": pa.int32(),
            "smallint": pa.int16(),
            "boolean": pa.bool_(),
            "date": pa.date32(),
            "time without time zone": pa.time64("us"),
        }
        self._arrow = pa
        self._schema = pa.schema([(name, types.get(kind, pa.string())) for name, kind in columns.items()])
        self._file = pq.ParquetWriter(into, self._schema, compression="zstd")
        self._kept: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch, or keep it for the next group. Raises ``OperationRefused`` for a number of too many digits."""
        self._kept += rows
        if len(self._kept) >= ROWS_IN_A_GROUP:
            self._write_group()

    def end(self) -> None:
        """Write the last group."""
        self._write_group()

    def close(self) -> None:
        """Write the end of a file."""
        self._file.close()

    def _write_group(self) -> None:
        if not self._kept:
            return
        columns = zip(*self._kept, strict=True)
        arrays = [self._array(field, values) for field, values in zip(self._schema, columns, strict=True)]
        self._file.write_batch(self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._kept = []

    def _array(self, field: Any, values: Sequence[Any]) -> Any:  # noqa: ANN401 - pyarrow has no types
        try:
            return self._arrow.array(values, type=field.type)
        except self._arrow.ArrowInvalid:
            worst = next((value for value in values if isinstance(value, Decimal) and not _fits(value)), None)
            raise OperationRefused(
                f"{field.name} {worst} has more digits than Parquet's decimal({DIGITS}, {PLACES}) holds, and is not "
                "rounded: export as csv or jsonl"
            ) from None


def _fits(value: Decimal) -> bool:
    if not value.is_finite():
        return False
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - of what is finite
    return -exponent <= PLACES and len(digits) + exponent <= DIGITS - PLACES
