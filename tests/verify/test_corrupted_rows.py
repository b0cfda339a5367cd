"""A hundred rows of every table, a random column of each changed: all are found, and no other is."""

from __future__ import annotations

import random
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.events.kinds import KIND_OF
from receiver.json_rows import table_of
from receiver.records.models.feed import LoggedEvent
from receiver.records.tables import FOLDED, TRANSACTION_COLUMNS, TRANSACTIONS
from tests.support.stories import sent
from tests.support.verifying import contents, found, rebuilt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Table

    from tests.conftest import Acme

SUBJECTS = 110
CORRUPTED = 100
SEED = 14
OTHER_VALUES: dict[type, str] = {
    bool: "NOT coalesce({0}, false)",
    int: "coalesce({0}, 0) + 1",
    Decimal: "coalesce({0}, 0) + 1",
    str: "coalesce({0}, '') || 'x'",
    datetime: "coalesce({0}, now()) + interval '1 hour'",
    date: "coalesce({0}, '2026-01-01') + 1",
    time: "coalesce({0}, '12:00') + interval '1 minute'",
    list: "array_append(coalesce({0}, '{{}}'), 'x')",
    bytes: "sha256({0})",
    object: "{0} || '{{\"organization_number\": 1}}'",
}
"""Another value than the column has, by its type."""
OTHER_STATE = "CASE state WHEN 'cleared' THEN 'invoiced' ELSE 'cleared' END"
OF_EVENTS = (
    "payload",
    "fingerprint",
    "card_holder_reference_id",
    "transaction_id",
    "source",
    "occurred_at",
)


ORIGINALS = "SELECT * FROM ems.events WHERE type <> 'receiver.changed' ORDER BY position"


def stock(acme: Acme, subjects: int) -> None:
    """Have every event of so many subjects processed."""
    for number in range(subjects):
        for event in KIND_OF:
            acme.deliver_ok(*sent(event, 1, f"subject-{number:03}"))
    acme.process()


def corrupt(acme: Acme, table: Table, key: Sequence[str], columns: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Change a random column in each of a hundred rows; return the column by the key of the row."""
    chance = random.Random(f"{SEED} {table.fullname}")  # noqa: S311 - the same each time
    rows = acme.rows(f"SELECT {', '.join(key)} FROM {table.fullname} ORDER BY {', '.join(key)}")  # noqa: S608
    changed = {}
    with acme.engine.begin() as connection:
        for row in chance.sample(rows, CORRUPTED):
            name = chance.choice(columns)
            value = OTHER_STATE if name == "state" else OTHER_VALUES[table.columns[name].type.python_type].format(name)
            same = " AND ".join(f"{each} = :{each}" for each in key)
            connection.execute(text(f"UPDATE {table.fullname} SET {name} = {value} WHERE {same}"), row)  # noqa: S608
            changed[tuple(str(row[each]) for each in key)] = name
    return changed


def found_columns(acme: Acme, table: str, key: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Return the columns that differ, by the key of the row."""
    return {
        tuple(str(each.key[name]) for name in key): ", ".join(each.columns) or each.problem
        for each in found(acme)
        if each.table == table
    }


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_corrupted_rows_of_every_table_are_found(acme: Acme) -> None:
    stock(acme, SUBJECTS)
    before = contents(acme)
    for table in FOLDED.values():
        key = [name for name in table.key if name != "url_sha256"]
        columns = TRANSACTION_COLUMNS if table is TRANSACTIONS else table.folded
        left_out = {*table.key, *({"url"} if "url_sha256" in table.key else ())}  # with another key it is another row
        changed = corrupt(acme, table.table, key, [name for name in columns if name not in left_out])
        assert found_columns(acme, table.name, key) == changed
        rebuilt(acme)
        assert contents(acme) == before
        assert found(acme) == []


@pytest.mark.long
def test_a_hundred_corrupted_events_are_found(acme: Acme) -> None:
    stock(acme, 1 + CORRUPTED // len(KIND_OF))
    before = contents(acme)
    events = acme.rows(ORIGINALS)
    changed = corrupt(acme, table_of(LoggedEvent), ["position"], OF_EVENTS)
    assert found_columns(acme, "ems.events", ["position"]) == changed
    rebuilt(acme)
    assert contents(acme) == before
    assert acme.rows(ORIGINALS) == events
