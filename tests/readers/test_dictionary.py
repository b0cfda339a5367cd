"""The dictionary answers what an accountant and a programmer ask of a column, and what was released stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.readers.examples import example
from receiver.readers.promises import broken, columns

if TYPE_CHECKING:
    from sqlalchemy import Engine

PROMISES: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent.parent.parent / "docs" / "promises.json").read_text()
)
COLUMNS = """
SELECT c.relname AS relation, a.attname AS name, c.relkind AS kind, format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull AS required, coalesce(col_description(c.oid, a.attnum), '') AS comment
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'ems'::regnamespace AND c.relkind IN ('r', 'p', 'v')
"""


@pytest.fixture
def described(migrated_engine: Engine) -> list[dict[str, Any]]:
    with migrated_engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(COLUMNS)).mappings()]


def named(described: list[dict[str, Any]]) -> list[str]:
    return [f"{column['relation']}.{column['name']}: {column['comment']!r}" for column in described]


def test_a_column_that_may_be_null_says_when(described: list[dict[str, Any]]) -> None:
    silent = [
        column
        for column in described
        if column["kind"] != "v" and not column["required"] and "null" not in column["comment"]
    ]
    assert named(silent) == []


def test_an_amount_says_its_unit(described: list[dict[str, Any]]) -> None:
    silent = [
        column
        for column in described
        if column["type"] == "numeric" and column["name"].endswith("amount") and "major units" not in column["comment"]
    ]
    assert named(silent) == []


@pytest.mark.parametrize("kind", ["date", "time without time zone"])
def test_a_time_says_its_zone(described: list[dict[str, Any]], kind: str) -> None:
    silent = [column for column in described if column["type"] == kind and " zone" not in column["comment"]]
    assert named(silent) == []


def test_an_instant_names_no_zone_that_psql_does_not_show(described: list[dict[str, Any]]) -> None:
    wrong = [
        column for column in described if column["type"] == "timestamp with time zone" and "in UTC" in column["comment"]
    ]
    assert named(wrong) == []


def test_a_column_is_explained_by_itself(described: list[dict[str, Any]]) -> None:
    """``\\d+`` shows one column of many, so no comment leans on the one before."""
    leaning = [
        column
        for column in described
        if column["comment"].startswith("The same") or "in the same cases" in column["comment"]
    ]
    assert named(leaning) == []


def test_a_currency_and_a_country_say_by_which_standard(described: list[dict[str, Any]]) -> None:
    silent = [
        column
        for column in described
        if column["name"].endswith(("currency", "country")) and "ISO" not in column["comment"]
    ]
    assert named(silent) == []


def test_a_column_has_an_example(described: list[dict[str, Any]]) -> None:
    without = [column for column in described if not example(column["relation"], column["name"], column["type"])]
    assert named(without) == [], "add one to receiver/readers/examples.py"


def test_an_example_is_a_value_the_comment_names(described: list[dict[str, Any]]) -> None:
    names = ("kind", "state", "receipt_state", "vat_source", "source")
    listed = [column for column in described if column["name"] in names]
    other = [
        column for column in listed if example(column["relation"], column["name"], "text") not in column["comment"]
    ]
    assert len(listed) > len(names)
    assert named(other) == []


def test_released_columns_still_exist(migrated_engine: Engine) -> None:
    with migrated_engine.connect() as connection:
        assert broken(PROMISES, columns(connection)) == []


RELEASED = {
    "ems.ledger": {"merchant": "text", "vat_amount": "numeric", "updated_at": "timestamp with time zone not null"}
}


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ({"ems.ledger": {**RELEASED["ems.ledger"], "new": "text"}, "ems.new": {}}, []),
        ({"ems.ledger": {**RELEASED["ems.ledger"], "merchant": "text not null"}}, []),
        ({}, ["ems.ledger was removed"]),
        ({"ems.ledger": {**RELEASED["ems.ledger"], "vat_amount": "text"}}, ["vat_amount was numeric and is text"]),
        ({"ems.ledger": {"merchant": "text", "vat_amount": "numeric"}}, ["updated_at was removed"]),
        (
            {"ems.ledger": {**RELEASED["ems.ledger"], "updated_at": "timestamp with time zone"}},
            ["updated_at was timestamp with time zone not null"],
        ),
    ],
    ids=["more columns", "stricter", "no table", "another type", "no column", "null where there was none"],
)
def test_removed_columns_are_named(present: dict[str, dict[str, str]], found: list[str]) -> None:
    problems_found = broken(RELEASED, present)
    assert len(problems_found) == len(found)
    assert all(words in line for words, line in zip(found, problems_found, strict=True))
