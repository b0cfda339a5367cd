"""Every export equals the table to the last digit, in every format."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from receiver.exports.cells import unquoted
from receiver.exports.source import SOURCES
from tests.exports.conftest import FORMULAS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from tests.conftest import Acme

NAMES = sorted(SOURCES)


def table(acme: Acme, name: str) -> list[dict[str, Any]]:
    """Return the rows as PostgreSQL has them; documents, lists and bytes as texts."""
    kinds = {
        row["attname"]: row["kind"]
        for row in acme.rows(
            "SELECT attname, format_type(atttypid, NULL) AS kind FROM pg_attribute"
            " WHERE attrelid = CAST(:relation AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            relation=SOURCES[name].relation,
        )
    }
    columns = ", ".join(
        f"{column}::text" if kind in {"jsonb", "bytea", "text[]"} else column for column, kind in kinds.items()
    )
    return acme.rows(f"SELECT {columns} FROM {SOURCES[name].relation} ORDER BY {', '.join(SOURCES[name].order)}")  # noqa: S608


def as_text(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)


def read_csv(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content, newline=""), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_csv_equals_the_table(filled: Acme, export: Callable[..., Result], name: str) -> None:
    exported = read_csv(export(name).stdout_bytes.decode())
    expected = table(filled, name)
    assert expected
    assert [{key: unquoted(value) for key, value in row.items()} for row in exported] == [
        {key: as_text(value) or "" for key, value in row.items()} for row in expected
    ]
    assert list(exported[0]) == list(expected[0])


def test_csv_escapes_formulas_and_keeps_null_distinct(filled: Acme, export: Callable[..., Result]) -> None:
    del filled
    content = export("transactions", "--organization", "acme").stdout_bytes.decode()
    merchants = [row["purchase_merchant"] for row in read_csv(content)]
    assert not [merchant for merchant in merchants if merchant.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {unquoted(merchant) for merchant in merchants} == {*FORMULAS, "", " ", "Café Müller \N{SNOWMAN}"}
    assert "-0.1" in {row["original_amount"] for row in read_csv(content)}, "an amount is no formula"
    assert ',"",' in content, "the merchant without a name"
    assert ",,," in content, "no merchant was sent"


@pytest.mark.parametrize("name", NAMES)
def test_json_lines_equal_the_table(filled: Acme, export: Callable[..., Result], name: str) -> None:
    lines = export(name, "--format", "jsonl").stdout_bytes.decode().splitlines()
    exported = [json.loads(line, parse_float=Decimal) for line in lines]
    assert len(exported) == len(lines)
    for row, expected in zip(exported, table(filled, name), strict=True):
        for column, value in expected.items():
            if isinstance(row[column], list) and value.startswith("{"):
                assert f"{{{','.join(row[column])}}}" == value
            elif isinstance(row[column], dict | list):
                assert row[column] == json.loads(value, parse_float=Decimal)
            elif isinstance(value, Decimal):
                assert (Decimal(row[column]), str(Decimal(row[column]))) == (value, str(value)), "the very digits"
            elif isinstance(value, datetime | date | time):
                assert row[column] == as_text(value)
            else:
                assert row[column] == value


@pytest.mark.parametrize("name", NAMES)
def test_parquet_equals_the_table(filled: Acme, export: Callable[..., Result], tmp_path: Path, name: str) -> None:
    path = tmp_path / "export.parquet"
    result = export(name, "--format", "parquet", "--output", path)
    expected = table(filled, name)
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "",
        f"{len(expected)} row{'s' * (len(expected) != 1)} in {path}\n",
    )
    assert pq.read_table(path).to_pylist() == expected
    for field in pq.read_schema(path):
        if field.name.endswith(("amount", "rate")):
            assert field.type == pa.decimal128(38, 18)
        if field.name.endswith("_at"):
            assert field.type == pa.timestamp("us", tz="UTC")


def test_number_that_parquet_would_round_is_refused(
    filled: Acme, export: Callable[..., Result], tmp_path: Path
) -> None:
    filled.execute("UPDATE ems.transactions SET exchange_rate = 1.0000000000000000001 WHERE id = 'transaction-1'")
    result = export("transactions", "--format", "parquet", "--output", tmp_path / "export.parquet")
    assert result.exit_code == 1
    assert result.stderr == (
        "receiver: exchange_rate 1.0000000000000000001 has more digits than Parquet's decimal(38, 18) holds, and is "
        "not rounded: export as csv or jsonl\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["csv", "jsonl", "parquet"])
def test_export_without_rows_is_a_valid_file(
    acme: Acme, export: Callable[..., Result], tmp_path: Path, how: str
) -> None:
    del acme  # asked for so that there is an empty database
    path = tmp_path / "export"
    assert export("ledger", "--format", how, "--output", path).exit_code == 0
    if how == "parquet":
        assert pq.read_table(path).num_rows == 0
    else:
        assert len(path.read_text().splitlines()) == (1 if how == "csv" else 0)
